/**
 * As many epochs as fit into a time (`--budget`): the speed of steps and evaluations is measured on this machine before the
 * first step, and what comes of it is a setting of the run like any other, so a resume measures nothing.
 *
 * Times in seconds.
 */

import { UsageError } from "../core/error.js";
import { subset } from "../data/dataset.js";
import { DEFAULT_PREFETCH } from "../data/loader.js";
import { everybodys, onFirst } from "../distributed/duties.js";
import { score } from "../inference/evaluate.js";
import type { PreparingEvent } from "../run/events.js";
import { badImageLimit } from "../run/run-data.js";
import { parseDuration } from "../settings/duration.js";
import { atEpochs } from "../settings/resolve-settings.js";
import { stepsLeft, trainingSize } from "./growth.js";
import type { Plan } from "./plan.js";
import type { Prepared } from "./prepare.js";
import { runLength, type RunLength, scheduleOf, learningRate } from "../settings/schedule.js";
import { tryOut } from "./trial.js";

/** What was measured. */
export interface Measured {
  /** Of a step, on pictures of the size that the run begins with. */
  readonly step: number;
  /** Of an evaluation of all sets of weights; 0 where nothing is evaluated. */
  readonly evaluation: number;
}

/** Of what is left: machines are not always as fast as they were, and checkpoints are written, too. */
const SPARED = 0.05;

/** For curves, tables and pictures of the report, beside its evaluation. */
const REPORT = 2;

/** Steps before those that count: until the pictures decoded ahead are used up, what is slow does not show. */
const UNTIMED = DEFAULT_PREFETCH + 1;

/** Steps that count take so long together, and there are so many at least. */
const TIMED_SECONDS = 2;
const FEWEST_TIMED = 3;

/** Of the budget that measuring takes, whatever comes of it. */
const MEASURING = 0.05;

/** Batches of an evaluation that are timed. */
const TIMED_BATCHES = 4;

/**
 * The plan with the epochs that fit, all of the command's time counted from `begun` (of `performance.now()`). All ranks call
 * it, and the first one's times are all of theirs.
 *
 * @throws UsageError where not one step fits; the signal's reason
 */
export async function fitToBudget(
  plan: Plan,
  prepared: Prepared,
  begun: number,
  report: (event: PreparingEvent) => void,
  signal: AbortSignal | undefined,
): Promise<Plan> {
  const { settings, checkpoint, ranks } = plan;
  if (settings.budget === undefined || checkpoint !== undefined) return plan;
  const budget = parseDuration(settings.budget, "budget");
  const measured = await measure(plan, prepared, budget, report, signal);
  const told = await onFirst(ranks, "speed", () =>
    Promise.resolve({ ...measured, elapsed: (performance.now() - begun) / 1000 }),
  );
  const epochs = epochsThatFit(plan, told, budget * (1 - SPARED) - told.elapsed);
  if (epochs === undefined) {
    const least = (told.elapsed + costOf(plan, told, 0)) / (1 - SPARED);
    throw new UsageError({
      what: "the time is too short for a step of training",
      where: "option --budget",
      expected: `at least ${Math.ceil(least)}s on this machine`,
      found: `--budget ${settings.budget}`,
      safe: "Nothing was trained",
    });
  }
  const resolved = atEpochs(plan, epochs);
  const length = runLength(resolved.settings, plan.data.train.size);
  // The first step may be on larger pictures than was thought, where so few epochs begin with smaller ones no more.
  const size = trainingSize(0, resolved.settings, length);
  if (size !== prepared.program.imageSize) await prepared.grow(size);
  return { ...plan, ...resolved, length, measured: { step: told.step, evaluation: told.evaluation } };
}

/**
 * The most epochs whose steps, evaluations and report take no longer than `seconds`: in whole epochs, of few in tenths,
 * and of less than one in steps.
 *
 * @returns undefined where no step fits
 */
export function epochsThatFit(plan: Timed, measured: Measured, seconds: number): number | undefined {
  const { stepsPerEpoch } = plan.length;
  const fits = (epochs: number): boolean => costOf(plan, measured, epochs) <= seconds;
  // What each unit begins and ends with, in epochs.
  for (const [unit, from, most] of [
    [1, 10, MOST_EPOCHS],
    [0.1, 1, 10],
    [1 / stepsPerEpoch, 0, 1],
  ] as const) {
    let [low, high] = [Math.round(from / unit), Math.round(most / unit)];
    if (from > 0 && !fits(low * unit)) continue;
    // fits(low), and not high + 1 or it is of no interest.
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (fits(middle * unit)) low = middle;
      else high = middle - 1;
    }
    if (low > 0) return Number((low * unit).toPrecision(12));
  }
  return undefined;
}

