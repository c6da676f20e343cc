/**
 * How the pictures of an inference batch are shared among threads: a portion for each at a time, or all threads on the
 * same ones, step by step. The logits are the same bits.
 */

import { planMemory } from "../../program/plan-memory.js";
import type { Program } from "../../program/program.js";
import type { Tuning } from "../backend.js";

/**
 * Pictures that a thread takes at a time when there are enough for all: their activations stay near its core, nobody
 * waits between steps, and their 7x7 planes (392 or 196 columns) fill vectors nearly whole. Measured at 1.0x, batch 32,
 * two threads of a Zen 3, two runs each, images/s: portions of 8 457 and 458, of 4 368 and 403, all threads on all
 * pictures 337 and 409.
 */
const PORTIONS = [8, 4];

/** Pictures of a portion, 0 for all threads on the same: in training, of few, and where maps of all are kept. */
export function portionOf({ mode, batch, kept }: Program, threads: number, tuning?: Tuning): number {
  if (mode === "train" || kept.length > 0) return 0;
  return tuning?.portion ?? PORTIONS.find((pictures) => batch >= pictures * threads) ?? 0;
}

/** The program for so many pictures. */
export function inPortions(program: Program, batch: number): Program {
  return { ...program, batch, memory: planMemory({ ...program, batch }) };
}
