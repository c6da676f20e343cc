/**
 * Twelve steps of training and a batch of inference, whose numbers are compared between engines, in Node and in a page: nothing
 * here needs Node.
 */

import type { Backend, BackendOptions } from "../../src/backends/backend.js";
import { stateArrays } from "../../src/backends/engine/engine.js";
import { Draws, streams } from "../../src/core/random.js";
import { initialise, initialStatistics } from "../../src/models/initialise.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";

const CLASSES = 37;
const BATCH = 7;
const SIDE = 65;

/** The loss of each step, sums of all arrays after the last, and of the logits. */
export async function twelveSteps(backend: Backend, options: BackendOptions): Promise<string[]> {
  const network = shuffleNetV2({ variant: "torchvision", width: 0.5, classes: CLASSES });
  const program = compile(network, { batch: BATCH, imageSize: SIDE, mode: "train" });
  const draws = new Draws(1, streams.augment, 0, 0);
  const images = Uint8Array.from({ length: BATCH * SIDE * SIDE * 3 }, () => draws.below(256));
  const labels = Int32Array.from({ length: BATCH }, () => draws.below(CLASSES));
  const update = { learningRate: 0.05, momentum: 0.9, nesterov: true, weightDecay: 4e-5, averageDecay: 0.9 };
  const parameters = initialise(program, { version: "he_uniform", seed: 1 });
  const statistics = initialStatistics(program);

  const run = backend.train(program, options);
  await run.writeState({ parameters, statistics, averages: parameters });
  const results = await run.steps({
    batches: Array.from({ length: 12 }, () => ({ images, labels })),
    first: { index: 0, count: 1 },
    loss: { labelSmoothing: 0.1, weightDecay: 4e-5 },
    updates: Array.from({ length: 12 }, () => update),
  });
  const state = await run.readState();
  const numbers = results.map(({ crossEntropy }) => String(crossEntropy));
  for (const name of stateArrays) numbers.push(`${name} ${await sum(state[name])}`);

  const inference = backend.infer(
    compile(network, { batch: BATCH, imageSize: SIDE, mode: "infer" }),
    options,
  );
  await inference.load(state);
  numbers.push(`logits ${await sum(await inference.infer(images, BATCH))}`);
  inference.close();
  run.close();
  return numbers;
}

async function sum(values: Float32Array): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", values.slice());
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
