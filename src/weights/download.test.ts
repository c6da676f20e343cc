import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, suite, test } from "node:test";

import { CheckpointError, ResourceError, RiffleError, UsageError } from "../core/error.js";
import { download, type Patience, type Wanted } from "./download.js";
import { PartialFile } from "./partial-file.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-download-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const content = Buffer.from(Array.from({ length: 100_000 }, (_, i) => (i * i) % 251));
const digest = createHash("sha256").update(content).digest("hex");
const HALF = 50_000;
const impatient: Patience = { silence: 300, tries: 3, pause: 5 };

/** What a server answers to the request that is its n-th. */
type Answer = (response: ServerResponse, request: IncomingMessage, n: number) => void;

const servers: Server[] = [];
after(() => servers.forEach((server) => server.closeAllConnections()));
const seen: { url: string; range: string | undefined; ifRange: string | undefined }[] = [];
beforeEach(() => {
  seen.length = 0;
  breakOff = () => undefined;
});

async function serve(answer: Answer): Promise<string> {
  const server = createServer((request, response) => {
    const { range, "if-range": ifRange } = request.headers;
    seen.push({ url: request.url ?? "", range, ifRange: ifRange?.toString() });
    answer(response, request, seen.length);
  });
  servers.push(server);
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  server.unref();
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/weights.pth`;
}

let made = 0;
function wantedFrom(url: string, sha256 = digest.slice(0, 10)): Wanted {
  return { url, path: join(folder, `${made++}`, "weights.pth"), sha256, bytes: content.length };
}

/** A server as it should be: an ETag, and the rest of the file to those who ask for it. */
function whole(response: ServerResponse, { headers: { range } }: IncomingMessage): void {
  const from = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
  const rest = content.subarray(from);
  const more = from > 0 ? { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` } : {};
  response.writeHead(from > 0 ? 206 : 200, { etag: '"a"', "content-length": rest.length, ...more });
  response.end(rest);
}

/** Half of it, and when that has arrived the connection is gone. */
function half(response: ServerResponse): void {
  response.writeHead(200, { etag: '"a"', "content-length": content.length });
  response.write(content.subarray(0, HALF));
  breakOff = () => response.destroy();
}

let breakOff = (): void => undefined;

function fetchIt(
  wanted: Wanted,
  patience = impatient,
  signal?: AbortSignal,
  watch: (done: number, total: number) => void = () => undefined,
): ReturnType<typeof download> {
  const onProgress = (done: number, total: number): void => {
    watch(done, total);
    if (done === HALF) breakOff();
  };
  return download(wanted, onProgress, signal, patience);
}

function filesOf({ path }: Wanted): string[] {
  return readdirSync(join(path, "..")).sort();
}

async function refusal<E extends RiffleError>(
  kind: new (...given: never[]) => E,
  work: Promise<unknown>,
): Promise<E["problem"]> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof kind, `${kind.name} expected, ${String(error)} found`);
  const { problem } = error;
  for (const part of ["what", "where", "expected", "found", "safe", "hint"] as const)
    assert.ok(problem[part], part);
  return problem;
}