/** What the time of a plan depends on. */
type Timed = Pick<Plan, "settings" | "length" | "solves"> & {
  readonly data: { readonly train: { readonly size: number } };
};

/** The setting's largest value. */
const MOST_EPOCHS = 1_000_000;

/** Of steps, evaluations and the report, from the first step on; of 0 epochs that of one step. */
function costOf(
  { settings: given, length: planned, solves, data }: Timed,
  measured: Measured,
  epochs: number,
): number {
  // The rates follow all epochs, wherever --max_train_steps ends them.
  const max_epochs = Math.max(epochs, 1 / planned.stepsPerEpoch);
  const settings = { ...given, max_epochs, max_train_steps: undefined };
  const length = runLength(settings, data.train.size);
  const reported = settings.report ? measured.evaluation + REPORT : 0;
  const evaluations =
    settings.mode === "train" ? 0 : evaluationsIn(length, settings) + Number(solves !== undefined);
  return stepsLeft(0, settings, length) * measured.step + evaluations * measured.evaluation + reported;
}

/** The last step is always evaluated. */
function evaluationsIn(
  { steps, stepsPerEpoch }: RunLength,
  { epochs_between_evals }: Pick<Plan["settings"], "epochs_between_evals">,
): number {
  return Math.ceil(steps / (epochs_between_evals * stepsPerEpoch));
}

async function measure(
  plan: Plan,
  prepared: Prepared,
  budget: number,
  report: (event: PreparingEvent) => void,
  signal: AbortSignal | undefined,
): Promise<Measured> {
  const { settings, length, ranks, shards } = plan;
  const rate = learningRate(scheduleOf(settings, length), 0);
  const begun = performance.now() / 1000;
  const most = MEASURING * budget;
  const step = await tryOut(plan, prepared, async (make) => {
    let from = begun;
    let timed = 0;
    for (let made = 0; ; made++) {
      await make(rate);
      if (ranks.size === 1) signal?.throwIfAborted();
      const now = performance.now() / 1000;
      const isLong = now - begun > most;
      if (made < UNTIMED && !isLong) from = now;
      else timed++;
      const seconds = timed > 0 ? (now - from) / timed : (now - begun) / (made + 1);
      const images_per_second = (shards.of * settings.batch_size) / Math.max(seconds, 1e-9);
      const total = UNTIMED + Math.max(FEWEST_TIMED, Math.ceil(TIMED_SECONDS / Math.max(seconds, 1e-9)));
      report({ event: "preparing", what: "measuring", done: Math.min(made + 1, total), total, images_per_second, seconds_left: 0 }); // prettier-ignore
      const isEnough = timed > 0 && (isLong || (timed >= FEWEST_TIMED && now - from >= TIMED_SECONDS));
      // As many on every rank: the first decides.
      const [isOver] = await everybodys(ranks, "measuring", isEnough);
      if (isOver === true) return seconds;
    }
  });
  return { step, evaluation: await timeOfEvaluation(plan, prepared) };
}

/** From some batches, spread over the set. */
async function timeOfEvaluation(plan: Plan, prepared: Prepared): Promise<number> {
  const { data, settings, model, ranks } = plan;
  const { evaluation, run } = prepared;
  if (evaluation === undefined || data.validation === undefined) return 0;
  const { size } = data.validation;
  const timed = Math.min(size, TIMED_BATCHES * settings.eval_batch_size * ranks.size);
  const part = subset(
    data.validation,
    Uint32Array.from({ length: timed }, (_, i) => Math.floor((i * size) / timed)),
  );
  const { parameters, averages, statistics } = await run.readState();
  const sets = settings.average_decay > 0 ? [parameters, averages] : [parameters];
  const begun = performance.now();
  const options = { model, maxBadImages: badImageLimit(settings), known: plan.unreadable.validation, ranks };
  await score(
    evaluation,
    part,
    sets.map((each) => ({ parameters: each, statistics })),
    options,
    () => undefined,
  );
  return ((performance.now() - begun) / 1000) * (size / timed);
}
