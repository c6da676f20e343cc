/**
 * Three steps in one call on two ranks, of which one overflows on rank 1 alone: `mpirun -n 2 node skipping-child.js EXCHANGE OUT`.
 * Each rank writes to OUT.RANK what it was told of the steps, and what it holds after them.
 */

import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";

import type { ExchangeKind } from "../../src/backends/backend.js";
import { initialLossScale } from "../../src/backends/loss-scale.js";
import { nativeBackend } from "../../src/backends/native/index.js";
import { Draws, streams } from "../../src/core/random.js";
import { joinRanks } from "../../src/distributed/join.js";
import { initialise, initialStatistics } from "../../src/models/initialise.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";
import type { HeadStep } from "../../src/program/program.js";

const [, , exchange, out] = process.argv as [string, string, ExchangeKind, string];
const [batch, side, classes] = [4, 32, 3];

const ranks = await joinRanks(60);
const network = shuffleNetV2({ variant: "torchvision", width: 0.5, classes });
const program = compile(network, { batch, imageSize: side, mode: "train" });
const run = nativeBackend.train(program, { threads: 1, exchange });
const state = await run.readState();
initialise(program, { version: "torch", seed: 1 }, state.parameters);
state.statistics.set(initialStatistics(program));
await run.writeState(state);
run.scaleLoss(initialLossScale("dynamic", 3 * 2 ** 20));

const draws = new Draws(1, streams.draw, 0, ranks.rank);
const images = Uint8Array.from({ length: batch * side * side * 3 }, () => draws.below(256));
const labels = Int32Array.from({ length: batch }, (_, i) => i % classes);
const features = (program.steps.at(-1) as HeadStep).inputs.length;
const update = { learningRate: 0.01, momentum: 0.9, nesterov: true, weightDecay: 1e-4, averageDecay: 0.9 };
const results = await run.steps({
  batches: [0, 1, 2].map(() => ({ images, labels })),
  first: { index: 0, count: 1 },
  loss: { labelSmoothing: 0, weightDecay: 1e-4 },
  dropoutMasks: [0, 1, 2].map((step) => {
    const mask = new Float32Array(batch * features).fill(1);
    if (step === 1 && ranks.rank === 1) mask[5] = Infinity;
    return mask;
  }),
  updates: [update, update, update],
});
const held = await run.readState();
const hash = createHash("sha256");
for (const { buffer, byteOffset, byteLength } of [
  held.parameters,
  held.momentum,
  held.averages,
  held.statistics,
  held.gradients,
])
  hash.update(new Uint8Array(buffer, byteOffset, byteLength));
writeFileSync(
  `${out}.${ranks.rank}`,
  JSON.stringify({
    finite: results.map(({ finite }) => finite),
    scales: results.map(({ lossScale }) => lossScale),
    held: hash.digest("hex"),
  }),
);
await ranks.close();
