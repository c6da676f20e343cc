/**
 * One `riffle serve` against hundreds of uploads that are damaged, huge, slow or broken off: each is answered with 4xx or
 * forgotten, memory does not grow, and pictures are answered as before. Told to stop under load, it finishes what it accepted.
 */

import assert from "node:assert/strict";
import { Agent, request } from "node:http";
import { connect, type Socket } from "node:net";
import { before, suite, test } from "node:test";

import sharp from "sharp";

import { Draws, streams } from "../../src/core/random.js";
import { predict, type Prediction } from "../../src/inference/predict.js";
import { drawnPictures, oneStepRun } from "../support/one-step-run.js";
import { serve, type Served } from "../support/serve-child.js";
import { scratch } from "../support/tiny-run.js";

const MIB = 2 ** 20;
/** Uploads of each kind in a pass. */
const EACH = 100;
/** From the first pass to the second, which differ by 25; a server that kept the bytes grew by 195 MiB. */
const GROWTH = 80 * MIB;

const folder = scratch();
let run: string;
let pictures: Buffer[];
let expected: Prediction["top"][];
/** Of half a MiB each. */
let large: Buffer;
before(async () => {
  run = await oneStepRun(folder);
  pictures = await drawnPictures(24);
  expected = (await predict(run, pictures, { top: 3 })).map((result) => (result as Prediction).top);
  const draws = new Draws(5, streams.draw, 0, 0);
  const [width, height] = [640, 640];
  const noise = Uint8Array.from({ length: width * height * 3 }, () => draws.below(256));
  large = await sharp(noise, { raw: { width, height, channels: 3 } })
    .jpeg({ quality: 90, chromaSubsampling: "4:4:4" })
    .toBuffer();
  assert.ok(large.length > MIB / 2 && large.length < MIB, `${large.length} bytes`);
});

/** The status of an answer, undefined where there was none. */
function post({ url }: Served, body: Uint8Array, agent?: Agent): Promise<[number, string]> {
  return new Promise((resolve, reject) => {
    const asking = request(`${url}/predict`, { method: "POST", ...(agent ? { agent } : {}) }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.once("end", () => resolve([response.statusCode ?? 0, text]));
    });
    asking.once("error", reject);
    asking.end(body);
  });
}

/** Sends what `send` does on a connection of its own; the status that comes back, undefined where none does. */
function raw({ url }: Served, send: (socket: Socket, head: string) => void): Promise<number | undefined> {
  const { port, host } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), "127.0.0.1");
    let back = "";
    socket.setEncoding("latin1").on("data", (chunk: string) => (back += chunk));
    socket.on("error", () => undefined);
    socket.once("close", () => resolve(back === "" ? undefined : Number(back.slice(9, 12))));
    send(socket, `POST /predict HTTP/1.1\r\nHost: ${host}\r\n`);
  });
}

async function metric({ url }: Served, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(text.split("\n").find((line) => line.startsWith(`${name} `))?.split(" ")[1]); // prettier-ignore
}

const uploads: Readonly<Record<string, (server: Served, i: number) => Promise<number | undefined>>> = {
  async damaged(server, i) {
    // Cut short, damaged inside, or no picture: what the header shows, and what only decoding finds.
    const bytes = Buffer.from(i % 3 === 0 ? large.subarray(0, large.length >> 1) : large);
    if (i % 3 === 1) bytes.fill(0xff, bytes.length >> 1, (bytes.length >> 1) + 4000);
    if (i % 3 === 2) bytes.fill(0x20, 0, 4);
    return (await post(server, bytes))[0];
  },
  huge(server, i) {
    const chunk = Buffer.alloc(256 * 1024, 0x20);
    return raw(server, (socket, head) => {
      if (i % 2 === 0) socket.write(`${head}Content-Length: ${2 ** 31}\r\n\r\n`);
      else socket.write(`${head}Transfer-Encoding: chunked\r\n\r\n`);
      socket.once("data", () => socket.destroySoon());
      const more = (): void => {
        if (socket.writableEnded || socket.destroyed) return;
        if (i % 2 === 1) socket.write(`${chunk.length.toString(16)}\r\n`);
        socket.write(chunk, () => setImmediate(more));
        if (i % 2 === 1) socket.write("\r\n");
      };
      more();
    });
  },
  slow(server) {
    return raw(server, (socket, head) => {
      socket.write(`${head}Content-Length: ${large.length}\r\n\r\n`);
      socket.write(large.subarray(0, large.length >> 1));
      socket.once("data", () => socket.destroySoon());
    });
  },
  aborted(server, i) {
    return raw(server, (socket, head) => {
      socket.write(`${head}Content-Length: ${large.length}\r\n\r\n`);
      // In the middle, or when all of it is there.
      socket.write(i % 2 === 0 ? large.subarray(0, large.length >> 1) : large, () => socket.destroy());
    });
  },
};

suite("riffle serve under abuse", () => {
  test("refuses each upload with 4xx, keeps nothing of them, and answers pictures as before", async () => {
    const server = await serve(run, "--top", "3", "--max_body", "1", "--timeout", "1", "--max_queue", "512");
    const sizes: number[] = [];
    for (let pass = 0; pass < 2; pass++) {
      for (const [kind, upload] of Object.entries(uploads)) {
        const statuses = await inTurns(kind === "slow" ? EACH : 16, EACH, (i) => upload(server, i));
        for (const status of statuses) {
          if (kind === "aborted") assert.equal(status, undefined);
          else assert.ok(status !== undefined && status >= 400 && status < 500, `${kind}: ${status}`);
        }
      }
      const [status, text] = await post(server, pictures[pass] as Buffer);
      assert.equal(status, 200);
      assert.deepEqual((JSON.parse(text) as { top: unknown }).top, expected[pass]);
      while (
        (await metric(server, "riffle_held_bytes")) > 0 ||
        (await metric(server, "riffle_queue_length")) > 0
      );
      sizes.push(await metric(server, "process_resident_memory_bytes"));
    }
    const growth = (sizes[1] as number) - (sizes[0] as number);
    console.log(`resident after each pass: ${sizes.map((size) => (size / MIB).toFixed(0)).join(", ")} MiB`);
    assert.ok(growth < GROWTH, `grew by ${(growth / MIB).toFixed(0)} MiB`);
    server.child.kill("SIGTERM");
    assert.equal(await server.ended, 0, server.output.stderr);
  });

  test("told to stop with requests in its queue, answers all of them and ends", async () => {
    // Fewer than a batch wait for half a second, unless told to hurry: they are in the queue when it is told.
    const server = await serve(run, "--top", "3", "--max_wait", "500");
    const agent = new Agent({ keepAlive: true });
    const asked = pictures.slice(0, 12).map((bytes) => post(server, bytes, agent));
    while ((await metric(server, "riffle_queue_length")) < asked.length);
    server.child.kill("SIGTERM");
    for (const [i, [status, text]] of (await Promise.all(asked)).entries()) {
      assert.equal(status, 200);
      assert.deepEqual((JSON.parse(text) as { top: unknown }).top, expected[i]);
    }
    assert.equal(await server.ended, 0, server.output.stderr);
    agent.destroy();
  });
});

/** Calls `work` so often, so many at a time. */
async function inTurns<T>(width: number, count: number, work: (i: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) {
      const i = next++;
      results[i] = await work(i);
    }
  };
  await Promise.all(Array.from({ length: width }, lane));
  return results;
}
