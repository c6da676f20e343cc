/**
 * What a run is about to do, decided before anything is allocated: a new one from its settings, a resumed one from its
 * checkpoint, which may not be asked for anything that would change its bits.
 */

import { resolve } from "node:path";

import { CheckpointError, UsageError } from "../core/error.js";
import { shellWord } from "../core/printable.js";
import { type Content, contentOf, replacedIn } from "../data/content.js";
import { USUAL_SHARE } from "../data/held-out.js";
import { ALONE } from "../distributed/alone.js";
import { firstAhead, onFirst } from "../distributed/duties.js";
import type { JoinedRanks } from "../distributed/ranks.js";
import { type ShardShare, shardsOf } from "../distributed/shard-share.js";
import { evaluationSide } from "../data/pictures/augment.js";
import { refuseOccupied, stepFolder } from "../run/checkpoint.js";
import type { Checkpoint, ModelDescription } from "../run/checkpoint-state.js";
import { findResumable } from "../run/find-checkpoint.js";
import type { Reporter } from "../run/events.js";
import {
  rateWarnings,
  refuseUnsupported,
  resolveSettings,
  type ResolvedSettings,
  type SettingsOfWeights,
} from "../settings/resolve-settings.js";
import { settingsOfWeights } from "../weights/initialise-from.js";
import { provideWeights, settingsOfNamed } from "../weights/named-weights.js";
import { type Sample, sampleOf } from "../finetune/new-classifier.js";
import { compile } from "../program/compile.js";
import type { Measured } from "./budget.js";
import { foresee } from "./foresee.js";
import { emptyState, fillState, programsOf } from "./prepare.js";
import { refuseUnreadable, type Unreadable } from "./refuse-unreadable.js";
import { type RunLength, runLength } from "../settings/schedule.js";
import { checkDrawn, type RememberedSplit, rememberedSplit } from "../run/split-record.js";
import {
  dataName,
  openRunData,
  type RunData,
  trainingFingerprint,
  turnedData,
  withCache,
} from "../run/run-data.js";
import { readSettings } from "../settings/read-settings.js";
import { recipes } from "../settings/recipe.js";
import { parseSteps, rangeWords } from "../settings/step-list.js";
import {
  type GivenSettings,
  type SettingName,
  settingNames,
  settings as table,
} from "../settings/settings.js";

/** The plan with the cache that its settings ask for, made first where it is missing. */
export async function cachedPlan(
  plan: Plan,
  report: Reporter,
  signal: AbortSignal | undefined,
): Promise<Plan> {
  const cached = (): Promise<Plan["data"]> => withCache(plan.data, plan.settings, report, signal);
  return { ...plan, data: await firstAhead(plan.ranks, "cache", cached) };
}

/** What is to be trained, before anything is allocated. */
export interface Plan extends ResolvedSettings {
  readonly runDir: string;
  /** Its `train` is what is trained on: the cache, where there is one. */
  readonly data: RunData & { readonly cacheFolder?: string };
  /** Of the training pictures themselves, where they are cached too; absent for synthetic ones. */
  readonly content?: Content;
  readonly model: ModelDescription;
  readonly length: RunLength;
  /** The processes that train together. */
  readonly ranks: JoinedRanks;
  /** Those of this process. */
  readonly shards: ShardShare;
  /** What of the training pictures a new classifier is solved on before the first step; absent where none is. */
  readonly solves?: Sample | undefined;
  /** Pictures that were found unreadable before anything was written, no more than are allowed. */
  readonly unreadable: Unreadable;
  /** Where a resumed run goes on; absent in a new one. */
  readonly checkpoint?: Checkpoint;
  /** From which the epochs were chosen; absent where they were not. */
  readonly measured?: Measured;
  readonly warnings: readonly string[];
}

/**
 * Of several ranks the first reads settings and data before the others, and looks at the pictures for all.
 *
 * @throws UsageError, DataError, CheckpointError; the signal's reason when it aborts before the plan stands. Nothing
 * stays open then.
 */
