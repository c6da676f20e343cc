/**
 * What wins over what: a given setting over the recipe, the recipe over the table's default (settings.ts).
 *
 * A run prints and records all of them with their origin, so a checkpoint says why each number is what it is.
 */

import { UsageError } from "../core/error.js";
import { type RecipeName, recipes, smallSetLimit } from "./recipe.js";
import { settingNames, settings, type GivenSettings, type SettingName, type Settings } from "./settings.js";

/** Who decided a setting's value. */
export type Origin = "given" | "recipe" | "default";

/** Settings in full, and the origin of each. */
export interface ResolvedSettings {
  readonly settings: Settings & { readonly recipe: RecipeName };
  readonly origins: { readonly [K in SettingName]: Origin };
}

/**
 * All settings of a new run over `trainImages` pictures.
 *
 * A warm-up that was not given takes at most a quarter of the run, so that a short trial of a long
 * recipe needs no second option.
 */
export function resolveSettings(given: GivenSettings, trainImages: number): ResolvedSettings {
  const name: RecipeName = given.recipe ?? (trainImages < smallSetLimit ? "small-set" : "documented");
  const recipe = recipes[name].values;
  const values: Partial<Record<SettingName, unknown>> = {};
  const origins: Partial<Record<SettingName, Origin>> = {};
  for (const key of settingNames) {
    const origin = given[key] !== undefined ? "given" : recipe[key] !== undefined ? "recipe" : "default";
    origins[key] = origin;
    values[key] = origin === "given" ? given[key] : origin === "recipe" ? recipe[key] : settings[key].default;
  }
  values.recipe = name;
  // A closer look belongs to training on random crops; centred pictures are evaluated as they were trained.
  if (values.augment === "none" && origins.eval_crop === "recipe") {
    values.eval_crop = settings.eval_crop.default;
    origins.eval_crop = "default";
  }
  if (origins.warmup_epochs !== "given") {
    values.warmup_epochs = Math.min(values.warmup_epochs as number, (values.max_epochs as number) / 4);
  }
  const resolved = values as ResolvedSettings["settings"];
  refuseContradictions(resolved);
  return { settings: resolved, origins: origins as ResolvedSettings["origins"] };
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
  if ((given.rank_size ?? 1) > 1) {
    refuse("this version trains with one process", "rank_size", "1", "Leave --rank_size out");
  }
  if (given.precision_mode === "force_fp16") {
    refuse(
      "the engine computes in f32 and has no f16",
      "precision_mode",
      "must_keep_origin_dtype, or allow_mix_precision or allow_fp32_to_fp16, which permit f32",
      "Leave --precision_mode out",
    );
  }
  if (given.mode === "evaluate") {
    refuse("evaluating is not training", "mode", "train or train_and_evaluate", "riffle evaluate RUN");
  }
  if (given.log_name !== undefined && (/[\\/]/.test(given.log_name) || OUR_FILES.test(given.log_name))) {
    refuse(
      "the log needs a file name of its own",
      "log_name",
      "a name without folders that no other file of a run has",
      "--log_name train.log",
    );
  }
}

/** Names that mean something in a run's folder. */
const OUR_FILES = /^(\..*|events\.jsonl|recipe\.json|best|step-\d+|checkpoint|model\.ckpt.*)$/;

/** Combinations that no single setting's range can refuse. */
function refuseContradictions(s: Settings): void {
  const refuse = (what: string, expected: string, found: string): never => {
    throw new UsageError({ what, where: "settings", expected, found, safe: "Nothing was written" });
  };
  if (s.warmup_epochs >= s.max_epochs) {
    refuse(
      "the warm-up is as long as the training",
      `--warmup_epochs below --max_epochs ${s.max_epochs}`,
      `--warmup_epochs ${s.warmup_epochs}`,
    );
  }
  if (s.end_learning_rate > s.lr) {
    refuse(
      "the learning rate would rise instead of fall",
      `--end_learning_rate at most --lr ${s.lr}`,
      `--end_learning_rate ${s.end_learning_rate}`,
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
