/** What a step reports, and what it leaves alone: losses, counts of correct images, steps that are not finite. */

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { softmaxCrossEntropy } from "../../src/backends/reference/head-passes.js";
import { referenceBackend } from "../../src/backends/reference/reference.js";
import { UsageError } from "../../src/core/error.js";
import { compile } from "../../src/program/compile.js";
import type { HeadStep } from "../../src/program/program.js";
import { fastBackend } from "../support/fast-backend.js";
import { assertClose } from "../support/compare.js";
import { needs } from "../support/shared.js";
import { emptyState, readArrays } from "../support/tf-reference.js";
import { tinyNetwork } from "../support/tiny-network.js";
import { trainOn } from "../support/run.js";

suite("softmax cross-entropy", () => {
  for (const [labelSmoothing, loss, gradient] of [
    [0, "ce_mean", "ce_grad"],
    [0.1, "ce_smooth01", "ce_smooth01_grad"],
  ] as const) {
    test(
      `is TensorFlow's at label smoothing ${labelSmoothing}`,
      needs("tf-reference", "schedule.npz"),
      async () => {
        const stored = await readArrays("schedule.npz");
        const logits = Float64Array.from(stored.numbers("ce_logits").data);
        const labels = Int32Array.from(stored.numbers("ce_labels").data);
        const result = softmaxCrossEntropy(logits, { labels }, { labelSmoothing });
        assertClose("loss", [result.crossEntropy], stored.numbers(loss).data, { ofScale: 1e-6 });
        assertClose("gradient", result.dlogits, stored.numbers(gradient).data, { ofScale: 1e-6 });
        const inTop5 = Array.from(stored.numbers("in_top_5").data).filter((v) => v !== 0).length;
        assert.equal(result.correct5, inTop5);
      },
    );
  }

  const counts = (logits: number[], label: number): [number, number] => {
    const result = softmaxCrossEntropy(
      Float64Array.from(logits),
      { labels: Int32Array.of(label) },
      {
        labelSmoothing: 0,
      },
    );
    return [result.correct1, result.correct5];
  };

  test("top-1 is the first of the largest", () => {
    assert.deepEqual(counts([1, 3, 3, 0, 0, 0, 0], 1), [1, 1]);
    assert.deepEqual(counts([1, 3, 3, 0, 0, 0, 0], 2), [0, 1]);
  });

  test("a tie at the fifth place counts", () => {
    assert.deepEqual(counts([9, 8, 7, 6, 1, 1, 1], 6), [0, 1]);
    assert.deepEqual(counts([9, 8, 7, 6, 2, 1, 1], 6), [0, 0]);
  });

  test("a row that is not finite is never correct", () => {
    assert.deepEqual(counts([NaN, 1, 0, 0, 0, 0, 0], 1), [0, 0]);
    assert.deepEqual(counts([Infinity, 0, 0, 0, 0, 0, 0], 0), [0, 0]);
  });
});

