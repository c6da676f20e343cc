/**
 * One step's gradients of ranks that share one batch norm: `node synchronised-child.js EXCHANGE OUT`, started on two ranks. The
 * first writes them to OUT; a process alone runs the same pictures as one batch.
 */

import { writeFileSync } from "node:fs";

import type { ExchangeKind, TrainingArrays } from "../../src/backends/backend.js";
import { nativeBackend } from "../../src/backends/native/index.js";
import { joinRanks } from "../../src/distributed/join.js";
import { initialise, initialStatistics } from "../../src/models/initialise.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";
import type { Program } from "../../src/program/program.js";

const [side, classes, pictures] = [64, 10, 24];

/** Of the rank's share of the pictures. */
export async function gradientsOf(
  { rank, size }: { readonly rank: number; readonly size: number },
  exchange: ExchangeKind,
): Promise<{ readonly program: Program; readonly gradients: Float32Array; readonly loss: number }> {
  const batch = pictures / size;
  const network = shuffleNetV2({ variant: "torchvision", width: 0.5, classes });
  const program = compile(network, { batch, imageSize: side, mode: "train" });
  const run = nativeBackend.train(program, { threads: 1, exchange, synchronised: true });
  const state: TrainingArrays = await run.readState();
  initialise(program, { version: "torch", seed: 1 }, state.parameters);
  state.statistics.set(initialStatistics(program));
  state.averages.set(state.parameters);
  await run.writeState(state);
  const bytes = side * side * 3;
  const first = rank * batch;
  const images = Uint8Array.from({ length: batch * bytes }, (_, i) =>
    pixel(first + Math.floor(i / bytes), i % bytes),
  );
  const labels = Int32Array.from({ length: batch }, (_, i) => (first + i) % classes);
  const { crossEntropy } = await run.step(
    { images, labels },
    { labelSmoothing: 0, weightDecay: 0 },
    { learningRate: 0, momentum: 0, nesterov: false, weightDecay: 0, averageDecay: 0 },
  );
  return { program, gradients: (await run.readState()).gradients.slice(), loss: crossEntropy };
}

/** Stripes of other colours and widths in every picture. */
function pixel(picture: number, byte: number): number {
  const [x, y] = [Math.floor(byte / 3) % side, Math.floor(byte / (3 * side))];
  const wave = Math.sin((x * (1 + (picture % 5)) + y * (picture % 3)) / 9 + (byte % 3) * picture);
  return Math.round(127 + 100 * wave + ((x * 7 + y * 13 + picture * 29) % 27));
}

const [, script = "", exchange, out] = process.argv;
if (script.endsWith("synchronised-child.js") && out !== undefined) {
  const ranks = await joinRanks(60);
  const { gradients, loss } = await gradientsOf(ranks, exchange as ExchangeKind);
  if (ranks.rank === 0) {
    const bytes = [Float32Array.of(loss), gradients].map(
      ({ buffer }) => new Uint8Array(buffer as ArrayBuffer),
    );
    writeFileSync(out, Buffer.concat(bytes));
  }
  await ranks.close();
}
