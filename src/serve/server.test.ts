import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { after, before, suite, test } from "node:test";

import sharp from "sharp";

import { type Answer, ask, type Asked, raw, refusesTheHostile } from "../../test/support/hostile-requests.js";
import type { Prediction, Predictor } from "../inference/predict.js";
import type { ModelDescription } from "../run/checkpoint-state.js";
import { Metrics } from "./metrics.js";
import { type RunningServer, type ServeOptions, startServer } from "./server.js";

/** Calls of `predictOne` that wait for the test to answer them. */
interface Call {
  readonly bytes: Uint8Array;
  readonly top: number | undefined;
  readonly signal: AbortSignal | undefined;
  answer(error?: string | Error): void;
}

/** A predictor without a network: it answers at once, or when the test says so. */
class Puppet implements Predictor {
  readonly model = {
    classes: 3,
    class_names: ["a", "<b>", "c"],
    image_size: 32,
  } as unknown as ModelDescription;
  readonly checkpoint = "";
  readonly passedOver = [];
  readonly origin = undefined;
  readonly calls: Call[] = [];
  pending = 0;

  constructor(private readonly waits: boolean) {}

  async *predict(): AsyncGenerator<Prediction> {
    await Promise.reject(new Error("the server asks for one picture at a time"));
  }

