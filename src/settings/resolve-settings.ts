/**
 * What wins over what: a given setting over the recipe, the recipe over the table's default (settings.ts).
 *
 * A run prints and records all of them with their origin, so a checkpoint says why each number is what it is.
 */

import { UsageError } from "../core/error.js";
import { parseDuration } from "./duration.js";
import { type RecipeName, recipes, smallSetLimit } from "./recipe.js";
import { lossScaling } from "./loss-scaling.js";
import { parseSteps } from "./step-list.js";
import { settingNames, settings, type GivenSettings, type SettingName, type Settings } from "./settings.js";

/** Who decided a setting's value; "weights": the file that training starts from, "budget": the time and the machine. */
export type Origin = "given" | "weights" | "recipe" | "default" | "budget";

/** What a file of weights says of its network and of the pictures it saw, or what is published of them. */
export type SettingsOfWeights = Pick<GivenSettings, "variant" | "width" | "image_size" | "eval_resize">;

/** Settings in full, and the origin of each. */
export interface ResolvedSettings {
  readonly settings: Settings & { readonly recipe: RecipeName; readonly shards: number };
  readonly origins: { readonly [K in SettingName]: Origin };
}

/** The recipe of a new run where none is named. */
export function usualRecipe(given: GivenSettings, trainImages: number): RecipeName {
  if (given.init_from !== undefined) return "fine-tune";
  return trainImages < smallSetLimit ? "small-set" : "documented";
}

/**
 * All settings of a new run over `trainImages` pictures; of what is fine-tuned, the network is the one that the weights
 * are of.
 *
 * A warm-up that was not given takes at most a quarter of the run, so that a short trial of a long
 * recipe needs no second option. A rate that was not given follows the pictures of a step.
 *
 * @param ranks as many shards are made where their number is not given
 * @param drawsClassifier whether steps have to learn from nothing a classifier that the weights do not have
 */
export function resolveSettings(
  given: GivenSettings,
  trainImages: number,
  ofWeights: SettingsOfWeights = {},
  ranks = 1,
  drawsClassifier = false,
): ResolvedSettings {
  const name: RecipeName = given.recipe ?? usualRecipe(given, trainImages);
  const { values: usual, forFew, forDrawn } = recipes[name];
  const ofSet = { ...usual, ...forFew?.(trainImages) };
  const recipe: GivenSettings = drawsClassifier ? { ...ofSet, ...forDrawn } : ofSet;
  const weights: GivenSettings = name === "fine-tune" ? ofWeights : {};
  const values: Partial<Record<SettingName, unknown>> = {};
  const origins: Partial<Record<SettingName, Origin>> = {};
  for (const key of settingNames) {
    const decided = [
      ["given", given[key]],
      ["weights", weights[key]],
      ["recipe", recipe[key]],
      ["default", settings[key].default],
    ] as const;
    const [origin, value] = decided.find(([, each]) => each !== undefined) ?? ["default", undefined];
    origins[key] = origin;
    values[key] = value;
  }
  values.recipe = name;
  const shards = given.shards ?? ranks;
  values.shards = shards;
  // TensorFlow's lineage was trained on pictures decoded, cropped and resized its own way.
  if (origins.variant === "weights" && values.variant === "tensorflow" && origins.augment === "recipe") {
    values.augment = "tensorflow";
    origins.augment = "weights";
  }
  if (origins.lr === "recipe")
    values.lr = recipeRate(name, recipe.lr ?? 0, values.batch_size as number, shards);
  if (origins.end_learning_rate === "recipe" && recipes[name].keepsRate === true) {
    values.end_learning_rate = neat(shards * (values.end_learning_rate as number));
  }
  // A closer look belongs to training on random crops; centred pictures are evaluated as they were trained.
  if (values.augment === "none" && origins.eval_crop === "recipe") {
    values.eval_crop = settings.eval_crop.default;
    origins.eval_crop = "default";
  }
  if (origins.warmup_epochs !== "given") {
    values.warmup_epochs = shortWarmup(values.warmup_epochs as number, values.max_epochs as number);
  }
  const resolved = values as ResolvedSettings["settings"];
  if (given.solve_classifier === true && given.init_from === undefined) {
    throw new UsageError({
      what: "a classifier is solved on features of weights from elsewhere",
      where: "option --solve_classifier",
      expected: "--init_from beside it",
      found: "--solve_classifier alone",
      safe: "Nothing was written",
    });
  }
  if (given.budget !== undefined && given.max_epochs !== undefined) {
    throw new UsageError({
      what: "there are two answers to how long the training is",
      where: "option --budget",
      expected: "--budget or --max_epochs",
      found: `--budget ${given.budget} and --max_epochs ${given.max_epochs}`,
      safe: "Nothing was written",
      hint: "Leave one of them out; --max_train_steps may stand beside --budget",
    });
  }
  refuseContradictions(resolved);
  // With a budget the epochs are yet to be chosen.
  if (given.budget === undefined) refuseLongerThanRun(resolved);
  return { settings: resolved, origins: origins as ResolvedSettings["origins"] };
}