export async function planRun(
  given: GivenSettings,
  runDir: string,
  report: Reporter,
  signal: AbortSignal | undefined,
  ranks: JoinedRanks = ALONE,
  purpose: Purpose = "run",
): Promise<Plan> {
  const { rank, size } = ranks;
  refuseRankSize(given, size);
  const checked = await firstAhead(ranks, "settings", (): Promise<CheckedNew | CheckedResumed> => {
    return given.resume === undefined ? checkNew(given, runDir, size, purpose) : checkResumed(given, runDir);
  });
  const { settings } = checked;
  refuseUnsupported(settings);
  // A checkpoint that does not say is of one.
  const shards = shardsOf({ shards: settings.shards ?? (isResumed(checked) ? 1 : size), rank, ranks: size });
  refuseSync(settings, shards);
  refuseWindow(settings, ranks);
  const leftOut = isResumed(checked) ? checked.checkpoint.state.bad_images : [];
  const split: RememberedSplit = isResumed(checked)
    ? await rememberedSplit(checked.checkpoint.path, checked.checkpoint.state)
    : {};
  const { record, byNumber } = split;
  const usualShare = isResumed(checked) ? 0 : USUAL_SHARE;
  const seed = settings.seed ?? table.seed.default;
  const options = { seed, usualShare, record, byNumber, leftOut, outputs: [runDir] };
  const data = await firstAhead(ranks, "data", () => openRunData(settings, options, report));
  try {
    if (!isResumed(checked)) await firstAhead(ranks, "weights", () => provideWeights(given, report, signal));
    if (isResumed(checked)) checkDrawn(split, data.record, checked.checkpoint.path);
    const begun = isResumed(checked)
      ? planResumed(checked, runDir, data)
      : planNew(checked, runDir, data, size);
    const { solves, drawn, warnings } =
      begun.checkpoint === undefined ? await solvesOf(begun) : { warnings: [] };
    const plan = drawn === true ? planNew(checked, runDir, data, size, true) : begun;
    const isSolved = (solves ?? plan.checkpoint?.state.solved) !== undefined;
    refuseUnscored(plan);
    const length = runLength(plan.settings, data.train.size, isSolved);
    const content = plan.settings.synthetic ? undefined : await contentOf(data.train);
    if (content !== undefined) refuseReplaced(plan, content);
    // With a budget it is not known yet how many there are.
    if (plan.checkpoint === undefined && settings.budget === undefined)
      refuseStepsBeyond(plan.settings, length);
    refuseNothingToFit(plan, length);
    const turned = turnedData(data, plan.settings);
    return {
      ...plan,
      ...(content === undefined ? {} : { content }),
      data: turned,
      length,
      shards,
      ranks,
      solves,
      warnings: [...plan.warnings, ...warnings],
      unreadable: await onFirst(ranks, "look at the pictures", () =>
        refuseUnreadable(data, settings, report, signal),
      ),
    };
  } catch (error) {
    await data.close();
    throw error;
  }
}

/** A trial leaves nothing in the run's folder, so another run may lie there. */
type Purpose = "run" | "trial";

type Decided = Omit<Plan, "length" | "ranks" | "shards" | "unreadable" | "content" | "solves">;

/**
 * Of a new run: whether its classifier is to be solved, and on what of the pictures; or whether steps have to learn one that the
 * weights do not have.
 *
 * @throws CheckpointError where the weights do not fit, UsageError where a setting needs what is not solved
 */
