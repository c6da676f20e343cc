/** Named recipes: which defaults a run starts from, each with where its numbers come from. */

import { settings, type GivenSettings, type SettingName, type Settings } from "./settings.js";

export type RecipeName = NonNullable<Settings["recipe"]>;

export interface Recipe {
  readonly title: string;
  /** Where its numbers come from. */
  readonly source: string;
  readonly values: GivenSettings;
  /** What differs for a set of few pictures; `values` holds for those that the recipe was tuned on, and for more. */
  readonly forFew?: (trainImages: number) => GivenSettings;
  /** What differs where a new classifier is drawn and learnt by the steps. */
  readonly forDrawn?: GivenSettings;
  /** Published numbers, kept to the letter: the rate does not follow another batch. */
  readonly keepsRate?: true;
}

/** Below this many training pictures the small-set recipe is the default. */
export const smallSetLimit = 100_000;

const documented: GivenSettings = {
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
};

export const recipes: { readonly [K in RecipeName]: Recipe } = {
  documented: {
    title: "the published option table: ImageNet, 133 epochs, warm-up and label smoothing",
    source:
      "documentation of ShufflenetV2_ID0371: its table of options (rate 0.06 there, 0.0625 in the text)",
    values: documented,
    keepsRate: true,
  },

  original: {
    title: "the original training code: no warm-up, no label smoothing",
    source: "TropComplique/shufflenet-v2-tensorflow @ 22e5615: model.py, train.py, input_pipeline.py",
    values: {
      ...documented,
      lr: 0.0625,
      warmup_epochs: 0,
      label_smoothing: 0,
      version: "xavier_uniform",
      eval_batch_size: 512,
      iterations_per_loop: 10,
      precision_mode: "allow_mix_precision",
    },
    keepsRate: true,
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
      exif_orientation: "apply",
      eval_crop: 0.75,
      epochs_between_evals: 1,
      save_checkpoints_steps: 200,
    },
    forFew: fewFromScratch,
  },

  "fine-tune": {
    title:
      "from weights given (--init_from): a new classifier is solved, then all layers learn at a low rate",
    source:
      "tuned on 245 pictures of 2 classes from torchvision's ImageNet weights (docs/recipes.md), and evaluated as those were",
    values: {
      batch_size: 32,
      lr: 0.001,
      solve_classifier: true,
      batch_norm: "moving",
      end_learning_rate: 0,
      schedule: "cosine",
      max_epochs: 5,
      warmup_epochs: 1,
      weight_decay: 1e-4,
      weight_decay_on: "matrices",
      momentum: 0.9,
      nesterov: true,
      label_smoothing: 0.01,
      average_decay: 0.9,
      version: "torch",
      variant: "torchvision",
      augment: "torchvision",
      crop_area_min: 0.6,
      exif_orientation: "apply",
      epochs_between_evals: 1,
      save_checkpoints_steps: 200,
    },
    // Batches' own statistics: features of some networks are so large that by moving ones such rates diverge.
    forDrawn: {
      lr: 0.005,
      classifier_rate: 100,
      batch_norm: "batch",
      max_epochs: 15,
      label_smoothing: 0.1,
      average_decay: 0.99,
    },
    forFew: (images) => batchOfFew(images),
  },
};

/** Pictures that small-set was tuned on. */
const TUNED_ON = 6000;

/**
 * More passes over fewer pictures, as the root of how many fewer they are: with the same passes a small set makes too
 * few steps to learn anything, with the same steps it is learnt by heart.
 */
function fewFromScratch(images: number): GivenSettings {
  if (images >= TUNED_ON) return {};
  const { max_epochs = 0, warmup_epochs = 0 } = recipes["small-set"].values;
  const times = Math.sqrt(TUNED_ON / images);
  return {
    max_epochs: Math.round(max_epochs * times),
    warmup_epochs,
    epochs_between_evals: Math.floor(times),
    ...batchOfFew(images),
  };
}

/** Of fewer pictures than a batch: the largest power of two that they make. */
function batchOfFew(images: number): GivenSettings {
  return images >= 32 ? {} : { batch_size: 2 ** Math.floor(Math.log2(Math.max(1, images))) };
}

/** The values that recipes have for a setting, each with their names; and whether every recipe has one. */
export function valuesInRecipes(name: SettingName): {
  readonly byValue: ReadonlyMap<Settings[SettingName], readonly RecipeName[]>;
  readonly isComplete: boolean;
} {
  const byValue = new Map<Settings[SettingName], RecipeName[]>();
  const names = Object.keys(recipes) as RecipeName[];
  const having = names.filter((recipe) => recipes[recipe].values[name] !== undefined);
  for (const recipe of having) {
    const value = recipes[recipe].values[name];
    byValue.set(value, [...(byValue.get(value) ?? []), recipe]);
  }
  return { byValue, isComplete: having.length === names.length };
}

/** The default of a setting as help shows it: "64 images (fits …)" or one value per recipe, or the value in `recipe`. */
export function describeDefault(name: SettingName, recipe?: RecipeName): string {
  const { default: fallback, source, unit } = settings[name];
  const withUnit = (value: unknown): string => `${String(value)}${unit === undefined ? "" : ` ${unit}`}`;
  const chosen = recipe === undefined ? undefined : name === "recipe" ? recipe : recipes[recipe].values[name];
  if (chosen !== undefined) return `${withUnit(chosen)} (recipe ${recipe})`;
  const { byValue, isComplete } = valuesInRecipes(name);
  if (recipe !== undefined || byValue.size === 0)
    return fallback === undefined ? source : `${withUnit(fallback)} (${source})`;
  if (byValue.size === 1 && isComplete) return withUnit([...byValue.keys()][0]);
  const parts = [...byValue].map(([value, of]) => `${value} in ${of.join(", ")}`);
  return (isComplete ? parts : [...parts, `else ${withUnit(fallback)}`]).join("; ");
}
