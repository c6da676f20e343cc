/**
 * Ranks that do not exchange the same, which the handshake would have found: `mpirun -n 2 node unequal-ranks.js WHAT EXCHANGE`.
 * Rank 1 is the one that differs.
 */

import type { ExchangeKind } from "../../src/backends/backend.js";
import { nativeBackend } from "../../src/backends/native/index.js";
import { RiffleError } from "../../src/core/error.js";
import { joinRanks } from "../../src/distributed/join.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";

const [, , what, exchange] = process.argv as [string, string, UnequalIn, ExchangeKind];

/** How many gradients, how many buckets, one batch norm on one of them, how many numbers of one batch norm. */
export type UnequalIn = "gradients" | "buckets" | "kind" | "sums";

try {
  const ranks = await joinRanks(20);
  ranks.watch(20, "");
  const isOther = ranks.rank === 1;
  const width = isOther && (what === "gradients" || what === "sums") ? 1 : 0.5;
  const program = compile(shuffleNetV2({ variant: "torchvision", width, classes: 3 }), {
    batch: 2,
    imageSize: 32,
    mode: "train",
    classifierRate: 1,
    bucketBytes: (isOther && what === "buckets" ? 4096 : 64) * 1024,
  });
  const synchronised = what === "sums" || (what === "kind" && isOther);
  const run = nativeBackend.train(program, { threads: 1, exchange, synchronised });
  const batch = { images: new Uint8Array(2 * 32 * 32 * 3), labels: new Int32Array(2) };
  const update = { learningRate: 0, momentum: 0, nesterov: false, weightDecay: 0, averageDecay: 0 };
  await run.step(batch, { labelSmoothing: 0, weightDecay: 0 }, update);
  process.stdout.write("a step was made\n");
} catch (error) {
  process.stderr.write(`${String(error)}\n`);
  process.exit(error instanceof RiffleError ? error.exitCode : 1);
}
