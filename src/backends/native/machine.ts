/**
 * What the addon found on this machine.
 */

import { availableParallelism } from "node:os";

import { environment } from "../../core/environment.js";
import { UsageError } from "../../core/error.js";
import type { Machine } from "../backend.js";
import { engine } from "./engine.js";

/**
 * The machine, for kernels of the instruction set `isa`, else of the one that RIFFLE_ISA names.
 *
 * @throws UsageError when that set is not here.
 */
export function machine(isa?: string): Machine {
  const found = engine().machine();
  const wanted = isa ?? environment("RIFFLE_ISA") ?? "";
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
  };
}
