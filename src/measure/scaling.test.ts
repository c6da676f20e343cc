import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { type Cluster, predict, type StepWork } from "./scaling.js";

/** 310 ms a step: 100 forward, 200 backward in two steps, 10 update; 3 MB of gradients. */
const work: StepWork = {
  times: { forward: 0.1, backward: [0.05, 0.15], update: 0.01 },
  batch: 32,
  buckets: [
    { bytes: 1e6, afterStep: 1 },
    { bytes: 2e6, afterStep: 0 },
  ],
  statisticsBytes: 0,
  decode: 0,
};

/** One rank on each core; a link whose payload is 10^8 bytes a second, memory without end. */
const cluster: Cluster = {
  ranksPerMachine: 1,
  threads: 1,
  cores: 1,
  memory: Infinity,
  bandwidth: (1e8 * 1538) / 1448,
  latency: 0,
  message: 0,
  overlap: true,
};

/** What a message without numbers costs on that link, sent twice: its headers. */
const HEADERS = (2 * 64) / 1e8;

/** Two buckets whose halves, with their headers, are 10^6 bytes: 10 ms on the link for each of the two phases. */
const even: StepWork = {
  ...work,
  buckets: [
    { bytes: 2e6 - 128, afterStep: 1 },
    { bytes: 2e6 - 128, afterStep: 0 },
  ],
};

/** To a nanosecond. */
function near(actual: number, expected: number): void {
  assert.ok(Math.abs(actual - expected) < 1e-9, `${actual}, expected ${expected}`);
}

suite("one rank", () => {
  test("exchanges nothing", () => {
    const { compute, exchange, exposed, step, efficiency, imagesPerSecond } = predict(1, 1, work, cluster);
    near(compute, 0.31);
    assert.deepEqual([exchange, exposed, efficiency], [0, 0, 1]);
    near(step, 0.31);
    near(imagesPerSecond, 32 / 0.31);
  });

  test("adds the gradients of its shards: 12 MB of memory for each but the first", () => {
    near(predict(1, 4, work, { ...cluster, memory: 1e9 }).compute, 4 * 0.3 + 0.01 + 3 * 0.012);
  });
});

suite("ranks of one machine", () => {
  const two: Cluster = { ...cluster, ranksPerMachine: 2, cores: 2, memory: 1e9 };

  test("move five bytes for each byte of gradients of two, after backward, and wait three times", () => {
    const { machines, exchange, exposed, step, efficiency } = predict(2, 2, work, two);
    assert.equal(machines, 1);
    near(exchange, 0.015 + 3e-6);
    assert.equal(exposed, exchange);
    near(step, 0.31 + 0.015003);
    near(efficiency, (2 * 0.3 + 0.01 + 0.012) / (2 * 0.325003));
  });

  test("move six bytes for each byte of statistics of two", () => {
    near(predict(2, 2, { ...work, statisticsBytes: 1e6 }, two).exchange, 0.015 + 0.006 + 3e-6);
  });

  test("take four times as long where four share a core", () => {
    near(predict(8, 8, work, { ...two, ranksPerMachine: 8, memory: Infinity }).compute, 4 * 0.31);
  });

  test("count their threads, not themselves", () => {
    near(predict(2, 2, work, { ...two, threads: 2, memory: Infinity }).compute, 2 * 0.31);
    near(predict(2, 2, work, { ...two, threads: 2, cores: 4, memory: Infinity }).compute, 0.31);
  });

  test("decode on the cores that they leave, and give up time where they leave none", () => {
    const decoding = { ...work, decode: 0.002 };
    near(predict(2, 2, decoding, { ...two, memory: Infinity }).compute, 0.31 + 32 * 0.002);
    near(predict(2, 2, decoding, { ...two, cores: 4, memory: Infinity }).compute, 0.31);
  });
});

suite("ranks of several machines", () => {
  test("hide a bucket behind the backward that is still to come", () => {
    const { machines, exchange, exposed } = predict(2, 2, even, cluster);
    assert.equal(machines, 2);
    near(exchange, 0.04 + HEADERS);
    // The first is ready 50 ms before the end and takes 20; the last is ready at the end.
    near(exposed, 0.02 + HEADERS);
  });

  test("make the last bucket wait where the first takes too long", () => {
    // A quarter of the link: 80 ms a bucket, of which 50 are hidden.
    near(
      predict(2, 2, even, { ...cluster, bandwidth: cluster.bandwidth / 4 }).exposed,
      0.16 - 0.05 + 4 * HEADERS,
    );
  });

  test("wait for all of it where it does not overlap", () => {
    near(predict(2, 2, even, { ...cluster, overlap: false }).exposed, 0.04 + HEADERS);
  });

  test("hide behind the last shard's backward alone", () => {
    const { compute, exposed } = predict(2, 8, even, cluster);
    near(compute, 4 * 0.3 + 0.01);
    near(exposed, 0.02 + HEADERS);
  });

  test("hide more where their cores are shared, since backward takes longer", () => {
    const slow = { ...cluster, bandwidth: cluster.bandwidth / 4, threads: 2 };
    near(predict(2, 2, even, slow).exposed, 0.08 + 4 * HEADERS);
  });

  test("share the link of their machine", () => {
    // 4 ranks, 2 a machine: quarters of 10^6 bytes, two ranks to two others, twice.
    const quarters = { ...even, buckets: [{ bytes: 4 * (1e6 - 64), afterStep: 0 }] };
    near(predict(4, 4, quarters, { ...cluster, ranksPerMachine: 2, cores: 2 }).exchange, 0.08 + 4 * HEADERS);
  });

  test("send 2 (R - 1) messages a bucket, and wait twice for the latency; once more for the statistics", () => {
    const costly = { ...cluster, bandwidth: Infinity, latency: 0.001, message: 0.0001, overlap: false };
    near(predict(9, 9, even, costly).exchange, 3 * (0.002 + 16 * 0.0001));
  });

  test("pay for headers that outgrow their slices", () => {
    // 1,000 ranks: slices of 2 bytes and a header of 64.
    const tiny = { ...work, buckets: [{ bytes: 2000, afterStep: 0 }] };
    near(predict(1000, 1000, tiny, cluster).exchange, (2 * 999 * (66 + 64)) / 1e8);
  });

  test("move a bucket five and a half times through memory: in pieces, added, together again", () => {
    const slow = { ...cluster, bandwidth: Infinity, memory: 1e9, overlap: false };
    const one = { ...work, buckets: [{ bytes: 2e6, afterStep: 0 }] };
    near(predict(2, 2, one, slow).exchange, 5.5 * 0.002);
  });

  test("send the statistics when all else has gone", () => {
    const some = { ...even, statisticsBytes: 2e6 - 128 };
    near(predict(2, 2, some, cluster).exposed, 0.04);
  });
});
