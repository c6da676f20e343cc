/**
 * What can be known of a run before it has read its data, and before it has made anything: settings that contradict each
 * other, weights that cannot be read or do not fit, too little memory. A start that fails for one of them leaves
 * nothing behind: no folder, no index of records, no cache.
 */

import type { Backend } from "../backends/backend.js";
import { RiffleError } from "../core/error.js";
import { resolveSettings, type SettingsOfWeights } from "../settings/resolve-settings.js";
import type { GivenSettings } from "../settings/settings.js";
import { decodingMemoryOf } from "../data/loader.js";
import { longestLoop } from "./loop.js";
import { refuseTooLargeBatch } from "./memory.js";
import type { Plan } from "./plan.js";
import { emptyState, fillState, memoryOf, programsOf } from "./prepare.js";

/**
 * Of settings alone, those that the weights decide among them. The recipe may depend on how many pictures there are: what
 * both of them refuse is refused.
 *
 * @throws UsageError
 */
export function foresee(given: GivenSettings, ofWeights: SettingsOfWeights, ranks: number): void {
  const refusals = [1, Number.MAX_SAFE_INTEGER].map((pictures) => {
    try {
      resolveSettings(given, pictures, ofWeights, ranks);
      return undefined;
    } catch (error) {
      if (error instanceof RiffleError) return error;
      throw error;
    }
  });
  if (refusals.every((refusal) => refusal !== undefined)) throw refusals[0] as RiffleError;
}

/** Of a plan whose folder and cache are yet to be made. @throws CheckpointError, ResourceError */
export async function foreseePlan(plan: Plan, backend: Backend): Promise<void> {
  const { settings, data, checkpoint } = plan;
  const { programOf, evaluated } = programsOf(plan);
  // What decoding takes depends on the cache, where there is to be one.
  const decoding = settings.cache === "none" ? await decodingMemoryOf(data.train) : 0;
  refuseTooLargeBatch({ ...settings, loop: longestLoop(settings, plan.length) }, (batch, loop) =>
    memoryOf(plan, backend, programOf(batch), evaluated, decoding, loop),
  );
  if (checkpoint !== undefined || settings.init_from === undefined) return;
  const program = programOf(settings.batch_size);
  await fillState(emptyState(program), plan, program);
}
