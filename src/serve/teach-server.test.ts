/** The server of the page to teach with: which files it gives, to whom, and with which headers. In a browser: test/system/teach.test.ts. */

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";

import { ask, refusesTheHostile } from "../../test/support/hostile-requests.js";
import type { RunningServer } from "./route-server.js";
import { startTeachServer } from "./teach-server.js";

let server: RunningServer;
before(async () => {
  server = await startTeachServer({ host: "127.0.0.1", port: 0, names: [] });
});
after(() => server.close());

suite("the server of the page to teach with", () => {
  refusesTheHostile(() => server, {
    routes: ["/", "/page.js", "/riffle/dist/src/browser/index.js"],
    answers: "/",
    secret: /Teach a network|element\(/,
    assets: ["/page.css", "/page.js"],
  });

  test("gives the page, its modules and every file that they import, each with its type", async () => {
    const types: Record<string, RegExp> = { css: /^text\/css/, js: /^text\/javascript/ };
    const seen = new Set<string>();
    const waiting = ["/"];
    for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
      if (seen.has(path)) continue;
      seen.add(path);
      const { status, headers, text } = await ask(server, path);
      assert.equal(status, 200, path);
      assert.match(headers["content-type"] ?? "", types[path.split(".").at(-1) ?? ""] ?? /^text\/html/, path);
      const named =
        /(?:\bfrom|^import|\bimport\() ?"(\.[^"]+)"|(?:href|src)="([\w.]+)"|URL\("(\.[^"]+\.js)", import/gm;
      for (const [, a, b, c] of text.matchAll(named))
        waiting.push(new URL(a ?? b ?? c ?? "", `http://x${path}`).pathname);
    }
    for (const path of ["/page.js", "/sections.css", "/riffle.js", "/riffle/dist/src/core/error.js"])
      assert.ok(seen.has(path), path);
    assert.equal((await ask(server, "/riffle/dist/src/cli/main.js")).status, 404);
    assert.equal((await ask(server, "/README.md")).status, 404);
    assert.equal((await ask(server, "/riffle/package.json")).status, 404);
  });

  test("isolates the page, so that threads may share memory, and lets none but its workers compile WebAssembly", async () => {
    for (const path of ["/", "/riffle/dist/src/browser/index.js"]) {
      const { headers } = await ask(server, path);
      assert.equal(headers["cross-origin-opener-policy"], "same-origin");
      assert.equal(headers["cross-origin-embedder-policy"], "require-corp");
      assert.match(headers["permissions-policy"]?.toString() ?? "", /camera=\(self\), microphone=\(\)/);
      const policy = headers["content-security-policy"]?.toString() ?? "";
      assert.equal(policy.includes("'wasm-unsafe-eval'"), path !== "/", path);
      assert.match(policy, /default-src 'none'.*connect-src 'self'.*form-action 'none'/);
    }
  });
});
