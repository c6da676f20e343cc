/** Weighted and mixed pictures in the loss: against PyTorch's numbers, and on both backends alike. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import type { Backend, Batch, TrainingArrays } from "../../src/backends/backend.js";
import { softmaxCrossEntropy } from "../../src/backends/reference/head-passes.js";
import { referenceBackend } from "../../src/backends/reference/reference.js";
import { Draws, streams } from "../../src/core/random.js";
import { normalised } from "../../src/models/layers.js";
import { compile } from "../../src/program/compile.js";
import type { HeadStep } from "../../src/program/program.js";
import { fastBackend } from "../support/fast-backend.js";
import { repository } from "../support/paths.js";
import { tinyNetwork } from "../support/tiny-network.js";

interface Case {
  readonly smoothing: number;
  readonly class_weights: readonly number[] | null;
  readonly labels: readonly number[];
  readonly other_labels: readonly number[] | null;
  readonly shares: readonly number[] | null;
  readonly logits: readonly number[];
  readonly loss: number;
  readonly gradient: readonly number[];
}

/** Made by make_loss.py. */
const golden = JSON.parse(readFileSync(join(repository, "test", "golden", "loss.json"), "utf8")) as {
  readonly cases: readonly Case[];
};

/** What a picture weighs, and its label's share of that, from what its classes weigh. */
function targetsOf({ class_weights, labels, other_labels, shares }: Case): Omit<Batch, "images"> {
  const weightOf = (label: number): number => class_weights?.[label] ?? 1;
  const own = labels.map((label, n) => (shares?.[n] ?? 1) * weightOf(label));
  const whole = labels.map(
    (label, n) => (own[n] as number) + (1 - (shares?.[n] ?? 1)) * weightOf(other_labels?.[n] ?? label),
  );
  return {
    labels: Int32Array.from(labels),
    weights: Float32Array.from(whole),
    mixed: {
      labels: Int32Array.from(other_labels ?? labels),
      shares: Float32Array.from(own, (part, n) => part / (whole[n] as number)),
    },
  };
}

suite("the loss of weighted and mixed pictures", () => {
  for (const [i, each] of golden.cases.entries()) {
    const name = `${each.class_weights === null ? "" : "weighted, "}${each.shares === null ? "" : "mixed, "}smoothing ${each.smoothing}`;
    test(`is PyTorch's: case ${i}, ${name}`, () => {
      const options = { labelSmoothing: each.smoothing };
      const { crossEntropy, dlogits } = softmaxCrossEntropy(
        Float64Array.from(each.logits),
        targetsOf(each),
        options,
      );
      // Weights and shares are f32.
      assert.ok(Math.abs(crossEntropy - each.loss) < 2e-7 * each.loss, `${crossEntropy}, not ${each.loss}`);
      for (const [k, expected] of each.gradient.entries()) {
        assert.ok(Math.abs((dlogits[k] as number) - expected) < 2e-7, `${k}: ${dlogits[k]}, not ${expected}`);
      }
    });
  }
});

const program = compile(
  tinyNetwork({ padding: "same", classes: 7, stem: 3 }, (net) => {
    net.pointwise("a", "pool1", 4);
    net.depthwise("b", normalised("a"), 2, true);
    net.pointwise("c", normalised("b"), 5);
  }),
  { batch: 6, imageSize: 13, mode: "train" },
);
const { bias, classes } = program.steps.at(-1) as HeadStep;
const loss = { labelSmoothing: 0.1, weightDecay: 1e-3 };
const draws = new Draws(5, streams.draw, 0, 0);
const plain: Batch = {
  images: Uint8Array.from({ length: 6 * 13 * 13 * 3 }, () => draws.below(256)),
  labels: Int32Array.of(0, 3, 6, 2, 5, 1),
};
const weights = Float32Array.of(0.5, 2, 1, 0, 13, 0.25);
const mixed = {
  labels: Int32Array.of(3, 0, 6, 5, 2, 4),
  shares: Float32Array.of(0.5, 1, 0.75, 0.9, 0.6, 0.3),
};

/** Loss, numbers correct, logits and gradients of a batch. */
async function computed(
  backend: Backend,
  batch: Batch,
): Promise<{ result: readonly number[]; logits: Float32Array; gradients: Float32Array }> {
  const run = backend.train(program, { threads: 2 });
  try {
    const own = new Draws(3, streams.draw, 1, 0);
    const parameters = Float32Array.from(
      { length: program.parameterCount },
      () => own.below(1000) / 1000 - 0.5,
    );
    const state: Partial<TrainingArrays> = { parameters };
    await run.writeState(state);
    const { crossEntropy, correct1, correct5 } = await run.computeGradients(batch, loss);
    const { gradients } = await run.readState();
    return { result: [crossEntropy, correct1, correct5], logits: run.logits(), gradients: gradients.slice() };
  } finally {
    run.close();
  }
}

suite("both backends", () => {
  test("give the same loss and gradients of weighted and mixed pictures", async () => {
    for (const more of [{ weights }, { mixed }, { weights, mixed }]) {
      const [own, reference] = [
        await computed(fastBackend, { ...plain, ...more }),
        await computed(referenceBackend, { ...plain, ...more }),
      ];
      const { crossEntropy, dlogits } = softmaxCrossEntropy(
        Float64Array.from(own.logits),
        { ...plain, ...more },
        loss,
      );
      assert.ok(Math.abs((own.result[0] as number) - crossEntropy) < 1e-12 * crossEntropy);
      // What is right is counted by the label, whatever else a picture shows.
      assert.deepEqual(own.result.slice(1), reference.result.slice(1));
      for (let k = 0; k < classes; k++) {
        const sum = dlogits.filter((_, i) => i % classes === k).reduce((a, b) => a + b, 0);
        assert.ok(Math.abs((own.gradients[bias + k] as number) - sum) < 1e-6, `bias ${k}`);
      }
      const off = own.gradients.map((value, i) => value - (reference.gradients[i] as number));
      const norm = (values: Float32Array): number => Math.hypot(...values);
      assert.ok(norm(off) < 1e-5 * norm(reference.gradients), `${norm(off)} of ${norm(reference.gradients)}`);
    }
  });

  test("give the bits of a plain batch where all pictures weigh 1 and show one label", async () => {
    const ones = new Float32Array(6).fill(1);
    for (const backend of [fastBackend, referenceBackend]) {
      const expected = await computed(backend, plain);
      const asItIs = { weights: ones, mixed: { labels: mixed.labels, shares: ones } };
      assert.deepEqual(await computed(backend, { ...plain, ...asItIs }), expected, backend.name);
      // The other label is the same: whatever its share.
      const alike = { labels: plain.labels, shares: mixed.shares };
      const same = await computed(backend, { ...plain, mixed: alike });
      if (backend === fastBackend) assert.deepEqual(same, expected);
    }
  });

  test("refuse arrays of another batch, labels that are none, and labels without shares", async () => {
    const short = new Float32Array(5);
    const beyond = { labels: Int32Array.of(0, 1, 2, 3, 4, 7), shares: mixed.shares };
    for (const backend of [fastBackend, referenceBackend]) {
      for (const more of [{ weights: short }, { mixed: { ...mixed, shares: short } }, { mixed: beyond }]) {
        await assert.rejects(computed(backend, { ...plain, ...more }), backend.name);
      }
    }
  });
});