suite("a training run", () => {
  const network = tinyNetwork({ padding: "same", classes: 2, stem: 2 }, (net) =>
    net.pointwise("a", "pool1", 2),
  );
  const program = compile(network, { batch: 2, imageSize: 8, mode: "train" });
  const batch = {
    images: Uint8Array.from({ length: 2 * 8 * 8 * 3 }, (_, i) => (i * 37) % 256),
    labels: Int32Array.of(0, 1),
  };
  const loss = { labelSmoothing: 0, weightDecay: 0.5 };
  const update = { learningRate: 0.1, momentum: 0.9, nesterov: true, weightDecay: 0.5, averageDecay: 0.9 };
  const start = () => {
    const state = emptyState(program);
    state.parameters.forEach((_, i) => (state.parameters[i] = ((i % 7) - 3) / 4));
    state.statistics.fill(1, program.planes.length);
    return state;
  };

  test("does in one call what gradients and update do in two", async () => {
    const [once, twice] = [start(), start()];
    await trainOn(referenceBackend, program, once, { threads: 1 }).step(batch, loss, update);
    const run = trainOn(referenceBackend, program, twice, { threads: 1 });
    await run.computeGradients(batch, loss);
    await run.applyUpdate(update);
    assert.deepEqual(once, twice);
    assert.notDeepEqual(once.parameters, start().parameters);
    assert.notDeepEqual(once.statistics, start().statistics);
  });

  test("updates nothing when the loss is not finite, and says so", async () => {
    const state = start();
    state.parameters[program.parameterCount - 1] = NaN;
    const before = structuredClone({ ...state, gradients: undefined });
    const result = await trainOn(referenceBackend, program, state, { threads: 1 }).step(batch, loss, update);
    assert.equal(result.finite, false);
    assert.deepEqual({ ...state, gradients: undefined }, before);
  });

  // tf.math.in_top_k says no to every label of such a row.
  for (const backend of [referenceBackend, fastBackend]) {
    test(`counts no picture as right whose logits are not finite (${backend.name})`, async () => {
      const state = start();
      const { bias } = program.steps.at(-1) as HeadStep;
      state.parameters.set([1000, NaN], bias);
      const run = trainOn(backend, program, state, { threads: 1 });
      const { correct1, correct5 } = await run.computeGradients(
        { ...batch, labels: Int32Array.of(0, 0) },
        loss,
      );
      run.close();
      assert.deepEqual([correct1, correct5], [0, 0]);
    });
  }

  test("sums the squares of decaying parameters only", async () => {
    const state = start();
    const run = trainOn(referenceBackend, program, state, { threads: 1 });
    const { decayLoss } = await run.computeGradients(batch, loss);
    const decaying = program.parameters.filter(({ role }) => role === "convolution" || role === "linear");
    const squares = decaying.flatMap(({ offset, size }) => [
      ...state.parameters.slice(offset, offset + size),
    ]);
    assertClose("decay loss", [decayLoss], [0.25 * squares.reduce((sum, w) => sum + w * w, 0)], {
      ofScale: 1e-12,
    });
  });

  test("refuses a batch of another size, with both numbers", async () => {
    const run = trainOn(referenceBackend, program, start(), { threads: 1 });
    const short = { ...batch, images: batch.images.subarray(1) };
    await assert.rejects(() => run.step(short, loss, update), /384 bytes.*383 bytes/);
  });

  test("refuses a label outside the classes", async () => {
    const run = trainOn(referenceBackend, program, start(), { threads: 1 });
    await assert.rejects(() => run.step({ ...batch, labels: Int32Array.of(0, 2) }, loss, update), UsageError);
  });
});

suite("an inference run", () => {
  const network = tinyNetwork({ padding: "one", classes: 3, stem: 2 }, (net) =>
    net.pointwise("a", "pool1", 2),
  );
  const program = compile(network, { batch: 3, imageSize: 8, mode: "infer" });
  const bytes = 8 * 8 * 3;
  const images = Uint8Array.from({ length: 3 * bytes }, (_, i) => (i * 53) % 256);
  const weights = emptyState(program);
  weights.parameters.forEach((_, i) => (weights.parameters[i] = ((i % 5) - 2) / 3));
  weights.statistics.fill(1, program.planes.length);

  test("gives an image the same logits alone as in a batch", async () => {
    const run = referenceBackend.infer(program, { threads: 1 });
    await run.load(weights);
    const all = await run.infer(images, 3);
    const second = await run.infer(images.subarray(bytes, 2 * bytes), 1);
    assert.equal(all.length, 9);
    assert.deepEqual(second, all.slice(3, 6));
  });

  test("keeps the weights it was given when the caller changes theirs", async () => {
    const run = referenceBackend.infer(program, { threads: 1 });
    const own = { parameters: weights.parameters.slice(), statistics: weights.statistics.slice() };
    await run.load(own);
    const before = await run.infer(images, 3);
    own.parameters.fill(0);
    assert.deepEqual(await run.infer(images, 3), before);
  });

  test("refuses more images than the program has room for", async () => {
    const run = referenceBackend.infer(program, { threads: 1 });
    await run.load(weights);
    await assert.rejects(() => run.infer(new Uint8Array(4 * bytes), 4), /1 to 3 images.*4 images/);
  });
});