/** The same for so many epochs, which the budget decides. @throws UsageError */
export function atEpochs({ settings, origins }: ResolvedSettings, max_epochs: number): ResolvedSettings {
  const { warmup_epochs: warmup } = settings;
  const warmup_epochs = origins.warmup_epochs === "given" ? warmup : shortWarmup(warmup, max_epochs);
  const changed = { ...settings, max_epochs, warmup_epochs };
  refuseLongerThanRun(changed);
  return { settings: changed, origins: { ...origins, max_epochs: "budget" } };
}

/** At most a quarter of the run. */
function shortWarmup(warmup: number, epochs: number): number {
  return Math.min(warmup, epochs / 4);
}

/**
 * A recipe's rate for a step of this many pictures; one that is kept belongs to a batch, and is multiplied by the shards,
 * as its original did it: 0.5 for 8 devices.
 */
function recipeRate(name: RecipeName, lr: number, batch: number, shards: number): number {
  const { values, keepsRate } = recipes[name];
  return keepsRate === true ? neat(shards * lr) : rateAt(batch * shards, { ...values, lr });
}

/** What a rate was before it followed the pictures of a step. */
export interface ScaledRate {
  readonly lr: number;
  readonly batch_size: number;
}

/** The recipe's own rate and batch, where the run's rate was made from them for another step; else null. */
export function scaledRate({ settings: s, origins }: ResolvedSettings): ScaledRate | null {
  const { values, forDrawn } = recipes[s.recipe];
  const { lr = 0, batch_size = 0 } = values;
  const own = [lr, forDrawn?.lr ?? lr].find(
    (rate) => s.lr === recipeRate(s.recipe, rate, s.batch_size, s.shards),
  );
  return origins.lr !== "recipe" || own === undefined || own === s.lr ? null : { lr: own, batch_size };
}

/** What is said of a published rate that is kept at another batch than its own. */
export function rateWarnings({ settings: s, origins }: ResolvedSettings): string[] {
  const { values, keepsRate } = recipes[s.recipe];
  if (keepsRate !== true || origins.lr !== "recipe" || s.batch_size === values.batch_size) return [];
  return [
    `recipe ${s.recipe} keeps its published rate ${values.lr}${s.shards === 1 ? "" : ` for each of ${s.shards} shards`}, which belongs to batch ${values.batch_size}, at batch ` +
      `${s.batch_size}; in proportion it would be --lr ${rateAt(s.batch_size * s.shards, values)}`,
  ];
}

/** In proportion to the batch. Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD", the linear scaling rule. */
export function rateAt(batch: number, of: Pick<GivenSettings, "lr" | "batch_size">): number {
  const { lr = 0, batch_size = 1 } = of;
  return neat((lr * batch) / batch_size);
}

/** Without the last digits, so that 3 * 0.06 is 0.18. */
function neat(rate: number): number {
  return Number(rate.toPrecision(12));
}

/** What the table accepts because the original had it, and this version cannot do. @throws UsageError */
export function refuseUnsupported(given: GivenSettings): void {
  const refuse = (what: string, name: SettingName, expected: string, hint: string): never => {
    throw new UsageError({
      what,
      where: `option --${name}`,
      expected,
      found: `--${name} ${String(given[name])}`,
      safe: "Nothing was read or written",
      hint,
    });
  };
  if (given.mode === "evaluate") {
    refuse("evaluating is not training", "mode", "train or train_and_evaluate", "riffle evaluate RUN");
  }
  const { profile_steps, data_dump_step, budget } = given;
  if (budget !== undefined) parseDuration(budget, "budget");
  if (profile_steps !== undefined) {
    const steps = parseSteps(profile_steps, "profile_steps", 1).map(({ first, last }) => last - first + 1);
    if ((steps[0] ?? 0) > MOST_PROFILED) {
      refuse(
        "a trace of so many steps is more than viewers open",
        "profile_steps",
        `at most ${MOST_PROFILED} steps`,
        "--profile_steps 5-14",
      );
    }
  }
  if (data_dump_step !== undefined) parseSteps(data_dump_step, "data_dump_step");
  if (given.log_name !== undefined && (/[\\/]/.test(given.log_name) || OUR_FILES.test(given.log_name))) {
    refuse(
      "the log needs a file name of its own",
      "log_name",
      "a name without folders that no other file of a run has",
      "--log_name train.log",
    );
  }
}

