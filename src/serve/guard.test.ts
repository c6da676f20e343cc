import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { suite, test } from "node:test";

import { Guard, inUrl, isLoopback } from "./guard.js";

function allows(guard: Guard, host: string, origin?: string): boolean {
  const headers = { host, ...(origin === undefined ? {} : { origin }) };
  try {
    guard.checkSource({ url: "/", headers, rawHeaders: ["Host", host] } as unknown as IncomingMessage);
    return true;
  } catch {
    return false;
  }
}

suite("a guard", () => {
  test("of all addresses takes any address with the port, and no name", () => {
    for (const host of ["0.0.0.0", "::"]) {
      const guard = new Guard({ host, port: 8080, names: [], token: undefined });
      for (const ours of ["10.1.2.3:8080", "192.168.0.7:8080", "[fe80::1]:8080", "localhost:8080"]) {
        assert.ok(allows(guard, ours), ours);
        assert.ok(allows(guard, ours, `http://${ours}`), ours);
      }
      for (const other of ["10.1.2.3", "10.1.2.3:80", "evil.example:8080", "10.1.2.3.evil:8080", "1:8080"]) {
        assert.ok(!allows(guard, other), other);
      }
      assert.ok(!allows(guard, "10.1.2.3:8080", "http://evil.example"));
    }
  });

  test("takes the names that it was told, as a proxy passes them on", () => {
    const names = ["photos.example.org", "Other.example:8443"];
    const guard = new Guard({ host: "127.0.0.1", port: 8080, names, token: undefined });
    for (const ours of ["photos.example.org", "photos.example.org:8080", "other.example:8443"]) {
      assert.ok(allows(guard, ours), ours);
    }
    assert.ok(allows(guard, "photos.example.org", "https://photos.example.org"));
    assert.ok(!allows(guard, "photos.example.org:1"));
    assert.ok(!allows(guard, "x.photos.example.org"));
    assert.ok(!allows(guard, "10.0.0.1:8080"));
  });

  test("of port 80 is asked for without it, too", () => {
    const guard = new Guard({ host: "127.0.0.1", port: 80, names: [], token: undefined });
    assert.ok(allows(guard, "localhost") && allows(guard, "localhost:80"));
    assert.ok(!allows(guard, "localhost:8080"));
  });
});

test("loopback is this machine's own addresses and nothing else", () => {
  for (const own of ["localhost", "127.0.0.1", "127.9.9.9", "::1"]) assert.ok(isLoopback(own), own);
  for (const other of ["0.0.0.0", "::", "10.0.0.1", "127.evil", "::2"]) assert.ok(!isLoopback(other), other);
  assert.equal(inUrl("::1"), "[::1]");
});
