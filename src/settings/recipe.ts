/**
 * Named recipes: which defaults a run starts from, and what it ends up with.
 *
 * A given setting wins over the recipe, the recipe over the table's default (settings.ts). A run
 * prints and records all of them with their origin, so a checkpoint says why each number is what it is.
 */

import { UsageError } from "../core/error.js";
import { settingNames, settings, type GivenSettings, type SettingName, type Settings } from "./settings.js";

export type RecipeName = NonNullable<Settings["recipe"]>;

export interface Recipe {
  readonly title: string;
  /** Where its numbers come from. */
  readonly source: string;
  readonly values: GivenSettings;
}

/** Below this many training pictures the small-set recipe is the default. */
export const smallSetLimit = 100_000;

export const recipes: { readonly [K in RecipeName]: Recipe } = {
  documented: {
    title: "the published option table: ImageNet, 133 epochs, warm-up and label smoothing",
    source:
      "documentation of ShufflenetV2_ID0371: its table of options (rate 0.06 there, 0.0625 in the text)",
    values: {
      batch_size: 128,
      lr: 0.06,
      end_learning_rate: 1e-6,
      schedule: "linear",
      max_epochs: 133,
      warmup_epochs: 5,
      weight_decay: 4e-5,
      momentum: 0.9,
      nesterov: true,
      label_smoothing: 0.1,
      average_decay: 0.995,
      version: "he_uniform",
      variant: "tensorflow",
      augment: "tensorflow",
      crop_area_min: 0.08,
      epochs_between_evals: 5,
    },
  },

  original: {
    title: "the original training code: no warm-up, no label smoothing",
    source: "TropComplique/shufflenet-v2-tensorflow @ 22e5615: model.py, train.py, input_pipeline.py",
    values: {
      batch_size: 128,
      lr: 0.0625,
      end_learning_rate: 1e-6,
      schedule: "linear",
      max_epochs: 133,
      warmup_epochs: 0,
      weight_decay: 4e-5,
      momentum: 0.9,
      nesterov: true,
      label_smoothing: 0,
      average_decay: 0.995,
      version: "xavier_uniform",
      variant: "tensorflow",
      augment: "tensorflow",
      crop_area_min: 0.08,
      epochs_between_evals: 5,
      eval_batch_size: 512,
      iterations_per_loop: 10,
      precision_mode: "allow_mix_precision",
    },
  },

  torchvision: {
    title: "torchvision's way of training its newer weights, without its heavier augmentations",
    source:
      "pytorch/vision references/classification (rate 0.5 for 8 x 128 images, cosine, warm-up 5, decay 2e-5, " +
      "smoothing 0.1, 600 epochs); without mixup, cutmix, TrivialAugment and erasing, so half the epochs",
    values: {
      batch_size: 128,
      // 0.5 / 8, the linear rule for one device.
      lr: 0.0625,
      end_learning_rate: 0,
      schedule: "cosine",
      max_epochs: 300,
      warmup_epochs: 5,
      weight_decay: 2e-5,
      momentum: 0.9,
      nesterov: false,
      label_smoothing: 0.1,
      average_decay: 0,
      version: "torch",
      variant: "torchvision",
      augment: "torchvision",
      crop_area_min: 0.08,
      epochs_between_evals: 1,
    },
  },

  megvii: {
    title: "the ShuffleNet authors' own training, without its colour jitter",
    source:
      "megvii-model/ShuffleNet-Series @ a96672f, ShuffleNetV2/train.py (rate 0.5 for 1024 images falling linearly to 0, " +
      "decay 4e-5, smoothing 0.1, no warm-up, 300,000 steps: 240 epochs)",
    values: {
      batch_size: 128,
      // 0.5 / 8, the linear rule for an eighth of the batch.
      lr: 0.0625,
      end_learning_rate: 0,
      schedule: "linear",
      max_epochs: 240,
      warmup_epochs: 0,
      weight_decay: 4e-5,
      momentum: 0.9,
      nesterov: false,
      label_smoothing: 0.1,
      average_decay: 0,
      version: "megvii",
      variant: "megvii",
      augment: "torchvision",
      crop_area_min: 0.08,
      epochs_between_evals: 5,
    },
  },

  "small-set": {
    title: "fewer than 100,000 pictures, from scratch",
    source:
      "tuned on 6,000 photographs of 10 classes; the torchvision variant because its " +
      "moving statistics settle in tens of steps, the tensorflow variant's in hundreds; evaluated as near as " +
      "training crops are (Touvron et al. 2019, the train-test resolution discrepancy)",
    values: {
      batch_size: 32,
      lr: 0.2,
      end_learning_rate: 0,
      schedule: "cosine",
      max_epochs: 15,
      warmup_epochs: 2,
      weight_decay: 5e-4,
      weight_decay_on: "matrices",
      momentum: 0.9,
      nesterov: true,
      label_smoothing: 0.1,
      average_decay: 0.99,
      version: "torch",
      variant: "torchvision",
      augment: "torchvision",
      crop_area_min: 0.35,
      eval_crop: 0.75,
      epochs_between_evals: 1,
      save_checkpoints_steps: 200,
    },
  },
};

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

/** The default of a setting as help shows it: "64 images (fits …)" or one value per recipe, or the value in `recipe`. */
export function describeDefault(name: SettingName, recipe?: RecipeName): string {
  const { default: fallback, source, unit } = settings[name];
  const withUnit = (value: unknown): string => `${String(value)}${unit === undefined ? "" : ` ${unit}`}`;
  const chosen = recipe === undefined ? undefined : name === "recipe" ? recipe : recipes[recipe].values[name];
  if (chosen !== undefined) return `${withUnit(chosen)} (recipe ${recipe})`;
  const named = (Object.keys(recipes) as RecipeName[]).flatMap((each) => {
    const value = recipes[each].values[name];
    return value === undefined || recipe !== undefined ? [] : [{ recipe: each, value }];
  });
  if (named.length === 0) return fallback === undefined ? source : `${withUnit(fallback)} (${source})`;
  const distinct = new Map<string, string[]>();
  for (const { recipe: of, value } of named) {
    const text = String(value);
    distinct.set(text, [...(distinct.get(text) ?? []), of]);
  }
  const all = named.length === Object.keys(recipes).length;
  if (distinct.size === 1 && all) return withUnit(named[0]?.value);
  const parts = [...distinct].map(([value, of]) => `${value} in ${of.join(", ")}`);
  return (all ? parts : [...parts, `else ${withUnit(fallback)}`]).join("; ");
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
