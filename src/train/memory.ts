/**
 * Whether a run fits into memory, asked before the first step: being killed in the middle of the night
 * is worse than a refusal with a number to try.
 *
 * All sizes are in bytes.
 */

import type { Backend } from "../backends/backend.js";
import { availableMemory, type MemoryLimit } from "../core/available-memory.js";
import { ResourceError } from "../core/error.js";
import { DEFAULT_PREFETCH } from "../data/loader.js";
import type { Program } from "../program/program.js";
import { rateAt } from "../settings/resolve-settings.js";
import type { Settings } from "../settings/settings.js";

/** Node itself, its threads' stacks, the decoder and the kernels' scratch space: measured at 120 to 160 MB. */
const base = 200 * 2 ** 20;

/** What training needs besides its programs. */
interface Needs {
  /** Bytes that decoding pictures holds. */
  readonly decoding: number;
  /** Batches decoded ahead while training. */
  readonly prefetch: number;
  /** Batches that the engine holds at a time. */
  readonly held: number;
  /** That this process runs in a step. */
  readonly shards: number;
}

/** Peak of the process while training, evaluation in between counted. */
export function estimateMemory(
  backend: Backend,
  training: Program,
  evaluation: Program | undefined,
  { decoding, prefetch, held, shards }: Needs,
): number {
  return (
    base +
    decoding +
    backend.plan(training) +
    sumsAside(shards) * 4 * training.parameterCount +
    (prefetch + held) * pictures(training) +
    (evaluation === undefined ? 0 : backend.plan(evaluation) + (DEFAULT_PREFETCH + 1) * pictures(evaluation))
  );
}

/** Sums of gradients put aside at most while a shard is run: one for each level of the tree below the last. */
function sumsAside(shards: number): number {
  return Math.floor(Math.log2(shards));
}

/**
 * @throws ResourceError with the estimate, the largest batch that fits and the rate that belongs to it, or the longest loop where
 * that is what is too much; `estimateFor` gives the estimate of another batch size and of loops of other numbers of steps.
 */
export function refuseTooLargeBatch(
  { batch_size: batch, lr, loop = 1 }: Pick<Settings, "batch_size" | "lr"> & { readonly loop?: number },
  estimateFor: (batch: number, loop: number) => number,
  limit: MemoryLimit = availableMemory(),
): void {
  const needed = estimateFor(batch, loop);
  if (needed <= limit.bytes) return;
  if (loop > 1 && estimateFor(batch, 1) <= limit.bytes) {
    const longest = largestBelow(loop, (steps) => estimateFor(batch, steps) <= limit.bytes);
    throw new ResourceError({
      what: "too little memory for the pictures of so many steps in one call",
      where: "--iterations_per_loop",
      expected: `about ${megabytes(needed)} for loops of ${loop}`,
      found: `${megabytes(limit.bytes)} (${limit.source})`,
      safe: "Nothing was trained or written",
      hint: `The longest that fits is --iterations_per_loop ${longest}; it changes no result`,
    });
  }
  const fits = largestBelow(batch, (smaller) => estimateFor(smaller, loop) <= limit.bytes);
  throw new ResourceError({
    what: "too little memory for this batch",
    where: `--batch_size ${batch}`,
    expected: `about ${megabytes(needed)}`,
    found: `${megabytes(limit.bytes)} (${limit.source})`,
    safe: "Nothing was trained or written",
    hint:
      fits > 0
        ? `The largest batch that fits is ${fits}, its rate in proportion: --batch_size ${fits} --lr ${rateAt(fits, { lr, batch_size: batch })}`
        : "Not even one image fits: try a smaller --image_size or --width",
  });
}

/** The largest whole number below `tooLarge` that fits; 0 where none does. */
function largestBelow(tooLarge: number, fits: (number: number) => boolean): number {
  let largest = 0;
  while (tooLarge - largest > 1) {
    const middle = Math.floor((largest + tooLarge) / 2);
    if (fits(middle)) largest = middle;
    else tooLarge = middle;
  }
  return largest;
}

function pictures(program: Program): number {
  return program.batch * program.imageSize ** 2 * 3;
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6).toLocaleString("en-US")} MB`;
}
