/**
 * A test of learning rates (`riffle find-lr`): steps as training would make them, from the weights that it would start from,
 * each at a higher rate than the one before. Nothing of it is kept.
 */

import { resolve } from "node:path";

import { chooseBackend } from "../backends/registry.js";
import { closing } from "../core/closing.js";
import { UsageError } from "../core/error.js";
import type { Reporter } from "../run/events.js";
import { lossScaling } from "../settings/loss-scaling.js";
import type { ResolvedSettings } from "../settings/resolve-settings.js";
import { readCall } from "../settings/read-settings.js";
import { type GivenSettings, settings as table, settingsOf } from "../settings/settings.js";
import { foreseePlan } from "./foresee.js";
import { cachedPlan, planRun } from "./plan.js";
import { prepare } from "./prepare.js";
import { type RateReading, readRates, RunningAway, type TriedRate } from "./rate-curve.js";
import { tryOut } from "./trial.js";

export interface RateTest {
  /** From this rate to that, in so many steps. */
  readonly from: number;
  readonly to: number;
  readonly steps: number;
}

export interface FoundRate extends RateReading {
  readonly tried: readonly TriedRate[];
  /** Whether the loss ran away before the highest rate. */
  readonly diverged: boolean;
  /** Pictures of a step; the rate belongs to them. */
  readonly images_per_step: number;
  readonly train_images: number;
  readonly settings: ResolvedSettings["settings"];
  readonly origins: ResolvedSettings["origins"];
}

/** Steps in a row that are not finite, where the loss is scaled: beyond them it is the rate's doing. */
const MOST_SKIPPED = 20;

/**
 * @param tried hears of every step
 * @throws RiffleError as training would; the signal's reason
 */
export async function findRate(
  asked: GivenSettings,
  test: RateTest,
  report: Reporter = () => undefined,
  tried: (step: TriedRate, done: number) => void = () => undefined,
  signal?: AbortSignal,
): Promise<FoundRate> {
  const given: GivenSettings = { ...readCall(asked, "findRate", settingsOf("train")), mode: "train" };
  const runDir = resolve(given.log_dir ?? table.log_dir.default);
  const warn = (what: string): void => report({ event: "warning", what });
  return closing(async (atEnd) => {
    const planned = await planRun(given, runDir, report, signal, undefined, "trial");
    atEnd(() => planned.data.close());
    if (planned.length.steps === 0) {
      throw new UsageError({
        what: "the classifier is solved and no step is made, so there is no rate to look for",
        where: "option --freeze",
        expected: "--freeze false",
        found: "--freeze",
        safe: "Nothing was trained",
      });
    }
    const backend = await chooseBackend(planned.settings.backend);
    await foreseePlan(planned, backend);
    const plan = await cachedPlan(planned, report, signal);
    atEnd(() => plan.data.close());
    const prepared = await prepare(plan, backend, report, signal);
    atEnd(() => prepared.run.close());
    for (const what of prepared.warnings) warn(what);
    const { settings, origins, shards, data } = plan;
    const made: TriedRate[] = [];
    const away = new RunningAway();
    const { kind } = lossScaling(settings);
    let diverged = false;
    await tryOut(plan, prepared, async (make) => {
      let skipped = 0;
      while (made.length < test.steps && !diverged) {
        const rate = test.from * (test.to / test.from) ** (made.length / Math.max(1, test.steps - 1));
        const { crossEntropy, finite } = await make(rate);
        signal?.throwIfAborted();
        if (!finite && kind !== "none" && ++skipped < MOST_SKIPPED) continue;
        skipped = 0;
        diverged = !finite || away.hears(crossEntropy);
        if (!Number.isFinite(crossEntropy)) continue;
        const step = { rate, loss: crossEntropy };
        made.push(step);
        tried(step, made.length);
      }
    });
    return {
      ...readRates(made, settings.init_from !== undefined),
      tried: made,
      diverged,
      images_per_step: shards.of * settings.batch_size,
      train_images: data.train.size,
      settings,
      origins,
    };
  }, warn);
}
