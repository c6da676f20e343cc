/** What tests need that is there only where the engine was compiled: they are skipped elsewhere, and say so. */

import { closeSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { addonOrUndefined } from "../../src/core/addon.js";
import { flock } from "../../src/core/flock.js";
import type { GivenSettings } from "../../src/settings/settings.js";

/** Options for node:test. @param also a further condition, or why it does not hold */
export function needsNative(also: true | string = true): { skip: false | string } {
  if (addonOrUndefined() === undefined) return { skip: "needs the native engine, which is not built here" };
  return { skip: also === true ? false : also };
}

/** What a run by the original's recipe is given where WebAssembly runs it, which has no bf16; as settings and as options. */
export const inFull: GivenSettings =
  addonOrUndefined() === undefined ? { precision_mode: "must_keep_origin_dtype" } : {};
export const optionsInFull: readonly string[] = Object.entries(inFull).map(
  ([name, value]) => `--${name}=${value}`,
);

/** The same of the kernel's locks, which the addon or the command flock asks for. */
export function needsKernelLocks(): { skip: false | string } {
  const probe = join(tmpdir(), `riffle-lock-${process.pid}`);
  const file = openSync(probe, "w");
  const answer = flock(file);
  closeSync(file);
  rmSync(probe);
  return { skip: typeof answer === "object" && `needs locks of the kernel: ${answer.none}` };
}
