/**
 * Requests that no server of ours answers, each with why: another Host, a page of another site, a path of no table, slow and
 * endless clients. Every server's tests send all of them.
 */

import assert from "node:assert/strict";
import { type IncomingHttpHeaders, request } from "node:http";
import { connect, type Socket } from "node:net";
import { test } from "node:test";

import type { RunningServer } from "../../src/serve/route-server.js";

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

export interface Asked {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: Uint8Array;
}

type Addressed = Pick<RunningServer, "port">;

export function ask(
  { port }: Addressed,
  path: string,
  { method, headers = {}, body }: Asked = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asking = request(
      {
        host: "127.0.0.1",
        port,
        path,
        method: method ?? (body === undefined ? "GET" : "POST"),
        headers,
        agent: false,
      },
      (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
        response.once("end", () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text }),
        );
        response.once("error", reject);
      },
    );
    asking.once("error", reject);
    asking.end(body);
  });
}

/** Sends text as it stands, and resolves to all that comes back until the server closes, or the test does. */
export function raw({ port }: Addressed, text: string, then?: (socket: Socket) => void): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    let back = "";
    socket.setEncoding("latin1").on("data", (chunk: string) => (back += chunk));
    socket.on("error", () => undefined);
    socket.once("close", () => resolve(back));
    socket.write(text, "latin1", () => then?.(socket));
  });
}

/** What is asked of a server here. */
export interface Attacked {
  /** Its paths, and one that is none, with the method of each that is no GET. */
  readonly routes: readonly (string | readonly [path: string, method: string])[];
  /** A path that answers 200 to a GET. */
  readonly answers: string;
  /** What stands in its answers and is nobody else's. */
  readonly secret: RegExp;
  /** Scripts and styles of its page. */
  readonly assets: readonly string[];
}

