/**
 * Whether a run fits into memory, asked before the first step: being killed in the middle of the night
 * is worse than a refusal with a number to try.
 *
 * All sizes are in bytes.
 */

import { readFileSync } from "node:fs";
import { freemem } from "node:os";

import { ResourceError, RiffleError } from "../core/error.js";
import type { Program } from "../program/program.js";

/** Node itself, its threads' stacks, the decoder and the kernels' scratch space: measured at 120 to 160 MB. */
const base = 200 * 2 ** 20;

/** Batches of pictures that the loader keeps in flight. */
const batchesInFlight = 4;

/** Peak of the process while training, evaluation in between counted. */
export function estimateMemory(training: Program, evaluation: Program | undefined): number {
  const arrays = 5 * training.parameterCount + 2 * training.planes.length;
  return (
    base +
    4 * arrays +
    4 * training.memory.size +
    batchesInFlight * pictures(training) +
    (evaluation === undefined ? 0 : 4 * evaluation.memory.size + batchesInFlight * pictures(evaluation))
  );
}

/** What the process may still take, and who says so. */
export interface MemoryLimit {
  readonly bytes: number;
  readonly source: string;
}

/** The tightest of: free memory (control groups counted) and the limit on the address space. */
export function availableMemory(): MemoryLimit {
  const used = process.memoryUsage.rss();
  // Node 20.13 and later know the control group's limit.
  const free = typeof process.availableMemory === "function" ? process.availableMemory() : freemem();
  const limits: MemoryLimit[] = [{ bytes: free + used, source: "free memory" }];
  const addressSpace = addressSpaceLeft();
  if (addressSpace !== undefined) {
    limits.push({ bytes: addressSpace + used, source: "limit on the address space (ulimit -v)" });
  }
  return limits.reduce((tightest, limit) => (limit.bytes < tightest.bytes ? limit : tightest));
}

/**
 * @throws ResourceError with the estimate and the largest batch that fits; `estimateFor` gives the
 * estimate of another batch size, and may itself refuse one that no program can address.
 */
export function refuseTooLargeBatch(
  batch: number,
  estimateFor: (batch: number) => number,
  limit: MemoryLimit = availableMemory(),
): void {
  const needed = orUndefined(() => estimateFor(batch), ResourceError);
  if (needed !== undefined && needed <= limit.bytes) return;
  let fits = 0;
  for (let tooLarge = batch; tooLarge - fits > 1;) {
    const middle = Math.floor((fits + tooLarge) / 2);
    const estimate = orUndefined(() => estimateFor(middle), RiffleError);
    if (estimate !== undefined && estimate <= limit.bytes) fits = middle;
    else tooLarge = middle;
  }
  throw new ResourceError({
    what: "too little memory for this batch",
    where: `--batch_size ${batch}`,
    expected: needed === undefined ? "more than one program can address" : `about ${megabytes(needed)}`,
    found: `${megabytes(limit.bytes)} (${limit.source})`,
    safe: "Nothing was trained or written",
    hint:
      fits > 0
        ? `The largest batch that fits is ${fits}: --batch_size ${fits}`
        : "Not even one image fits: try a smaller --image_size or --width",
  });
}

/** undefined where it refuses with an error of this kind. */
function orUndefined<T>(act: () => T, kind: typeof ResourceError | typeof RiffleError): T | undefined {
  try {
    return act();
  } catch (error) {
    if (error instanceof kind) return undefined;
    throw error;
  }
}

function pictures(program: Program): number {
  return program.batch * program.imageSize ** 2 * 3;
}

/** Linux only; undefined where there is no limit. */
function addressSpaceLeft(): number | undefined {
  try {
    const limits = readFileSync("/proc/self/limits", "utf8");
    const limit = /^Max address space\s+(\d+)/m.exec(limits)?.[1];
    if (limit === undefined) return undefined;
    const status = readFileSync("/proc/self/status", "utf8");
    const usedKilobytes = Number(/^VmSize:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
    return Math.max(0, Number(limit) - usedKilobytes * 1024);
  } catch {
    return undefined;
  }
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6).toLocaleString("en-US")} MB`;
}
