/** The number of threads decides how long a step takes, never what it computes: the same bits for any. */

// Needs the native engine.

import assert from "node:assert/strict";
import { test } from "node:test";

import type { TrainingArrays } from "../../src/backends/backend.js";
import { nativeBackend } from "../../src/backends/native/index.js";
import { Draws, streams } from "../../src/core/random.js";
import { initialise, initialStatistics } from "../../src/models/initialise.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";
import { trainOn } from "../support/run.js";

const network = shuffleNetV2({ variant: "torchvision", width: 0.5, classes: 37 });

/** All that training carries after three steps with this many threads. */
async function trained(threads: number): Promise<TrainingArrays> {
  const program = compile(network, { batch: 9, imageSize: 65, mode: "train" });
  const parameters = initialise(program, { version: "he_uniform", seed: 1 });
  const state: TrainingArrays = {
    parameters,
    statistics: initialStatistics(program),
    momentum: new Float32Array(program.parameterCount),
    averages: parameters.slice(),
    gradients: new Float32Array(program.parameterCount),
  };
  const draws = new Draws(3, streams.augment, 0, 0);
  const run = trainOn(nativeBackend, program, state, { threads });
  for (let step = 0; step < 3; step++) {
    const images = Uint8Array.from({ length: 9 * 65 * 65 * 3 }, () => draws.below(256));
    const labels = Int32Array.from({ length: 9 }, () => draws.below(37));
    await run.step(
      { images, labels },
      { labelSmoothing: 0.1, weightDecay: 4e-5 },
      {
        learningRate: 0.1,
        momentum: 0.9,
        nesterov: true,
        weightDecay: 4e-5,
        averageDecay: 0.9,
      },
    );
  }
  run.close();
  return state;
}

test("training gives the same bits with 1, 2, 3, 4 and 7 threads", async () => {
  const alone = await trained(1);
  assert.ok(alone.parameters.every(Number.isFinite));
  for (const threads of [2, 3, 4, 7]) {
    const together = await trained(threads);
    for (const key of ["parameters", "statistics", "momentum", "averages", "gradients"] as const) {
      assert.deepEqual(bits(together[key]), bits(alone[key]), `${key} with ${threads} threads`);
    }
  }
});

test("inference gives the same bits with any number of threads and in any batch", async () => {
  const draws = new Draws(4, streams.augment, 0, 0);
  const bytes = 65 * 65 * 3;
  const images = Uint8Array.from({ length: 22 * bytes }, () => draws.below(256));
  const logits = async (batch: number, threads: number, few = false) => {
    const program = compile(network, { batch, imageSize: 65, mode: "infer" });
    const run = nativeBackend.infer(program, { threads, few });
    const parameters = initialise(program, { version: "he_uniform", seed: 1 });
    await run.load({ parameters, statistics: initialStatistics(program) });
    const result: number[] = [];
    for (let first = 0; first < 22; first += batch) {
      const count = Math.min(batch, 22 - first);
      result.push(...(await run.infer(images.subarray(first * bytes, (first + count) * bytes), count)));
    }
    run.close();
    return Float32Array.from(result);
  };
  const alone = await logits(1, 1);
  assert.equal(alone.length, 22 * 37);
  for (const [batch, threads] of [
    [1, 3],
    [2, 2],
    [5, 7],
    [8, 1],
    [9, 2],
    [22, 4],
  ] as const) {
    assert.deepEqual(bits(await logits(batch, threads)), bits(alone), `batch ${batch}, ${threads} threads`);
  }
  // 6 of 16 and 4 of 9 are left over, which are then made one by one; 22 of 32 are too many for that.
  for (const [batch, threads] of [
    [16, 2],
    [9, 3],
    [32, 2],
  ] as const) {
    assert.deepEqual(
      bits(await logits(batch, threads, true)),
      bits(alone),
      `few: batch ${batch}, ${threads} threads`,
    );
  }
});

test("where few pictures may come, one takes a fraction of the time of a batch", async () => {
  const program = compile(network, { batch: 16, imageSize: 65, mode: "infer" });
  const run = nativeBackend.infer(program, { threads: 1, few: true });
  await run.load({
    parameters: initialise(program, { version: "he_uniform", seed: 1 }),
    statistics: initialStatistics(program),
  });
  const images = new Uint8Array(16 * 65 * 65 * 3);
  const fastest = async (count: number): Promise<number> => {
    const times: number[] = [];
    for (let i = 0; i < 20; i++) {
      const began = performance.now();
      await run.infer(images.subarray(0, count * 65 * 65 * 3), count);
      times.push(performance.now() - began);
    }
    return Math.min(...times);
  };
  const [whole, one] = [await fastest(16), await fastest(1)];
  run.close();
  // Eight are computed at a time otherwise.
  assert.ok(one < whole / 4, `one picture ${one.toFixed(2)} ms, sixteen ${whole.toFixed(2)} ms`);
});

test("a second call of infer may wait behind the first, short ones too; a third, and closing, are refused", async () => {
  const program = compile(network, { batch: 4, imageSize: 65, mode: "infer" });
  const run = nativeBackend.infer(program, { threads: 2 });
  await run.load({
    parameters: initialise(program, { version: "he_uniform", seed: 1 }),
    statistics: initialStatistics(program),
  });
  const draws = new Draws(5, streams.augment, 0, 0);
  const bytes = 65 * 65 * 3;
  const images = Uint8Array.from({ length: 7 * bytes }, () => draws.below(256));
  const ask = ([some, count]: readonly [Uint8Array, number]): Promise<Float32Array> => run.infer(some, count);
  const parts = [
    [images.subarray(0, 3 * bytes), 3],
    [images.subarray(3 * bytes), 4],
    [images.subarray(5 * bytes), 2],
  ] as const;
  const alone: Uint32Array[] = [];
  for (const part of parts) alone.push(bits(await ask(part)));
  for (const [a, b] of [
    [0, 1],
    [0, 2],
  ] as const) {
    const both = [ask(parts[a]), ask(parts[b])];
    await assert.rejects(ask(parts[1]), /busy with another call/);
    assert.throws(() => {
      run.close();
    }, /busy with another call/);
    assert.deepEqual((await Promise.all(both)).map(bits), [alone[a], alone[b]]);
  }
  run.close();
});

function bits(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}