/** Tests, one for each kind of request. */
export function refusesTheHostile(
  start: () => RunningServer | Promise<RunningServer>,
  { routes, answers, secret, assets }: Attacked,
): void {
  const all = routes.map((route) => (typeof route === "string" ? ([route, "GET"] as const) : route));

  test("by another Host gets nothing, on every route", async () => {
    const server = await start();
    const { port } = server;
    const hosts = [
      "Host: evil.example",
      `Host: evil.example:${port}`,
      `Host: localhost.evil.com:${port}`,
      `Host: 127.0.0.1.evil.com:${port}`,
      `Host: 127.0.0.1:${port}.evil.com`,
      "Host:",
      "Host: 127.0.0.1",
      "Host: localhost",
      `Host: 127.0.0.1:${port + 1}`,
      `Host: 127.0.0.1:0${port}`,
      `Host: LOCALHOST.:${port}`,
      `Host: 127.1:${port}`,
      `Host: 0.0.0.0:${port}`,
      `Host: 2130706433:${port}`,
      `Host: [::ffff:127.0.0.1]:${port}`,
      `Host: user@127.0.0.1:${port}`,
      `Host: 127.0.0.1:${port}, evil.example`,
      `Host: evil.example\r\nX-Forwarded-Host: 127.0.0.1:${port}`,
      `Host: 127.0.0.1:${port}\r\nHost: evil.example`,
      `X-Nothing: here`,
    ];
    for (const [route, method] of all) {
      const line = `${method} ${route} HTTP/1.1`;
      const backs = await Promise.all(
        hosts.map((host) => raw(server, `${line}\r\n${host}\r\nConnection: close\r\n\r\n`)),
      );
      for (const [i, back] of backs.entries()) {
        assert.match(back, /^HTTP\/1\.1 (421|400) /, `${route} ${hosts[i]}`);
        assert.doesNotMatch(back, secret);
      }
      const absolute = `${method} http://evil.example${route} HTTP/1.1\r\nHost: 127.0.0.1:${port}`;
      assert.match(await raw(server, `${absolute}\r\nConnection: close\r\n\r\n`), /^HTTP\/1\.1 421 /);
      assert.match(await raw(server, `${method} ${route} HTTP/1.0\r\n\r\n`), /^HTTP\/1\.1 421 /);
    }
    for (const host of [`localhost:${port}`, `LocalHost:${port}`, `[::1]:${port}`, `127.0.0.1:${port}`]) {
      assert.equal((await ask(server, answers, { headers: { Host: host } })).status, 200, host);
    }
  });

  test("by a page of another site gets nothing", async () => {
    const server = await start();
    const foreign: Record<string, string>[] = [
      { Origin: "http://evil.example" },
      { Origin: "null" },
      { Origin: `https://127.0.0.1:${server.port}` },
      { Origin: `http://127.0.0.1:${server.port + 1}` },
      { "Sec-Fetch-Site": "cross-site" },
      { "Sec-Fetch-Site": "same-site" },
      { "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", Accept: "text/event-stream" },
      { Origin: "http://evil.example", Upgrade: "websocket", Connection: "Upgrade" },
    ];
    for (const headers of foreign) {
      for (const [route, method] of all) {
        const { status, text } = await ask(server, route, { method, headers });
        assert.equal(status, 403, `${route} ${JSON.stringify(headers)}`);
        assert.doesNotMatch(text, secret);
      }
      const form = { ...headers, "Content-Type": "text/plain" };
      assert.equal((await ask(server, answers, { headers: form, body: Buffer.from("a=b") })).status, 403);
    }
    const own = { Origin: `http://127.0.0.1:${server.port}`, "Sec-Fetch-Site": "same-origin" };
    const { status, headers } = await ask(server, answers, { headers: own });
    assert.equal(status, 200);
    for (const name of Object.keys(headers)) assert.doesNotMatch(name, /^access-control/);
    const preflight = await ask(server, answers, { method: "OPTIONS", headers: own });
    assert.equal(preflight.status, 405);
    assert.equal(preflight.headers["access-control-allow-origin"], undefined);
  });

  test("by a path that is not one of the table gets 404", async () => {
    const server = await start();
    const steps = [
      "..",
      "%2e%2e",
      ".%2e",
      "%2e.",
      "..%2f",
      "..%5c",
      "..\\",
      "....//",
      "%00",
      "%252e%252e",
      "..;",
      "~",
      "%c0%ae",
    ];
    const files = ["etc/passwd", "package.json", "events.jsonl", "C:\\windows\\win.ini"];
    const [asset = "/"] = assets;
    const paths = [
      ...steps.flatMap((step) => [
        ...files.flatMap((file) => [
          `/${step}/${file}`,
          `/${step}/${step}/${step}/${file}`,
          `/${step}${file}`,
        ]),
        `${asset}/${step}/server.js`,
        `${answers}/${step}`,
        `//${step}/`,
        `/file:///${step}/etc/passwd`,
      ]),
      ...["//", "//etc/passwd", `${asset}?x=1`, `${asset}?raw??`, `${asset.toUpperCase()}`, `${asset}/`],
      ...["/favicon.ico", "/__proto__", "/constructor", "/toString", "/.git/config", "/%70age.js"],
      `/${"a".repeat(8000)}`,
    ];
    assert.ok(paths.length >= 200, `${paths.length}`);
    for (const path of paths) {
      const { status, text } = await ask(server, path);
      assert.equal(status, 404, path);
      assert.doesNotMatch(text, /root:|riffle-vision/);
    }
  });

  test("answers with headers that forbid the browser what its page does not need", async () => {
    const server = await start();
    for (const path of [answers, "/", ...assets, "/none"]) {
      const { headers } = await ask(server, path);
      const policy = headers["content-security-policy"]?.toString() ?? "";
      assert.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self';/);
      assert.match(policy, /frame-ancestors 'none'; base-uri 'none'; form-action 'none'/);
      assert.doesNotMatch(policy, /unsafe|http|\*/);
      assert.equal(headers["x-content-type-options"], "nosniff");
      assert.equal(headers["referrer-policy"], "no-referrer");
      assert.equal(headers["cross-origin-resource-policy"], "same-origin");
      assert.equal(headers["cache-control"], "no-store");
      for (const name of Object.keys(headers)) assert.doesNotMatch(name, /^access-control/);
    }
  });
}

/** What is no HTTP, or takes too long to be some, is answered and closed; `start` gives it 150 ms. */
export function endsTheSlow(start: () => RunningServer | Promise<RunningServer>, answers: string): void {
  test("slow headers, silence and endless heads are ended, and others are answered meanwhile", async () => {
    const server = await start();
    const head = `GET ${answers} HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\n`;
    const slow = Array.from({ length: 20 }, () => raw(server, head));
    const silent = raw(server, "");
    assert.equal((await ask(server, answers)).status, 200);
    for (const back of await Promise.all(slow)) assert.match(back, /^HTTP\/1\.1 408 /);
    assert.doesNotMatch(await silent, /200/);
    const long = await raw(server, `${head}X: ${"y".repeat(20_000)}\r\n\r\n`);
    assert.match(long, /^HTTP\/1\.1 431 /);
    assert.match(await raw(server, "hello\r\n\r\n"), /^HTTP\/1\.1 400 /);
    const huge = `${head}Content-Length: 1000000000\r\n\r\nsome`;
    const back = raw(server, huge, (socket) =>
      socket.once("data", () => setTimeout(() => socket.destroy(), 10)),
    );
    assert.match(await back, /^HTTP\/1\.1 \d+ [^]*Connection: close/i);
    assert.equal((await ask(server, answers)).status, 200);
  });
}
