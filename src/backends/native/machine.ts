/**
 * What the engine found on this machine, and what the machine can do at best.
 */

import { availableParallelism } from "node:os";

import { ResourceError, UsageError } from "../../core/error.js";
import type { BackendOptions } from "../backend.js";
import { engine } from "./engine.js";

export interface Machine {
  /** The instruction set that kernels run on: the widest found, or the one that was asked for. */
  readonly isa: string;
  /** Whether RIFFLE_ISA, or the caller, asked for it. */
  readonly forced: boolean;
  /** All that this build has and this machine runs, plainest first. */
  readonly available: readonly string[];
  /** Threads that an engine with `threads: 0` uses. */
  readonly threads: number;
  /** The compiler that built the addon: "GCC 12.2.0". */
  readonly compiler: string;
  /** Whether JPEG files go through libjpeg-turbo (else through sharp). */
  readonly libjpeg: boolean;
}

/**
 * The machine, for kernels of the instruction set `isa`, else of the one that RIFFLE_ISA names.
 *
 * @throws UsageError when that set is not here.
 */
export function machine(isa?: string): Machine {
  const found = engine().machine();
  const wanted = isa ?? process.env["RIFFLE_ISA"] ?? "";
  // "wide" runs the 16-lane kernels on narrower hardware; only tests want it.
  if (wanted !== "" && wanted !== "wide" && !found.available.includes(wanted)) {
    throw new UsageError({
      what: "this machine or this build lacks the instruction set that is asked for",
      where: isa === undefined ? "environment variable RIFFLE_ISA" : "option --isa",
      expected: found.available.join(", "),
      found: wanted,
      hint: "Without it the widest is used",
    });
  }
  return {
    isa: wanted || (found.available.at(-1) ?? ""),
    forced: wanted !== "",
    available: found.available,
    threads: availableParallelism(),
    compiler: found.compiler,
    libjpeg: found.libjpeg,
  };
}

/** The machine's two roofs, per second; takes about a second. */
export async function measurePeak(
  options: BackendOptions,
): Promise<{ gflops: number; copyGigabytes: number }> {
  const { threads, isa } = machine(options.isa);
  const [gflops, copyGigabytes] = await engine().measurePeak(options.threads || threads, isa);
  return { gflops, copyGigabytes };
}

/** The addon's own words for want of memory become ours. */
export function memoryError(error: unknown, bytes: number): unknown {
  if (!(error instanceof Error) || (error as { code?: unknown }).code !== "RIFFLE_MEMORY") return error;
  return new ResourceError(
    {
      what: "there is not enough memory for the network's activations",
      expected: `${Math.ceil(bytes / 2 ** 20).toLocaleString("en")} MB for the engine's buffers`,
      hint: "Use a smaller --batch_size or --image_size",
    },
    error,
  );
}
