/**
 * Every gradient of the reference backend against central differences, in f64.
 *
 * The networks are tiny and hold every step kind: a plane with two readers, both strides, both paddings,
 * odd and even sizes, label smoothing, dropout. State is f64 as well, so a difference step of 1e-6 is exact
 * enough to compare to 1e-6.
 */

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import type { Batch, LossSettings, TrainingArrays } from "../../src/backends/backend.js";
import { referenceBackend } from "../../src/backends/reference/reference.js";
import { Draws, streams } from "../../src/core/random.js";
import { channelsOf, interleave, normalised, type Padding } from "../../src/models/layers.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { variantNames } from "../../src/models/variants.js";
import { initialise } from "../../src/models/initialise.js";
import { compile } from "../../src/program/compile.js";
import type { Program } from "../../src/program/program.js";
import { assertClose } from "../support/compare.js";
import { stateInDoubles, tinyNetwork } from "../support/tiny-network.js";
import { trainOn } from "../support/run.js";

const CLASSES = 5;
const BATCH = 3;
/** Relative to weights around 1: far above f64 rounding, far below most distances to a ReLU's kink. */
const STEP = 1e-6;

suite("central differences", () => {
  for (const padding of ["same", "one"] as const) {
    for (const imageSize of [12, 13, 18]) {
      test(`a tiny network, padding ${padding}, image ${imageSize}`, async () => {
        const program = compile(twoBranches(padding), { batch: BATCH, imageSize, mode: "train" });
        await compareEveryGradient(program, { labelSmoothing: 0, weightDecay: 0 });
      });
    }
  }

  test("label smoothing and dropout", async () => {
    const program = compile(twoBranches("same"), { batch: BATCH, imageSize: 12, mode: "train" });
    const features = program.steps.at(-1);
    assert.ok(features?.kind === "head");
    const draws = new Draws(3, streams.dropout, 0, 0);
    const dropoutMask = Float32Array.from({ length: BATCH * features.inputs.length }, () =>
      draws.uniform() < 0.25 ? 0 : 2,
    );
    await compareEveryGradient(program, { labelSmoothing: 0.1, weightDecay: 0, dropoutMask });
  });

  for (const variant of variantNames) {
    test(`the whole ${variant} network, along three random directions`, async () => {
      const network = shuffleNetV2({ variant, width: 0.5, classes: CLASSES });
      const program = compile(network, { batch: 2, imageSize: 64, mode: "train" });
      const state = stateInDoubles(program, initialise(program, { version: "he_normal", seed: 4 }));
      const batch = randomBatch(program);
      const loss = { labelSmoothing: 0.1, weightDecay: 0 };
      const run = trainOn(referenceBackend, program, state, { threads: 1 });
      await run.computeGradients(batch, loss);
      const gradients = Array.from(state.gradients);
      const start = state.parameters.slice();
      for (let direction = 0; direction < 3; direction++) {
        const draws = new Draws(5, streams.draw, 0, direction);
        const along = gradients.map(() => draws.normal());
        const at = async (h: number): Promise<number> => {
          along.forEach((d, i) => (state.parameters[i] = (start[i] as number) + h * d));
          return (await run.computeGradients(batch, loss)).crossEntropy;
        };
        const h = 1e-10; // at 1e-8 the way crosses a kink of some ReLU
        const measured = ((await at(h)) - (await at(-h))) / (2 * h);
        const computed = gradients.reduce((sum, g, i) => sum + g * (along[i] as number), 0);
        assertClose("slope", [computed], [measured], { ofScale: 1e-4 });
      }
    });
  }
});

/** One map read by two branches, halved in one of three ways, then joined and shuffled. */
function twoBranches(padding: Padding) {
  return tinyNetwork({ padding, classes: CLASSES, stem: 3 }, (net) => {
    net.pointwise("a", "pool1", 3);
    net.depthwise("a.wide", normalised("a"), 1, true);
    net.depthwise("a.half", normalised("a.wide"), 2, false);
    net.depthwise("b.half", "pool1", 2, false);
    net.pointwise("b", normalised("b.half"), 3);
    const joined = interleave(channelsOf(normalised("a.half"), 3), channelsOf(normalised("b"), 3));
    net.arrange("joined", joined);
    net.pointwise("last", "joined", 4);
  });
}

async function compareEveryGradient(program: Program, loss: LossSettings): Promise<void> {
  const state = stateInDoubles(program, randomParameters(program));
  const batch = randomBatch(program);
  const run = trainOn(referenceBackend, program, state, { threads: 1 });
  const at = async (): Promise<number> => (await run.computeGradients(batch, loss)).crossEntropy;
  await at();
  const computed = state.gradients.slice();
  for (const { name, offset, size } of program.parameters) {
    const measured: number[] = [];
    for (let i = offset; i < offset + size; i++) {
      const kept = state.parameters[i] as number;
      state.parameters[i] = kept + STEP;
      const above = await at();
      state.parameters[i] = kept - STEP;
      measured.push((above - (await at())) / (2 * STEP));
      state.parameters[i] = kept;
    }
    assertClose(name, computed.slice(offset, offset + size), measured, { ofScale: 1e-6, absolute: 1e-8 });
  }
}

/** Weights around 1, gammas of both signs, betas that leave ReLUs on both sides. */
function randomParameters(program: Program): TrainingArrays["parameters"] {
  const draws = new Draws(1, streams.initialise, 0, 0);
  return Float32Array.from({ length: program.parameterCount }, () => draws.normal());
}

function randomBatch({ batch, imageSize, classes }: Program): Batch {
  const draws = new Draws(2, streams.draw, 0, 0);
  return {
    images: Uint8Array.from({ length: batch * imageSize ** 2 * 3 }, () => draws.below(256)),
    labels: Int32Array.from({ length: batch }, () => draws.below(classes)),
  };
}
