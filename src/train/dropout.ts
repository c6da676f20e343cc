/** Which features of the head are dropped, drawn for every batch anew. */

import { Draws, streams } from "../core/random.js";
import type { HeadStep, Program } from "../program/program.js";

/** What draws are a function of, `step` and `shard` (of all of the step's) counted from 0, skipped steps among them. */
interface Place {
  readonly seed: number;
  readonly step: number;
  readonly shard: number;
}

/** [batch, features] of 0 or 1 / (1 - rate); undefined without dropout. */
export function dropoutMask(program: Program, { seed, step, shard }: Place): Float32Array | undefined {
  const head = program.steps.at(-1) as HeadStep;
  if (head.dropout === 0) return undefined;
  const draws = new Draws(seed, streams.dropout, shard, step);
  const kept = 1 / (1 - head.dropout);
  const threshold = head.dropout * 2 ** 32;
  return Float32Array.from({ length: program.batch * head.inputs.length }, () =>
    draws.word() < threshold ? 0 : kept,
  );
}