  predictOne(
    bytes: string | Uint8Array,
    { top, signal }: { top?: number; signal?: AbortSignal } = {},
  ): Promise<Prediction> {
    assert.ok(typeof bytes !== "string");
    this.pending++;
    return new Promise((resolve, reject) => {
      const answer = (error?: string | Error): void => {
        this.pending--;
        if (error instanceof Error) reject(error);
        else if (error !== undefined) resolve({ file: "#0", error } as unknown as Prediction);
        else resolve({ file: "#0", top: [{ index: 1, name: "<b>", probability: 1 }] });
      };
      signal?.addEventListener("abort", () => answer(signal.reason as Error));
      this.calls.push({ bytes, top, signal, answer });
      if (!this.waits) answer();
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

interface Setup {
  readonly server: RunningServer;
  readonly predictor: Puppet;
  readonly failures: unknown[];
}

const running: RunningServer[] = [];
after(() => Promise.all(running.map((server) => server.close())));

async function start(waits: boolean, more: Partial<ServeOptions> = {}): Promise<Setup> {
  const predictor = new Puppet(waits);
  const failures: unknown[] = [];
  const server = await startServer(predictor, {
    host: "127.0.0.1",
    port: 0,
    names: [],
    token: undefined,
    top: 5,
    maxBody: 100_000,
    maxPixels: 10_000,
    timeout: 5000,
    maxQueue: 2,
    metrics: new Metrics(),
    onFailure: (error) => failures.push(error),
    ...more,
  });
  running.push(server);
  return { server, predictor, failures };
}

function errorOf({ text }: Answer): { what: string; expected: string | null; hint: string | null } {
  return (JSON.parse(text) as { error: { what: string; expected: string | null; hint: string | null } })
    .error;
}

/** The value of a metric by its name and labels; NaN where there is none. */
async function metric(server: RunningServer, name: string): Promise<number> {
  const { text } = await ask(server, "/metrics");
  const line = text.split("\n").find((one) => one.startsWith(`${name} `));
  return Number(line?.split(" ")[1]);
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const began = performance.now(); !(await holds());) {
    assert.ok(performance.now() - began < 5000, "it did not come to hold");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

let jpeg: Buffer;
let png: Buffer;
before(async () => {
  const image = sharp({ create: { width: 60, height: 50, channels: 3, background: "#a04020" } });
  [jpeg, png] = await Promise.all([image.clone().jpeg().toBuffer(), image.clone().png().toBuffer()]);
});

suite("a picture posted", () => {
  test("is given to the predictor as it is, with the number of classes asked for", async () => {
    const { server, predictor } = await start(false);
    for (const headers of [
      {},
      { "Content-Type": "image/png" },
      { "Content-Type": "application/x-www-form-urlencoded" },
      { "Transfer-Encoding": "chunked" },
      { Expect: "100-continue" },
    ]) {
      const answer = await ask(server, "/predict", { body: jpeg, headers });
      assert.equal(answer.status, 200, answer.text);
      assert.deepEqual(JSON.parse(answer.text), { top: [{ index: 1, name: "<b>", probability: 1 }] });
      const call = predictor.calls.pop();
      assert.deepEqual(Buffer.from(call?.bytes ?? []), jpeg);
      assert.equal(call?.top, 5);
    }
    await ask(server, "/predict?top=2", { body: png });
    assert.equal(predictor.calls.pop()?.top, 2);
  });

  test("that is none, or cannot be used, is refused with what is wrong", async () => {
    const { server, predictor } = await start(false);
    const bomb = Buffer.from(png);
    bomb.writeUInt32BE(30_000, 16);
    bomb.writeUInt32BE(30_000, 20);
    const large = await sharp({ create: { width: 101, height: 100, channels: 3, background: "red" } })
      .png()
      .toBuffer();
    const cases: [number, RegExp, Asked][] = [
      [400, /empty/, { body: Buffer.alloc(0) }],
      [415, /text file/, { body: Buffer.from("hello") }],
      [415, /BMP/, { body: Buffer.from("BM123456789012345678901234567890") }],
      [415, /form or JSON/, { body: jpeg, headers: { "Content-Type": "multipart/form-data; boundary=x" } }],
      [415, /form or JSON/, { body: jpeg, headers: { "Content-Type": "application/json" } }],
      [415, /gzip/, { body: jpeg, headers: { "Content-Encoding": "gzip" } }],
      [422, /ends after/, { body: jpeg.subarray(0, -10) }],
      [422, /more than is decoded/, { body: bomb }],
      [422, /too many pixels/, { body: large }],
    ];
    for (const [status, what, asked] of cases) {
      const answer = await ask(server, "/predict", asked);
      assert.equal(answer.status, status, answer.text);
      assert.match(errorOf(answer).what, what);
    }
    // curl -d photo.jpg, where @photo.jpg was meant
    const named = await ask(server, "/predict", { body: Buffer.from("photo.jpg") });
    assert.match(errorOf(named).hint ?? "", /@ stands before a file's name: curl --data-binary @photo\.jpg/);
    assert.equal(predictor.calls.length, 0);
    assert.equal(await metric(server, "riffle_held_bytes"), 0);
    for (const query of ["?top=0", "?top=x", "?top=1&top=2", "?top=1e3", "?file=/etc/passwd"]) {
      assert.equal((await ask(server, `/predict${query}`, { body: jpeg })).status, 400, query);
    }
  });

  test("that does not decode is refused in the predictor's words", async () => {
    const { server, predictor } = await start(true);
    const answer = ask(server, "/predict", { body: jpeg });
    await until(() => predictor.calls.length === 1);
    predictor.calls[0]?.answer("does not decode: bad Huffman code");
    assert.equal((await answer).status, 422);
    assert.match(errorOf(await answer).what, /Huffman/);
  });
});

suite("bounds", () => {
  test("a huge body is refused by its length, unread", async () => {
    const { server } = await start(false);
    const head = `POST /predict HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nContent-Length: 1000000000\r\n`;
    // What a client gets that is still sending; with 100-continue nobody invites it to.
    const backs = ["\r\nsome", "Expect: 100-continue\r\n\r\n"].map((more) =>
      raw(server, head + more, (socket) => socket.once("data", () => setTimeout(() => socket.destroy(), 10))),
    );
    for (const back of await Promise.all(backs)) {
      assert.match(back, /^HTTP\/1.1 413 [^]*Connection: close[^]*too large/i);
    }
  });

  test("a body without end is refused at its limit, and nothing of it stays in memory", async () => {
    const { server } = await start(false);
    const chunk = `10000\r\n${"x".repeat(0x10000)}\r\n`;
    // More than any machine sends before it is closed, a second after the refusal.
    const ENDLESS = 2 ** 36;
    let sent = 0;
    const back = await raw(
      server,
      `POST /predict HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nTransfer-Encoding: chunked\r\n\r\n`,
      (socket) => {
        const more = (): void => {
          if (socket.destroyed || sent > ENDLESS) return;
          sent += 0x10000;
          socket.write(chunk, () => setImmediate(more));
        };
        more();
      },
    );
    assert.match(back, /^HTTP\/1.1 413 /);
    assert.ok(sent < ENDLESS, "the connection was closed");
    assert.equal(await metric(server, "riffle_held_bytes"), 0);
    assert.equal(await metric(server, "riffle_uploads"), 0);
  });

  test("a slow body is refused when its time is over, and so are slow headers", async () => {
    const { server } = await start(false, { timeout: 150 });
    const head = `POST /predict HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\n`;
    const [body, headers, silent] = await Promise.all([
      raw(server, `${head}Content-Length: 1000\r\n\r\nsome`),
      raw(server, head),
      raw(server, ""),
    ]);
    assert.match(body, /^HTTP\/1.1 408 [^]*took longer to arrive/);
    assert.match(headers, /^HTTP\/1.1 408 /);
    assert.doesNotMatch(silent, /200/);
    assert.equal(await metric(server, "riffle_held_bytes"), 0);
  });

  test("an upload that breaks off is forgotten", async () => {
    const { server, predictor } = await start(false);
    const head = `POST /predict HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nContent-Length: 50000\r\n\r\n`;
    for (let i = 0; i < 20; i++) {
      await raw(server, head + "x".repeat(20_000), (socket) => setTimeout(() => socket.destroy(), 5));
    }
    const aborted = 'riffle_requests_total{route="/predict",status="aborted"}';
    await until(async () => (await metric(server, aborted)) === 20);
    assert.equal(await metric(server, "riffle_held_bytes"), 0);
    assert.equal(predictor.calls.length, 0);
  });

  test("a client that goes away takes its picture out of the queue", async () => {
    const { server, predictor } = await start(true);
    const head = `POST /predict HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nContent-Length: ${png.length}\r\n\r\n`;
    const closed = raw(server, head + png.toString("latin1"), (socket) => {
      void until(() => predictor.calls.length === 1).then(() => socket.destroy());
    });
    await closed;
    await until(() => predictor.calls[0]?.signal?.aborted === true);
    assert.equal(predictor.pending, 0);
    await until(async () => (await metric(server, "riffle_held_bytes")) === 0);
  });

  test("beyond the queue, and beyond the time for an answer, 503 says when to come again", async () => {
    const { server, predictor } = await start(true, { timeout: 300 });
    const first = ask(server, "/predict", { body: jpeg });
    const second = ask(server, "/predict", { body: png });
    await until(() => predictor.calls.length === 2);
    assert.equal(await metric(server, "riffle_queue_length"), 2);
    assert.equal(await metric(server, "riffle_held_bytes"), jpeg.length + png.length);
    const third = await ask(server, "/predict", { body: jpeg });
    assert.equal(third.status, 503);
    assert.ok(Number(third.headers["retry-after"]) >= 1);
    predictor.calls[0]?.answer();
    assert.equal((await first).status, 200);
    const late = await second;
    assert.equal(late.status, 503);
    assert.match(errorOf(late).what, /took longer/);
    assert.equal(predictor.calls[1]?.signal?.aborted, true);
    assert.equal((await ask(server, "/health")).status, 200);
  });

  test("pictures that are sent at once share a bound of memory", async () => {
    const { server } = await start(false, { maxBody: 10_000, maxHeld: 15_000 });
    const head = `POST /predict HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nContent-Length: 10000\r\n\r\n`;
    let first: Socket | undefined;
    const one = raw(server, head + "x".repeat(9000), (socket) => (first = socket));
    await until(async () => (await metric(server, "riffle_held_bytes")) === 9000);
    const two = raw(server, head + "x".repeat(9000), (socket) => {
      socket.once("data", () => setTimeout(() => socket.destroy(), 10));
    });
    assert.match(await two, /^HTTP\/1.1 503 [^]*Retry-After: [^]*at once/);
    assert.equal(await metric(server, "riffle_held_bytes"), 9000);
    first?.destroy();
    await one;
    await until(async () => (await metric(server, "riffle_held_bytes")) === 0);
  });

  test("a failure of ours is 500 without its words, and is heard", async () => {
    const { server, predictor, failures } = await start(true);
    const answer = ask(server, "/predict", { body: jpeg });
    await until(() => predictor.calls.length === 1);
    const failure = new Error("a secret of the engine");
    predictor.calls[0]?.answer(failure);
    assert.equal((await answer).status, 500);
    assert.doesNotMatch((await answer).text, /secret/);
    assert.deepEqual(failures, [failure]);
  });

  test("what is no HTTP is answered and closed", async () => {
    const { server } = await start(false);
    for (const [text, status] of [
      ["hello\r\n\r\n", 400],
      ["GET / HTTP/9.9\r\n\r\n", 400],
      [`GET / HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nX: ${"y".repeat(20_000)}\r\n\r\n`, 431],
      [
        `POST /predict HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
        400,
      ],
    ] as const) {
      assert.match(await raw(server, text), new RegExp(`^HTTP/1.1 ${status} `), text.slice(0, 40));
    }
    assert.equal((await ask(server, "/health")).status, 200);
  });
});

suite("closing", () => {
  test("finishes what was accepted, and takes nothing new", async () => {
    const { server, predictor } = await start(true);
    const asked = ask(server, "/predict", { body: jpeg });
    await until(() => predictor.calls.length === 1);
    const head = `POST /predict HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nContent-Length: ${png.length}\r\n\r\n`;
    let half: Socket | undefined;
    const uploading = raw(server, head + png.subarray(0, 40).toString("latin1"), (socket) => (half = socket));
    await until(async () => (await metric(server, "riffle_uploads")) === 1);
    const idle = raw(server, "");
    let isClosed = false;
    const closed = server.close().then(() => (isClosed = true));
    assert.equal(await idle, "", "a connection without a request is not waited for");
    await assert.rejects(ask(server, "/health"), /ECONNREFUSED/);
    assert.equal(isClosed, false);
    predictor.calls[0]?.answer();
    const answer = await asked;
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.connection, "close");
    half?.write(png.subarray(40));
    await until(() => predictor.calls.length === 2);
    predictor.calls[1]?.answer();
    assert.match(await uploading, /^HTTP\/1.1 200 /);
    await closed;
  });
});

suite("what is asked for from elsewhere", () => {
  refusesTheHostile(async () => (await start(false)).server, {
    routes: [
      ...["/", "/page.js", "/classifier.js", "/page.css", "/health", "/model", "/metrics", "/none"],
      ["/predict", "POST"],
    ],
    answers: "/health",
    secret: /<html|riffle_requests|"classes"|"ok"/,
    assets: ["/page.js", "/classifier.js", "/page.css"],
  });

  test("with a picture, by a page of another site, classifies nothing", async () => {
    const { server, predictor } = await start(false);
    const headers = { Origin: "http://evil.example", "Sec-Fetch-Site": "cross-site" };
    assert.equal((await ask(server, "/predict", { headers, body: jpeg })).status, 403);
    assert.equal(predictor.calls.length, 0);
    const own = { Origin: `http://127.0.0.1:${server.port}`, "Sec-Fetch-Site": "same-origin" };
    assert.equal((await ask(server, "/predict", { headers: own, body: jpeg })).status, 200);
  });

  test("by another method gets 405 and the one there is", async () => {
    const { server } = await start(false);
    for (const [path, method, allow] of [
      ["/predict", "GET", "POST"],
      ["/predict", "PUT", "POST"],
      ["/", "POST", "GET, HEAD"],
      ["/metrics", "DELETE", "GET, HEAD"],
    ] as const) {
      const answer = await ask(server, path, { method });
      assert.equal(answer.status, 405);
      assert.equal(answer.headers.allow, allow);
    }
    const head = await ask(server, "/", { method: "HEAD" });
    assert.equal(head.status, 200);
    assert.equal(head.text, "");
  });

  test("without the token, where there is one, gets the page and the health alone", async () => {
    const { server } = await start(false, { token: "0123456789abcdef" });
    for (const [path, open] of [
      ["/", true],
      ["/page.js", true],
      ["/health", true],
      ["/model", false],
      ["/metrics", false],
    ] as const) {
      assert.equal((await ask(server, path)).status, open ? 200 : 401, path);
      for (const authorization of [
        "Bearer wrong",
        "Basic 0123456789abcdef",
        "Bearer 0123456789abcdefg",
        "",
      ]) {
        const answer = await ask(server, path, { headers: { Authorization: authorization } });
        assert.equal(answer.status, open ? 200 : 401, authorization);
      }
      const headers = { Authorization: "Bearer 0123456789abcdef" };
      assert.equal((await ask(server, path, { headers })).status, 200);
    }
    assert.equal((await ask(server, "/predict", { body: jpeg })).status, 401);
  });
});

suite("the page", () => {
  test("asks this server alone, and every answer forbids the rest", async () => {
    const { server } = await start(false);
    for (const [path, type] of [
      ["/", "text/html"],
      ["/page.css", "text/css"],
      ["/page.js", "text/javascript"],
      ["/classifier.js", "text/javascript"],
      ["/none", "application/json"],
    ] as const) {
      const { headers, text } = await ask(server, path);
      assert.match(headers["content-type"] ?? "", new RegExp(`^${type}`));
      assert.match(headers["content-security-policy"]?.toString() ?? "", /^default-src 'none';/);
      assert.doesNotMatch(headers["content-security-policy"]?.toString() ?? "", /unsafe|http|\*/);
      assert.equal(headers["x-content-type-options"], "nosniff");
      assert.equal(headers["cache-control"], "no-store");
      assert.equal(headers["access-control-allow-origin"], undefined);
      assert.doesNotMatch(text, /https?:|@import|url\(|innerHTML|insertAdjacentHTML|document\.write|eval/);
    }
    const html = (await ask(server, "/")).text;
    assert.doesNotMatch(html, /<script>|<style>| style=| on\w+=/);
    const ids = [...(await ask(server, "/page.js")).text.matchAll(/element\("([\w-]+)"\)/g)];
    assert.ok(ids.length > 10);
    for (const [, id = ""] of ids) {
      assert.ok(html.includes(`id="${id}"`), id);
    }
  });

  test("learns the classes", async () => {
    const { server } = await start(false);
    const model = JSON.parse((await ask(server, "/model")).text) as { classes: string[] };
    assert.deepEqual(model.classes, ["a", "<b>", "c"]);
  });
});

suite("the metrics", () => {
  test("read as Prometheus reads them, and add up", async () => {
    const metrics = new Metrics();
    const { server } = await start(false, { metrics });
    for (let i = 0; i < 3; i++) await ask(server, "/predict", { body: jpeg });
    await ask(server, "/predict", { body: Buffer.from("text") });
    await ask(server, `/"x\n`.replace("\n", "%0a"));
    metrics.batch(3);
    metrics.batch(1000);
    const { text, headers } = await ask(server, "/metrics");
    assert.match(headers["content-type"] ?? "", /^text\/plain; version=0\.0\.4/);
    assert.ok(text.endsWith("\n"));
    const samples = new Map<string, number>();
    let family = "";
    for (const line of text.trimEnd().split("\n")) {
      const [, name] = /^# (?:HELP|TYPE) ([a-z_]+) \S/.exec(line) ?? [];
      if (name !== undefined) {
        family = name;
        continue;
      }
      const [, sample = "", labels = "", value = ""] =
        /^([a-z_]+)(\{(?:[a-z]+="[^"\\\n]*",?)+\})? (\S+)$/.exec(line) ?? [];
      assert.ok(sample.startsWith(family) && Number.isFinite(Number(value)), line);
      assert.ok(!samples.has(sample + labels), `${line} comes twice`);
      samples.set(sample + labels, Number(value));
    }
    assert.equal(samples.get('riffle_requests_total{route="/predict",status="200"}'), 3);
    assert.equal(samples.get('riffle_requests_total{route="/predict",status="415"}'), 1);
    assert.equal(samples.get('riffle_requests_total{route="other",status="404"}'), 1);
    assert.equal(samples.get("riffle_pictures_total"), 3);
    assert.equal(samples.get("riffle_request_duration_seconds_count"), 3);
    for (const name of ["riffle_batch_size", "riffle_request_duration_seconds"]) {
      const buckets = [...samples]
        .filter(([key]) => key.startsWith(`${name}_bucket`))
        .map(([, value]) => value);
      assert.deepEqual(
        buckets,
        [...buckets].sort((a, b) => a - b),
      );
      assert.equal(buckets.at(-1), samples.get(`${name}_count`));
    }
    assert.equal(samples.get('riffle_batch_size_bucket{le="2"}'), 0);
    assert.equal(samples.get('riffle_batch_size_bucket{le="4"}'), 1);
    assert.equal(samples.get("riffle_batch_size_sum"), 1003);
  });
});