suite("a file over HTTP", () => {
  test("appears whole, with nothing beside it, and says how far it is", async () => {
    const wanted = wantedFrom(await serve(whole));
    const progress: [number, number][] = [];
    const { bytes, sha256 } = await fetchIt(wanted, impatient, undefined, (...at) => progress.push(at));
    assert.deepEqual([bytes, sha256], [content.length, digest]);
    assert.deepEqual(readFileSync(wanted.path), content);
    assert.deepEqual(filesOf(wanted), ["weights.pth"]);
    assert.deepEqual(progress.at(-1), [content.length, content.length]);
  });

  test("is gone on with where the connection broke off, if the server has the same file", async () => {
    const wanted = wantedFrom(
      await serve((response, request, n) => (n === 1 ? half(response) : whole(response, request))),
    );
    await fetchIt(wanted);
    assert.deepEqual(readFileSync(wanted.path), content);
    assert.deepEqual([seen[1]?.range, seen[1]?.ifRange], [`bytes=${HALF}-`, '"a"']);
  });

  test("is gone on with by the next command", async () => {
    let isBroken = true;
    const url = await serve((response, request) => (isBroken ? half(response) : whole(response, request)));
    const wanted = wantedFrom(url);
    const { found, safe } = await refusal(ResourceError, fetchIt(wanted, { ...impatient, tries: 1 }));
    assert.match(found ?? "", /other side closed|ended after|terminated/);
    assert.match(safe ?? "", new RegExp(`^${HALF} bytes of it are kept`));
    assert.ok(!existsSync(wanted.path));
    isBroken = false;
    await fetchIt(wanted);
    assert.equal(seen.at(-1)?.range, `bytes=${HALF}-`);
    assert.deepEqual(filesOf(wanted), ["weights.pth"]);
  });

  test("is fetched anew where the server ignores that only the rest is wanted", async () => {
    const wanted = wantedFrom(
      await serve((response, request, n) => {
        delete request.headers.range;
        if (n === 1) half(response);
        else whole(response, request);
      }),
    );
    await fetchIt(wanted);
    assert.equal(seen[1]?.range, `bytes=${HALF}-`);
    assert.deepEqual(readFileSync(wanted.path), content);
  });

  test("is fetched anew where the server goes on elsewhere than asked", async () => {
    const wanted = wantedFrom(
      await serve((response, request, n) => {
        if (n === 1) return half(response);
        if (n > 2) return whole(response, request);
        response.writeHead(206, { "content-range": `bytes 10-99999/100000`, "content-length": 99_990 });
        response.end(content.subarray(10));
      }),
    );
    await fetchIt(wanted);
    assert.deepEqual(readFileSync(wanted.path), content);
    assert.equal(seen[2]?.range, undefined);
  });

  test("is fetched anew where what an earlier command left is of something else", async () => {
    const wanted = wantedFrom(await serve(whole));
    const partial = await PartialFile.begin(wanted.path);
    await partial.restart({ url: wanted.url, validator: '"a"', total: content.length });
    await partial.write(Buffer.alloc(HALF));
    await partial.keep();
    await fetchIt(wanted);
    assert.deepEqual(
      seen.map(({ range }) => range),
      [`bytes=${HALF}-`, undefined],
    );
    assert.deepEqual(readFileSync(wanted.path), content);
  });

  test("is only given its name where a kill came between its last byte and that", async () => {
    const wanted = wantedFrom(await serve(whole));
    const partial = await PartialFile.begin(wanted.path);
    await partial.restart({ url: wanted.url, validator: '"a"', total: content.length });
    await partial.write(content);
    await partial.keep();
    await fetchIt(wanted);
    assert.equal(seen.length, 0);
    assert.deepEqual(filesOf(wanted), ["weights.pth"]);
  });

  test("is never taken where other bytes come, and nothing of them stays", async () => {
    const wanted = wantedFrom(
      await serve((response) => {
        response.writeHead(200, { etag: '"a"' });
        response.end(Buffer.alloc(content.length));
      }),
    );
    const { expected, found } = await refusal(CheckpointError, fetchIt(wanted));
    assert.match(expected ?? "", new RegExp(digest.slice(0, 10)));
    assert.match(found ?? "", /^[0-9a-f]{64}, of 100000 bytes$/);
    assert.deepEqual(filesOf(wanted), []);
    assert.equal(seen.length, 1);
  });

  test("is refused where the server says that it is shorter than it is", async () => {
    const wanted = wantedFrom(
      await serve((response) => {
        const head = `HTTP/1.1 200 OK\r\netag: "a"\r\ncontent-length: ${HALF}\r\nconnection: close\r\n\r\n`;
        response.socket?.end(Buffer.concat([Buffer.from(head), content]));
      }),
    );
    await assert.rejects(fetchIt(wanted), RiffleError);
    assert.ok(!existsSync(wanted.path));
  });

  test("is refused where the server says that it is longer than it is, and goes on without end", async () => {
    const wanted = wantedFrom(
      await serve((response, { headers: { range } }) => {
        if (range !== undefined) return void response.writeHead(416).end();
        response.writeHead(200, { etag: '"a"', "content-length": content.length + 1 });
        response.write(content, () => setTimeout(() => response.destroy(), 20));
      }),
    );
    await refusal(ResourceError, fetchIt(wanted));
    assert.equal(seen.length, impatient.tries);
    assert.ok(!existsSync(wanted.path));
    const endless = wantedFrom(
      await serve((response) => {
        const more = (): void =>
          void (response.write(content) ? setImmediate(more) : response.once("drain", more));
        more();
      }),
    );
    const { found } = await refusal(ResourceError, fetchIt(endless));
    assert.match(found ?? "", /the server sends more/);
    assert.deepEqual(
      filesOf(endless).filter((name) => name === "weights.pth"),
      [],
    );
    const huge = wantedFrom(
      await serve((response) => response.writeHead(200, { "content-length": 1e12 }).flushHeaders()),
    );
    assert.match((await refusal(ResourceError, fetchIt(huge))).found ?? "", /1000000000000 bytes/);
  });

  for (const [status, connections] of [
    [404, 1],
    [403, 1],
    [500, 3],
    [503, 3],
  ] as const) {
    test(`is told where the server answers ${status}, after ${connections} tries`, async () => {
      const wanted = wantedFrom(await serve((response) => response.writeHead(status).end("no")));
      const { found, hint } = await refusal(ResourceError, fetchIt(wanted));
      assert.equal(found, `the server answered ${status}`);
      assert.match(hint ?? "", /curl/);
      assert.equal(seen.length, connections);
      assert.deepEqual(filesOf(wanted), []);
    });
  }

  test("comes after a server in trouble has recovered", async () => {
    const wanted = wantedFrom(
      await serve((response, request, n) =>
        n < 3 ? response.writeHead(502).end() : whole(response, request),
      ),
    );
    await fetchIt(wanted);
    assert.equal(seen.length, 3);
  });

  test("is fetched from where the server sends on to, not in circles", async () => {
    const to = await serve(whole);
    const wanted = wantedFrom(await serve((response) => response.writeHead(302, { location: to }).end()));
    await fetchIt(wanted);
    assert.ok(existsSync(wanted.path));
    const circle = wantedFrom(
      await serve((response) => response.writeHead(302, { location: "/weights.pth" }).end()),
    );
    assert.match((await refusal(ResourceError, fetchIt(circle))).found ?? "", /sent on more than 5 times/);
    const file = wantedFrom(
      await serve((response) => response.writeHead(302, { location: "file:///etc/hostname" }).end()),
    );
    assert.match((await refusal(ResourceError, fetchIt(file))).found ?? "", /not followed/);
  });

  test("is told where the server falls silent, before it answers or between bytes", async () => {
    for (const answer of [
      () => undefined,
      (response: ServerResponse) => response.writeHead(200, { "content-length": content.length }).write("a"),
    ]) {
      const wanted = wantedFrom(await serve(answer));
      const { found } = await refusal(ResourceError, fetchIt(wanted, { ...impatient, tries: 1 }));
      assert.equal(found, "the server fell silent");
    }
  });

  test("is told at once where nobody listens", async () => {
    const { found } = await refusal(ResourceError, fetchIt(wantedFrom("http://127.0.0.1:1/weights.pth")));
    assert.match(found ?? "", /ECONNREFUSED/);
  });

  test("stops on request and keeps what has come", async () => {
    const stop = new AbortController();
    const wanted = wantedFrom(
      await serve((response) => {
        response.writeHead(200, { etag: '"a"', "content-length": content.length });
        response.write(content.subarray(0, HALF));
      }),
    );
    const fetched = fetchIt(wanted, impatient, stop.signal, () => stop.abort());
    await assert.rejects(fetched, (error) => error === stop.signal.reason);
    assert.deepEqual(filesOf(wanted), [".fetching-weights.pth", ".fetching-weights.pth.json"]);
  });

  test("is fetched by two at once, each for itself", async () => {
    const wanted = wantedFrom(
      await serve((response) => {
        response.writeHead(200, { etag: '"a"', "content-length": content.length });
        response.write(content.subarray(0, HALF));
        setTimeout(() => response.end(content.subarray(HALF)), 50);
      }),
    );
    await Promise.all([fetchIt(wanted), fetchIt(wanted)]);
    assert.deepEqual(readFileSync(wanted.path), content);
    assert.deepEqual(filesOf(wanted), ["weights.pth"]);
  });

  test("is told where the folder cannot be made", async () => {
    const wanted = wantedFrom(await serve(whole));
    mkdirSync(join(wanted.path, "..", ".."), { recursive: true });
    writeFileSync(join(wanted.path, ".."), "");
    await assert.rejects(fetchIt(wanted), ResourceError);
  });

  test("can be fetched by hand as the hint says", async (context) => {
    const curl = spawnSync("curl", ["--version"]);
    if (curl.error !== undefined) return context.skip("no curl here");
    let isBroken = true;
    const wanted = wantedFrom(
      await serve((response, request) =>
        isBroken ? response.writeHead(404).end() : whole(response, request),
      ),
    );
    const { hint = "" } = await refusal(ResourceError, fetchIt(wanted));
    isBroken = false;
    const command = hint.slice(hint.indexOf("curl"));
    const { spawn } = await import("node:child_process");
    const code = await new Promise((ended) =>
      spawn("sh", ["-c", command], { stdio: "ignore" }).on("exit", ended),
    );
    assert.equal(code, 0);
    assert.deepEqual(readFileSync(wanted.path), content);
  });
});