async function solvesOf(
  plan: Decided,
): Promise<{ readonly solves?: Sample; readonly drawn?: boolean; readonly warnings: string[] }> {
  const { settings, data, model } = plan;
  const { forDrawn } = recipes[settings.recipe];
  const isOfInterest = settings.solve_classifier || forDrawn !== undefined;
  if (settings.init_from === undefined || !isOfInterest) return { warnings: [] };
  const { network } = programsOf(plan);
  const program = compile(network, { batch: 1, imageSize: network.smallestImage, mode: "infer" });
  const isNew = (await fillState(emptyState(program), plan, program)).drawsClassifier;
  const features = program.steps.at(-1)?.inputs.length ?? 0;
  const isAsked = isNew && settings.solve_classifier;
  const solves = isAsked ? sampleOf(data.train.size, model.classes, features) : undefined;
  if (solves !== undefined) return { solves, warnings: [] };
  if (!isNew || forDrawn === undefined) return { warnings: [] };
  const why = isAsked ? `${model.classes} classes are too many to solve it for` : "it is not to be solved";
  const what = `the classifier starts from the seed, for ${why}: what is not given of rates, epochs and batch norms is as for a classifier that steps have to learn`;
  return { drawn: true, warnings: [what] };
}

/** Of as many processes as were started; a resumed run may have had others. @throws UsageError */
function refuseRankSize({ rank_size, ...others }: GivenSettings, size: number): void {
  if (rank_size === undefined || rank_size === size) return;
  const line = others.resume === undefined ? "" : ` -- train --resume ${shellWord(others.resume)}`;
  throw new UsageError({
    what:
      size === 1
        ? "this process was started alone, not as one of several"
        : "another number of processes was started",
    where: "option --rank_size",
    expected: `${size}, or nothing`,
    found: `--rank_size ${rank_size}`,
    safe: "Nothing was read or written",
    hint:
      rank_size === 1
        ? "Leave --rank_size out"
        : `Start that many with npx riffle-vision launch --ranks ${rank_size}${line}`,
  });
}

/** One batch norm over all shards has them computed at the same time. @throws UsageError */
function refuseSync({ sync_batch_norm }: GivenSettings, { count, of }: ShardShare): void {
  if (sync_batch_norm !== true || count === 1) return;
  throw new UsageError({
    what: "one batch norm over all shards needs a process for each",
    where: "option --sync_batch_norm",
    expected: `${of} processes for ${of} shards`,
    found: of === count ? "one process" : `${of / count} processes`,
    safe: "Nothing was read or written",
    hint: `Start ${of} with npx riffle-vision launch --ranks ${of}, or leave --sync_batch_norm out`,
  });
}

/** @throws CheckpointError naming pictures that are not those that the checkpoint was trained on. */
function refuseReplaced({ checkpoint, data, runDir }: Decided, now: Content): void {
  const before = checkpoint?.state.data.content;
  if (before === undefined) return;
  const [first, ...others] = replacedIn(data.train, before, now).map((sample) => data.train.name(sample));
  if (first === undefined) return;
  throw new CheckpointError({
    what: "training pictures were replaced since the checkpoint, so the run cannot continue to the same bits",
    where: first,
    expected: "the pictures that it was trained on, under the same names",
    found: `others of the same length${others.length === 0 ? "" : `; so are ${others.length} more of ${now.length} looked at`}`,
    safe: "The checkpoint is untouched",
    hint: `Put them back, or start a new run from its weights: --init_from ${shellWord(runDir)} --log_dir NEW`,
  });
}

/** @throws UsageError where a budget is given for steps that are not made */
function refuseNothingToFit({ settings: { budget }, checkpoint }: Decided, { steps }: RunLength): void {
  if (budget === undefined || checkpoint !== undefined || steps > 0) return;
  throw new UsageError({
    what: "the classifier is solved and no step is made, so there are no epochs to choose",
    where: "option --budget",
    expected: "--freeze false, or no --budget",
    found: `--budget ${budget} beside --freeze`,
    safe: "Nothing was trained",
  });
}

/** Patience is counted in evaluations. @throws UsageError where there are none */
function refuseUnscored({ settings: { patience, mode }, data, checkpoint }: Decided): void {
  if (patience === 0 || (mode !== "train" && data.validation !== undefined)) return;
  throw new UsageError({
    what: "nothing is evaluated in the run, so no evaluation can end it",
    where: "option --patience",
    expected: mode === "train" ? "--mode train_and_evaluate" : "a validation part, or a share held out",
    found: `--patience ${patience}${mode === "train" ? " beside --mode train" : ""}`,
    safe: checkpoint === undefined ? "Nothing was trained" : "The run is as it was",
    ...(mode === "train" ? {} : { hint: checkpoint === undefined ? "--val_split 0.2" : "--patience 0" }),
  });
}