/** Steps in a profile. */
const MOST_PROFILED = 1000;

/** Names that mean something in a run's folder. */
const OUR_FILES =
  /^(\..*|events\.jsonl|recipe\.json|split\.json|best|profile|dump|step-\d+|checkpoint|model\.ckpt.*)$/;

/** What is counted in epochs and takes all of them. */
function refuseLongerThanRun(s: Settings): void {
  const length = `${s.budget === undefined ? "--max_epochs " : `the epochs that --budget ${s.budget} allows here, `}${s.max_epochs}`;
  const refuse = (what: string, expected: string, found: string): never => {
    throw new UsageError({ what, where: "settings", expected, found, safe: "Nothing was written" });
  };
  if (s.warmup_epochs >= s.max_epochs) {
    refuse(
      "the warm-up is as long as the training",
      `--warmup_epochs below ${length}`,
      `--warmup_epochs ${s.warmup_epochs}`,
    );
  }
  if (s.grow_epochs !== undefined && s.grow_epochs >= s.max_epochs) {
    refuse(
      "no epoch would be left for pictures of the full size",
      `--grow_epochs below ${length}`,
      `--grow_epochs ${s.grow_epochs}`,
    );
  }
}

/** Combinations that no single setting's range can refuse. */
function refuseContradictions(s: Settings): void {
  const refuse = (what: string, expected: string, found: string): never => {
    throw new UsageError({ what, where: "settings", expected, found, safe: "Nothing was written" });
  };
  if (s.sync_batch_norm && s.batch_norm === "moving") {
    refuse(
      "batch norms that keep their statistics have none to share",
      "--batch_norm batch beside --sync_batch_norm",
      "--batch_norm moving",
    );
  }
  if (s.freeze && s.init_from === undefined) {
    refuse(
      "without weights to start from, layers that stay as they are know nothing",
      "--init_from beside --freeze",
      "--freeze alone",
    );
  }
  if (s.mixup > 0 && s.batch_size < 2) {
    refuse(
      "pictures are mixed with others of their batch, and there are none",
      "--batch_size of at least 2 beside --mixup",
      `--batch_size ${s.batch_size}`,
    );
  }
  if (s.grow_from !== undefined && s.grow_from >= s.image_size) {
    refuse(
      "pictures that grow begin smaller than they end",
      `--grow_from below --image_size ${s.image_size}`,
      `--grow_from ${s.grow_from}`,
    );
  }
  if (s.grow_epochs !== undefined && s.grow_from === undefined) {
    refuse(
      "epochs on smaller pictures need their size",
      "--grow_from beside it",
      `--grow_epochs ${s.grow_epochs}`,
    );
  }

  if (s.end_learning_rate > s.lr) {
    refuse(
      "the learning rate would rise instead of fall",
      `--end_learning_rate at most --lr ${s.lr}`,
      `--end_learning_rate ${s.end_learning_rate}`,
    );
  }
  if (s.loss_scale_value !== undefined && lossScaling(s).kind === "none") {
    refuse(
      "the loss is not scaled, so a scale means nothing",
      "--loss_scale dynamic or fixed with --loss_scale_value",
      `--loss_scale_value ${s.loss_scale_value} without it`,
    );
  }
  if (s.checkpoint_format === "tf" && s.variant !== "tensorflow") {
    refuse(
      "TensorFlow's lineage has another network than this variant",
      "--variant tensorflow for --checkpoint_format tf",
      `--variant ${s.variant}`,
    );
  }
  if (s.eval_resize !== undefined && s.eval_resize < s.image_size) {
    refuse(
      "the evaluation crop does not fit the resized picture",
      `--eval_resize at least --image_size ${s.image_size}`,
      `--eval_resize ${s.eval_resize}`,
    );
  }
}
