import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, createServer as createSocketServer, type Server as SocketServer } from "node:net";
import { after, suite, test } from "node:test";

import { DataError, UsageError } from "../core/error.js";
import { fetchPicture, isAddress } from "./fetch-picture.js";

const limits = { bytes: 10_000, silence: 300, time: 2000 };
const picture = Buffer.alloc(5000, "picture");

process.env["NO_PROXY"] = "*";
const servers: (Server | SocketServer)[] = [];
after(() => {
  for (const server of servers) {
    server.close();
    if ("closeAllConnections" in server) server.closeAllConnections();
  }
});

/** The address of a server of one answer. */
async function serving(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<string> {
  const server = createServer(answer);
  servers.push(server);
  return listening(server);
}

/** The same of one that says bytes as they stand, and no more. */
async function saying(bytes: string): Promise<string> {
  const server = createSocketServer((socket) => {
    socket.on("error", () => undefined).end(bytes);
  });
  servers.push(server);
  return listening(server);
}

async function listening(server: Server | SocketServer): Promise<string> {
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/picture.jpg`;
}

async function refused(url: string, words: RegExp): Promise<void> {
  await assert.rejects(fetchPicture(url, limits), (error) => {
    assert.ok(error instanceof DataError, String(error));
    assert.match(error.problem.what, words);
    return true;
  });
}

suite("a picture at an address", () => {
  test("is told from a path", () => {
    for (const address of ["http://a/b.jpg", "HTTPS://a/b.jpg"]) assert.ok(isAddress(address));
    for (const path of ["http:/a", "photo.jpg", "file:///etc/passwd", "ftp://a/b", "./http://a"])
      assert.ok(!isAddress(path), path);
  });

  test("comes whole, as an image, as bytes of no known kind, and in pieces without a length", async () => {
    for (const type of ["image/jpeg", "application/octet-stream", undefined]) {
      const url = await serving((_, response) => {
        if (type !== undefined) response.setHeader("content-type", type);
        response.write(picture.subarray(0, 10));
        response.end(picture.subarray(10));
      });
      assert.deepEqual(Buffer.from(await fetchPicture(url, limits)), picture);
    }
  });

  test("is asked for as it is, once", async () => {
    const asked: [string | undefined, string | undefined][] = [];
    const url = await serving(({ headers, method }, response) => {
      asked.push([method, headers["accept-encoding"]]);
      response.end(picture);
    });
    await fetchPicture(url, limits);
    assert.deepEqual(asked, [["GET", "identity"]]);
  });

  test("is behind a redirect, to another machine too, but to nothing else than HTTP and not for ever", async () => {
    const there = await serving((_, response) => response.end(picture));
    const sentTo = (to: string): Promise<string> =>
      serving((_, response) => response.writeHead(302, { location: to }).end());
    assert.equal((await fetchPicture(await sentTo(there), limits)).length, picture.length);
    await refused(await sentTo("file:///etc/passwd"), /^the server sent on to file:.*not followed$/);
    await refused(await sentTo("ftp://127.0.0.1/a"), /not followed$/);
    await refused(await sentTo("/again"), /sent on more than 5 times/);
  });

  for (const [what, head, words] of [
    [
      "says that it is longer than is taken",
      "Content-Length: 20000\r\n",
      /sends 20000 bytes, and at most 10000/,
    ],
    [
      "says that it is longer than it is",
      "Content-Length: 9000\r\n",
      /closed|ended after|does not match content-length/i,
    ],
    [
      "sends a page",
      "Content-Type: text/html; charset=utf-8\r\n",
      /^the server sent text\/html, no picture$/,
    ],
    ["sends it compressed", "Content-Encoding: gzip\r\n", /in the encoding gzip$/],
  ] as const) {
    test(`is refused of a server that ${what}`, async () => {
      const url = await saying(`HTTP/1.1 200 OK\r\nConnection: close\r\n${head}\r\n${picture.toString()}`);
      await refused(url, words);
    });
  }

  test("is refused of a server that says that it is shorter than it is", async () => {
    const url = await saying(
      `HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n${picture.toString()}`,
    );
    const got = await fetchPicture(url, limits).catch((error: unknown) => error);
    // What was announced came, or the connection was found broken: never more than was announced.
    assert.ok(got instanceof DataError || (got instanceof Uint8Array && got.length === 10), String(got));
  });

  test("is refused of a server without it, that speaks no HTTP, that is not there", async () => {
    await refused(await serving((_, response) => response.writeHead(404).end()), /^the server answered 404$/);
    await refused(await saying("SSH-2.0-OpenSSH_9.2\r\n"), /\S/);
    const url = await saying("");
    await new Promise((closed) => servers.at(-1)?.close(closed));
    await refused(url, /ECONNREFUSED/);
    await refused("http://", /^the address is none$/);
  });

  test("takes no more bytes, and no more time, than it may", async () => {
    let sent = 0;
    const endless = await serving((_, response) => {
      const more = (): void => {
        while (!response.destroyed && response.write(picture)) sent += picture.length;
      };
      response.on("drain", more).on("error", () => undefined);
      more();
    });
    await refused(endless, /sends more, and at most 10000 bytes/);
    assert.ok(sent < 50_000_000, `${sent}`);
    const silent = [() => undefined, (_: unknown, response: ServerResponse) => void response.write(picture)];
    await Promise.all(
      silent.map(async (server) => refused(await serving(server), /^the server fell silent$/)),
    );
    const trickling = await serving((_, response) => {
      const timer = setInterval(() => response.write("x"), 50);
      response.on("close", () => clearInterval(timer));
    });
    const began = performance.now();
    await assert.rejects(
      fetchPicture(trickling, { ...limits, time: 400 }),
      /had not sent all of it after 0\.4 s/,
    );
    assert.ok(performance.now() - began < 1500);
  });

  test("goes through the proxy of the environment, and not through one of no use", async (context) => {
    context.after(() => {
      delete process.env["http_proxy"];
      process.env["NO_PROXY"] = "*";
    });
    delete process.env["NO_PROXY"];
    const asked: (string | undefined)[] = [];
    const proxy = createServer();
    proxy.on("connect", (request, socket) => {
      asked.push(request.url);
      socket.end("HTTP/1.1 403 Forbidden\r\n\r\n");
    });
    servers.push(proxy);
    process.env["http_proxy"] = new URL(await listening(proxy)).origin;
    await refused("http://pictures.example/a.jpg", /403|[Pp]roxy/);
    assert.deepEqual(asked, ["pictures.example:80"]);
    process.env["http_proxy"] = "socks5://127.0.0.1:1";
    await assert.rejects(fetchPicture("http://pictures.example/a.jpg", limits), UsageError);
  });

  test("names no password in what is said of it", async () => {
    const url = await serving((_, response) => response.writeHead(404).end());
    const address = url.replace("http://", "http://anna:secret@");
    await assert.rejects(fetchPicture(address, limits), (error) => {
      assert.ok(error instanceof DataError);
      assert.doesNotMatch(JSON.stringify(error.problem), /secret/);
      return true;
    });
  });
});