/** Steps that a run does not make are neither profiled nor dumped. @throws UsageError */
function refuseStepsBeyond(settings: ResolvedSettings["settings"], { steps }: RunLength): void {
  const { profile_steps, profiling, data_dump_flag } = settings;
  if (profile_steps !== undefined && !profiling) {
    throw new UsageError({
      what: "steps to profile are named, but not that any is to be",
      where: "option --profile_steps",
      expected: "--profiling beside it",
      found: `--profile_steps ${profile_steps}`,
      safe: "Nothing was trained",
    });
  }
  for (const name of ["profile_steps", "data_dump_step"] as const) {
    const text = settings[name];
    // The original's scripts name a step whether anything is dumped or not.
    if (text === undefined || (name === "data_dump_step" && !data_dump_flag)) continue;
    const beyond = parseSteps(text, name).find(({ last }) => last > steps);
    if (beyond === undefined) continue;
    throw new UsageError({
      what: "the run does not make these steps",
      where: `option --${name}`,
      expected: `steps 1 to ${steps}`,
      found: rangeWords(beyond),
      safe: "Nothing was trained",
    });
  }
}

interface CheckedNew {
  readonly settings: GivenSettings;
  readonly ofWeights?: SettingsOfWeights;
}

interface CheckedResumed extends CheckedNew {
  readonly checkpoint: Checkpoint;
  readonly damaged: Awaited<ReturnType<typeof findResumable>>["damaged"];
}

function isResumed(checked: CheckedNew): checked is CheckedResumed {
  return "checkpoint" in checked;
}

/** Memory that all ranks see is that of one machine. @throws UsageError */
function refuseWindow({ exchange }: GivenSettings, { machines }: JoinedRanks): void {
  if (exchange !== "window" || machines === 1) return;
  throw new UsageError({
    what: "machines have no memory in common",
    where: "option --exchange",
    expected: "messages, or auto",
    found: `window, on ${machines} machines`,
    safe: "Nothing was read or written",
  });
}

async function checkNew(
  given: GivenSettings,
  runDir: string,
  ranks: number,
  purpose: Purpose,
): Promise<CheckedNew> {
  if (given.data_dir === undefined && given.train_data_dir === undefined && given.synthetic !== true) {
    throw new UsageError({
      what: "there is no data to train on",
      where: "option --data_dir",
      expected: "a folder with a folder of pictures per class, or of TFRecord shards",
      found: "nothing",
      safe: "Nothing was written",
      hint: "Name a folder: npx riffle-vision train photos; or see it work on pictures drawn for you: npx riffle-vision demo",
    });
  }
  const hint = `Continue it with --resume ${shellWord(runDir)}, or name another folder with --log_dir`;
  if (purpose === "run") await refuseOccupied(runDir, hint);
  const places = ["data_dir", "train_data_dir", "eval_data_dir", "cache_dir"] as const;
  const paths = places.flatMap((name) => {
    const path = given[name];
    return path === undefined ? [] : [[name, resolve(path)] as const];
  });
  const settings = { ...given, ...Object.fromEntries(paths), log_dir: runDir };
  const ofWeights =
    given.init_from === undefined
      ? {}
      : (settingsOfNamed(given) ?? (await settingsOfWeights(resolve(given.init_from), given.variant)));
  foresee(given, ofWeights, ranks);
  return { settings, ofWeights };
}