suite("a proxy", () => {
  const names = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"] as const;
  beforeEach(() => names.forEach((name) => delete process.env[name]));
  after(() => names.forEach((name) => delete process.env[name]));

  async function proxy(
    answer: "tunnel" | 407,
  ): Promise<{ readonly address: string; readonly tunnels: string[] }> {
    const tunnels: string[] = [];
    const server = createServer().on("connect", (request: IncomingMessage, socket) => {
      tunnels.push(`${request.url} ${request.headers["proxy-authorization"] ?? ""}`.trim());
      if (answer === 407) {
        socket.end("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
        return;
      }
      const [host, port] = (request.url ?? "").split(":");
      const target = connect(Number(port), host, () => {
        socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
        target.pipe(socket).pipe(target);
      });
      for (const end of [socket, target]) end.on("error", () => undefined);
    });
    servers.push(server);
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    server.unref();
    return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, tunnels };
  }

  test("of the environment is used, with its password, which no message shows", async () => {
    const wanted = wantedFrom(await serve(whole));
    const { address, tunnels } = await proxy("tunnel");
    process.env["HTTP_PROXY"] = `http://me:secret@${address}`;
    await fetchIt(wanted);
    const login = Buffer.from("me:secret").toString("base64");
    assert.deepEqual(tunnels, [`${new URL(wanted.url).host} Basic ${login}`]);
    const locked = await proxy(407);
    process.env["HTTP_PROXY"] = `http://me:secret@${locked.address}`;
    const problem = await refusal(ResourceError, fetchIt(wantedFrom(wanted.url)));
    assert.match(problem.found ?? "", /407/);
    assert.match(problem.found ?? "", new RegExp(`through the proxy http://${locked.address}`));
    assert.doesNotMatch(JSON.stringify(problem), /secret/);
  });

  test("is not used for the hosts of NO_PROXY", async () => {
    const url = await serve(whole);
    const { address, tunnels } = await proxy("tunnel");
    process.env["ALL_PROXY"] = address;
    for (const direct of ["127.0.0.1", "example.com, 127.0.0.1", "*", `127.0.0.1:${new URL(url).port}`]) {
      process.env["NO_PROXY"] = direct;
      await fetchIt(wantedFrom(url));
      assert.deepEqual(tunnels, [], direct);
    }
    for (const other of ["7.0.0.1", "127.0.0.1:1", ""]) {
      process.env["NO_PROXY"] = other;
      await fetchIt(wantedFrom(url));
      assert.equal(tunnels.splice(0).length, 1, other);
    }
  });

  test("of another kind is refused", async () => {
    process.env["http_proxy"] = "socks5://me:secret@127.0.0.1:9";
    const problem = await refusal(UsageError, fetchIt(wantedFrom("http://127.0.0.1:1/weights.pth")));
    assert.equal(problem.found, "socks5://127.0.0.1:9");
  });
});