function planNew(
  { settings: given, ofWeights }: CheckedNew,
  runDir: string,
  data: RunData,
  ranks: number,
  drawsClassifier = false,
): Decided {
  const resolved = resolveSettings(given, data.train.size, ofWeights, ranks, drawsClassifier);
  const { variant, width, image_size, num_classes, augment, eval_resize, eval_crop } = resolved.settings;
  const found = data.classes.length;
  if (num_classes !== undefined && num_classes < found) {
    throw new UsageError({
      what: "the network has fewer outputs than the data has classes",
      where: "option --num_classes",
      expected: `at least ${found}`,
      found: `${num_classes}`,
      safe: "Nothing was trained",
    });
  }
  const model: ModelDescription = {
    variant,
    width,
    classes: num_classes ?? found,
    image_size,
    eval_resize: eval_resize ?? evaluationSide(image_size, eval_crop),
    pipeline: augment === "tensorflow" ? "tensorflow" : "torchvision",
    exif_orientation: resolved.settings.exif_orientation,
    class_names: data.classes,
  };
  // Said, so that the run is opened by the same share again.
  const share = data.scored?.share ?? undefined;
  const settings = share === undefined ? resolved.settings : { ...resolved.settings, val_split: share };
  return { ...resolved, settings, runDir, data, model, warnings: rateWarnings(resolved) };
}

async function checkResumed(given: GivenSettings, runDir: string): Promise<CheckedResumed> {
  const { checkpoint, damaged } = await findResumable(resolve(given.resume as string));
  const recorded = readSettings(checkpoint.state.settings);
  const settings = { ...recorded, ...changesOf(given, recorded, checkpoint, runDir) };
  return { settings, checkpoint, damaged };
}

function planResumed(
  { settings: known, checkpoint, damaged }: CheckedResumed,
  runDir: string,
  data: RunData,
): Decided {
  const { state } = checkpoint;
  const settings = { ...unsaid, shards: 1, ...known, resume: undefined } as ResolvedSettings["settings"];
  const fingerprint = trainingFingerprint(data.train, settings);
  if (fingerprint !== state.data.fingerprint) {
    throw new CheckpointError({
      what: "the training data is not that of the checkpoint, so the run cannot continue to the same bits",
      where: dataName(known),
      expected: `${state.data.train_images} pictures, fingerprint ${state.data.fingerprint}`,
      found: `${data.train.size} pictures, fingerprint ${fingerprint}`,
      safe: "The checkpoint is untouched",
      hint: `Start a new run from its weights: --init_from ${shellWord(runDir)} --log_dir NEW`,
    });
  }
  return {
    settings,
    origins: state.origins as ResolvedSettings["origins"],
    runDir,
    data,
    model: state.model,
    checkpoint,
    warnings: damaged.map(
      ({ step, problem }) =>
        `${stepFolder(step)} is not whole and was passed over; going on from ${stepFolder(state.step)} (${problem.message})`,
    ),
  };
}

/** Settings that the command gives another value than the checkpoint holds, all of them allowed to change. */
function changesOf(
  given: GivenSettings,
  recorded: GivenSettings,
  checkpoint: Checkpoint,
  runDir: string,
): GivenSettings {
  const changes: Partial<Record<SettingName, unknown>> = {};
  const refused: SettingName[] = [];
  for (const name of settingNames) {
    if (name === "resume" || given[name] === undefined) continue;
    const isPath = table[name].type === "path";
    const value = isPath ? resolve(given[name] as string) : given[name];
    if (value === recorded[name]) continue;
    if (!table[name].mayChange || name === "log_dir") refused.push(name);
    else changes[name] = value;
  }
  if (refused.length > 0) {
    const list = (of: GivenSettings): string =>
      refused.map((name) => `${name} ${of[name] === undefined ? "not given" : String(of[name])}`).join(", ");
    throw new CheckpointError({
      what: "the checkpoint was trained with other settings than the command gives",
      where: checkpoint.path,
      expected: list(recorded),
      found: list(given),
      safe: "The checkpoint is untouched",
      hint:
        `Leave ${refused.map((name) => `--${name}`).join(", ")} out to resume, ` +
        `or start a new run from its weights: --init_from ${shellWord(runDir)} --log_dir NEW`,
    });
  }
  return changes as GivenSettings;
}

/** A checkpoint of an earlier version lacks settings that are newer; their defaults are what held before. */
const unsaid = Object.fromEntries(settingNames.map((name) => [name, table[name].default]));
