/**
 * Every setting of a run, once: the command line makes its options and its help from this table, a
 * checkpoint records it in full, so a name, a default or a range cannot differ between them.
 *
 * Names and meanings follow the training system this one re-creates (README, "Names of the options").
 * What a recipe fills in stands in recipe.ts; the defaults here hold where no recipe says otherwise.
 */

import { UsageError } from "../core/error.js";
import { usualEvaluationCrop } from "../data/pictures/augment.js";
import { initialisationVersions } from "../models/initialise.js";
import { variantNames, widths } from "../models/variants.js";

/** The headings under which help lists the settings, in this order. */
export const groups = ["data", "pictures", "network", "learning", "run"] as const;
export type Group = (typeof groups)[number];

/** The commands that take a setting. */
export type Command = "train" | "evaluate" | "predict";

export interface Setting<T> {
  readonly type: "integer" | "number" | "boolean" | "choice" | "path" | "text";
  readonly group: Group;
  readonly commands: readonly Command[];
  /** One line of help, without unit and default. */
  readonly help: string;
  readonly unit?: string;
  /** Value when neither the user nor the recipe gives one; undefined where `source` says what happens. */
  readonly default: T;
  /** Where the default comes from, in a few words. */
  readonly source: string;
  /** Other names for the same setting. */
  readonly aliases?: readonly string[];
  readonly choices?: readonly (string | number)[];
  /** Smallest and largest value allowed. */
  readonly minimum?: number;
  readonly maximum?: number;
  /** Whether a resumed run may be given another value than it started with. */
  readonly mayChange: boolean;
}

const train = ["train"] as const;
const trainAndEvaluate = ["train", "evaluate"] as const;
const all = ["train", "evaluate", "predict"] as const;

export const settings = {
  data_dir: path({
    group: "data",
    commands: trainAndEvaluate,
    help: "folder of pictures: train/<class>/* and val/<class>/*, or <class>/* with --val_split; folder of TFRecord shards: train_shards/ and val_shards/, or shards with --val_split; or .npz files",
    default: undefined,
    source: "must be given",
    mayChange: true,
  }),
  train_data_dir: path({
    group: "data",
    commands: train,
    help: "folder of the training pictures or shards alone, in place of the one in --data_dir",
    default: undefined,
    source: "in data_dir",
    mayChange: true,
  }),
  eval_data_dir: path({
    group: "data",
    commands: trainAndEvaluate,
    help: "folder of the validation pictures or shards alone, in place of the one in --data_dir",
    default: undefined,
    source: "in data_dir",
    mayChange: true,
  }),
  synthetic: flag({
    group: "data",
    commands: trainAndEvaluate,
    help: "generated pictures of noise in place of data: measures speed, needs no --data_dir",
    default: false,
    source: "the documented command line",
    mayChange: false,
  }),
  train_dataset_size: integer({
    group: "data",
    commands: train,
    help: "how many of the training pictures are used, spread evenly over the set; more than there are is refused",
    unit: "images",
    default: undefined,
    source: "all; 1281144 with --synthetic",
    minimum: 2,
    maximum: 2 ** 31 - 1,
    mayChange: false,
  }),
  eval_dataset_size: integer({
    group: "data",
    commands: trainAndEvaluate,
    help: "how many of the validation pictures are used, spread evenly over the set; more than there are is refused",
    unit: "images",
    default: undefined,
    source: "all; none with --synthetic",
    minimum: 1,
    maximum: 2 ** 31 - 1,
    mayChange: true,
  }),
  val_split: number({
    group: "data",
    commands: trainAndEvaluate,
    help: "share of every class held out for validation when there is no validation folder",
    default: undefined,
    source: "the folder's own validation set",
    minimum: 0.001,
    maximum: 0.9,
    mayChange: false,
  }),
  num_classes: integer({
    group: "data",
    commands: trainAndEvaluate,
    help: "outputs of the network; at least as many as the data has classes",
    default: undefined,
    source: "the data's classes",
    minimum: 2,
    maximum: 1_000_000,
    mayChange: false,
  }),
  max_bad_images: integer({
    group: "data",
    commands: all,
    help: "how many files that cannot be decoded are left out before the run stops",
    unit: "files",
    default: 0,
    source: "a broken file is worth knowing about",
    minimum: 0,
    mayChange: true,
  }),
  skip_bad_records: integer({
    group: "data",
    commands: trainAndEvaluate,
    help: "how many damaged records are left out of a set of records before it is refused",
    unit: "records",
    default: 0,
    source: "a damaged shard is worth making again",
    minimum: 0,
    mayChange: true,
  }),
  keys: text({
    group: "data",
    commands: trainAndEvaluate,
    help: "names of the features in records of others: image=KEY,label=KEY and, for boxes, xmin=KEY,ymin=KEY,xmax=KEY,ymax=KEY",
    default: undefined,
    source: "image, label, xmin, ...; or image/encoded, image/class/label, image/object/bbox/xmin, ...",
    mayChange: true,
  }),
  label_offset: integer({
    group: "data",
    commands: trainAndEvaluate,
    help: "the label of the first class in records: 1 where 0 stands for background",
    default: 0,
    source: "labels from 0, as riffle create-tfrecords writes them",
    minimum: 0,
    maximum: 1_000_000,
    mayChange: false,
  }),
  cache: choice(["none", "resized", "decoded"], {
    group: "data",
    commands: train,
    help: "train on pictures made smaller once (shorter side 256 px): resized keeps them on the disk, decoded in memory",
    default: "none",
    source: "the pictures as they are",
    mayChange: false,
  }),
  cache_dir: path({
    group: "data",
    commands: train,
    help: "folder for --cache resized",
    default: undefined,
    source: ".riffle-cache beside the data, else the user's folder for caches",
    mayChange: true,
  }),
  shuffle: flag({
    group: "data",
    commands: train,
    help: "draw each epoch's order anew; false trains in file order",
    default: true,
    source: "usual",
    mayChange: false,
  }),

  image_size: integer({
    group: "pictures",
    commands: trainAndEvaluate,
    help: "height and width of the network's input",
    unit: "px",
    default: 224,
    source: "the paper's",
    minimum: 32,
    maximum: 4096,
    mayChange: false,
  }),
  augment: choice(["tensorflow", "torchvision", "none"], {
    group: "pictures",
    commands: train,
    help: "how training pictures are varied",
    default: "tensorflow",
    source: "the recipe",
    mayChange: false,
  }),
  crop_area_min: number({
    group: "pictures",
    commands: train,
    help: "smallest share of the picture that a training crop covers",
    default: 0.08,
    source: "the recipe; 0.08 in torchvision and TensorFlow",
    minimum: 0.01,
    maximum: 1,
    mayChange: false,
  }),
  flip: flag({
    group: "pictures",
    commands: train,
    help: "mirror half of the training pictures",
    default: true,
    source: "usual",
    mayChange: false,
  }),
  eval_resize: integer({
    group: "pictures",
    commands: all,
    help: "shorter side of a picture before its central crop, in evaluation and prediction",
    unit: "px",
    default: undefined,
    source: "image_size / eval_crop, rounded",
    minimum: 32,
    maximum: 8192,
    mayChange: false,
  }),
  eval_crop: number({
    group: "pictures",
    commands: train,
    help: "share of the shorter side that the central crop covers, in evaluation and prediction",
    default: usualEvaluationCrop,
    source: "224 of 256 px, as everybody has it",
    minimum: 0.1,
    maximum: 1,
    mayChange: false,
  }),

  variant: choice(variantNames, {
    group: "network",
    commands: train,
    help: "whose ShuffleNet V2: padding, batch norm and input differ",
    default: "tensorflow",
    source: "the recipe",
    mayChange: false,
  }),
  width: choice(widths, {
    group: "network",
    commands: train,
    help: "width multiplier of the network",
    default: 1,
    source: "the paper's main network",
    mayChange: false,
  }),
  version: choice(initialisationVersions, {
    group: "network",
    commands: train,
    help: "how the weights are initialised",
    default: "he_uniform",
    source: "the recipe",
    mayChange: false,
  }),
  init_from: path({
    group: "network",
    commands: train,
    help: "run folder, checkpoint or file of weights (safetensors, PyTorch, TensorFlow) that a new run starts from",
    default: undefined,
    source: "weights drawn from the seed",
    mayChange: false,
  }),

  recipe: choice(["documented", "original", "torchvision", "megvii", "small-set"], {
    group: "learning",
    commands: train,
    help: "named set of defaults for what is not given (riffle help recipes)",
    default: undefined,
    source: "small-set below 100,000 pictures, else documented",
    mayChange: false,
  }),
  batch_size: integer({
    group: "learning",
    commands: train,
    help: "pictures per training step",
    unit: "images",
    default: 128,
    source: "the recipe",
    aliases: ["train_batch_size"],
    minimum: 1,
    maximum: 65_536,
    mayChange: false,
  }),
  lr: number({
    group: "learning",
    commands: train,
    help: "peak learning rate",
    default: 0.06,
    source: "the recipe",
    aliases: ["initial_learning_rate"],
    minimum: 0,
    maximum: 1000,
    mayChange: false,
  }),
  end_learning_rate: number({
    group: "learning",
    commands: train,
    help: "learning rate at the end of the decay",
    default: 1e-6,
    source: "the recipe",
    minimum: 0,
    maximum: 1000,
    mayChange: false,
  }),
  schedule: choice(["linear", "cosine"], {
    group: "learning",
    commands: train,
    help: "how the learning rate falls from its peak",
    default: "linear",
    source: "the recipe",
    mayChange: false,
  }),
  max_epochs: number({
    group: "learning",
    commands: train,
    help: "passes over the training pictures",
    unit: "epochs",
    default: 133,
    source: "the recipe",
    aliases: ["num_epochs"],
    minimum: 0.001,
    maximum: 1_000_000,
    mayChange: false,
  }),
  max_train_steps: integer({
    group: "learning",
    commands: train,
    help: "stop after this many steps; the learning rate still follows max_epochs",
    unit: "steps",
    default: undefined,
    source: "all epochs are run",
    aliases: ["max_train_step"],
    minimum: 1,
    mayChange: true,
  }),
  warmup_epochs: number({
    group: "learning",
    commands: train,
    help: "epochs in which the learning rate rises to its peak",
    unit: "epochs",
    default: 5,
    source: "the recipe",
    minimum: 0,
    maximum: 1_000_000,
    mayChange: false,
  }),
  weight_decay: number({
    group: "learning",
    commands: train,
    help: "L2 penalty on the weights",
    default: 4e-5,
    source: "the recipe",
    minimum: 0,
    maximum: 1,
    mayChange: false,
  }),
  weight_decay_on: choice(["variant", "matrices"], {
    group: "learning",
    commands: train,
    help: "what decays: what the variant's own training decayed, or all but batch norms and biases",
    default: "variant",
    source: "the recipe",
    mayChange: false,
  }),
  momentum: number({
    group: "learning",
    commands: train,
    help: "momentum of SGD",
    default: 0.9,
    source: "the recipe",
    minimum: 0,
    maximum: 0.9999,
    mayChange: false,
  }),
  nesterov: flag({
    group: "learning",
    commands: train,
    help: "Nesterov's form of the momentum",
    default: true,
    source: "the recipe",
    mayChange: false,
  }),
  label_smoothing: number({
    group: "learning",
    commands: train,
    help: "share of the target spread evenly over all classes",
    default: 0.1,
    source: "the recipe",
    minimum: 0,
    maximum: 0.9,
    mayChange: false,
  }),
  average_decay: number({
    group: "learning",
    commands: train,
    help: "decay of the running averages of the weights; 0 keeps none",
    default: 0.995,
    source: "the recipe",
    minimum: 0,
    maximum: 0.999999,
    mayChange: false,
  }),
  seed: integer({
    group: "learning",
    commands: train,
    help: "decides every random draw of the run",
    default: 0,
    source: "fixed, so that two runs agree",
    minimum: 0,
    maximum: Number.MAX_SAFE_INTEGER,
    mayChange: false,
  }),

  mode: choice(["train", "train_and_evaluate", "evaluate"], {
    group: "run",
    commands: trainAndEvaluate,
    help: "train without evaluating, train and evaluate by turns, or evaluate a checkpoint (the same as riffle evaluate)",
    default: "train_and_evaluate",
    source: "usual",
    mayChange: true,
  }),
  log_dir: path({
    group: "run",
    commands: trainAndEvaluate,
    help: "folder of the run: checkpoints, best/, events.jsonl, recipe.json",
    default: "./model_1p",
    source: "the documented command line",
    aliases: ["model_dir"],
    mayChange: true,
  }),
  log_name: text({
    group: "run",
    commands: train,
    help: "file in log_dir for a plain log with lines as TensorFlow writes them: global_step/sec: 1.2, loss = 3.4, step = 10",
    default: undefined,
    source: "none is written",
    mayChange: true,
  }),
  checkpoint_dir: path({
    group: "run",
    commands: ["evaluate"],
    help: "folder whose newest whole checkpoint is evaluated: a run of ours, or TensorFlow's checkpoints",
    default: undefined,
    source: "log_dir",
    mayChange: true,
  }),
  resume: path({
    group: "run",
    commands: train,
    help: "run folder or checkpoint to continue, to the same bits as if it had never stopped",
    default: undefined,
    source: "a new run",
    mayChange: true,
  }),
  do_checkpoint: flag({
    group: "run",
    commands: train,
    help: "write checkpoints; without any, a run cannot be resumed, evaluated or used",
    default: true,
    source: "the documented command line",
    mayChange: true,
  }),
  checkpoint_format: choice(["riffle", "tf"], {
    group: "run",
    commands: train,
    help: "tf writes TensorFlow's checkpoints (model.ckpt-N) beside our own, for the tensorflow variant",
    default: "riffle",
    source: "our own",
    mayChange: true,
  }),
  save_checkpoints_steps: integer({
    group: "run",
    commands: train,
    help: "steps between checkpoints",
    unit: "steps",
    default: 1000,
    source: "the documented command line",
    minimum: 1,
    mayChange: true,
  }),
  keep_checkpoint_max: integer({
    group: "run",
    commands: train,
    help: "newest checkpoints kept, besides best/",
    unit: "checkpoints",
    default: 5,
    source: "TensorFlow's default",
    minimum: 1,
    maximum: 10_000,
    mayChange: true,
  }),
  epochs_between_evals: integer({
    group: "run",
    commands: train,
    help: "epochs between evaluations on the validation set; the last step is always evaluated",
    unit: "epochs",
    default: 5,
    source: "the recipe",
    minimum: 1,
    mayChange: true,
  }),
  eval_batch_size: integer({
    group: "run",
    commands: all,
    help: "pictures per evaluation or prediction batch; does not change the result",
    unit: "images",
    default: 64,
    source: "fits small memories at full speed",
    minimum: 1,
    maximum: 65_536,
    mayChange: true,
  }),
  log_steps: integer({
    group: "run",
    commands: train,
    help: "steps between step lines in events.jsonl",
    unit: "steps",
    default: 10,
    source: "about one line a second",
    minimum: 1,
    mayChange: true,
  }),
  iterations_per_loop: integer({
    group: "run",
    commands: train,
    help: "steps between reports: log lines, progress and summaries come at the end of a loop",
    unit: "steps",
    default: 1,
    source: "every step is reported",
    minimum: 1,
    maximum: 1_000_000,
    mayChange: true,
  }),
  save_summary_steps: integer({
    group: "run",
    commands: train,
    help: "steps between summaries for TensorBoard; 0 writes none",
    unit: "steps",
    default: 100,
    source: "the documented command line",
    minimum: 0,
    mayChange: true,
  }),
  precision_mode: choice(
    ["must_keep_origin_dtype", "allow_mix_precision", "allow_fp32_to_fp16", "force_fp16"],
    {
      group: "run",
      commands: train,
      help: "which number formats may be used; this engine computes in f32, which all but force_fp16 permit",
      default: "must_keep_origin_dtype",
      source: "what the engine does",
      mayChange: true,
    },
  ),
  rank_size: integer({
    group: "run",
    commands: train,
    help: "processes that train together; this version trains with 1",
    unit: "processes",
    default: 1,
    source: "the documented command line",
    minimum: 1,
    maximum: 65_536,
    mayChange: false,
  }),
  threads: integer({
    group: "run",
    commands: all,
    help: "threads of the engine; does not change the result",
    unit: "threads",
    default: undefined,
    source: "one per available core",
    minimum: 1,
    maximum: 1024,
    mayChange: true,
  }),
} as const;

export type SettingName = keyof typeof settings;

/** A value for every setting. */
export type Settings = {
  readonly [K in SettingName]: (typeof settings)[K] extends Setting<infer T> ? T : never;
};

/** What a user gave: any of the settings. */
export type GivenSettings = { readonly [K in SettingName]?: Settings[K] | undefined };

export const settingNames = Object.keys(settings) as readonly SettingName[];

/** The setting that `name` or one of its aliases stands for; dashes and underscores are alike. */
export function findSetting(name: string): SettingName | undefined {
  const wanted = name.replace(/^--/, "").replaceAll("-", "_");
  return settingNames.find((key) => key === wanted || settings[key].aliases?.includes(wanted));
}

/**
 * The value of one setting from text (the command line) or from a value already typed (the API, JSON).
 *
 * @throws UsageError naming the option, what was expected and what was found.
 */
export function readSetting<K extends SettingName>(name: K, given: unknown): NonNullable<Settings[K]> {
  const setting: Setting<unknown> = settings[name];
  const value = typeof given === "string" ? fromText(setting, given.trim()) : given;
  if (!accepts(setting, value)) {
    throw new UsageError({
      what: `--${name} cannot be ${quote(given)}`,
      where: `option --${name}`,
      expected: expectation(name),
      found: quote(given),
      safe: "Nothing was read or written",
      hint: `It sets: ${setting.help}`,
    });
  }
  return value as NonNullable<Settings[K]>;
}

/** Reads every given value; a name that is no setting is refused. */
export function readSettings(given: Readonly<Record<string, unknown>>): GivenSettings {
  const read: Partial<Record<SettingName, unknown>> = {};
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const name = findSetting(key);
    if (name === undefined) {
      throw new UsageError({
        what: `there is no setting ${quote(key)}`,
        where: `option --${key}`,
        expected: `one of ${settingNames.join(", ")}`,
        found: quote(key),
        safe: "Nothing was read or written",
        hint: "riffle train --help lists them",
      });
    }
    read[name] = readSetting(name, value);
  }
  return read as GivenSettings;
}

/** What a setting accepts, in words: "a whole number from 1 to 65536 (images)". */
export function expectation(name: SettingName): string {
  const { type, choices, minimum, maximum, unit }: Setting<unknown> = settings[name];
  if (type === "choice") return `one of ${(choices ?? []).join(", ")}`;
  if (type === "boolean") return "true or false";
  if (type === "path") return "a path";
  if (type === "text") return "text";
  const range =
    minimum === undefined
      ? ""
      : maximum === undefined
        ? ` of at least ${minimum}`
        : ` from ${minimum} to ${maximum}`;
  return `a ${type === "integer" ? "whole number" : "number"}${range}${unit === undefined ? "" : ` (${unit})`}`;
}

type Row<T> = Omit<Setting<T>, "type" | "choices">;

function integer<const D extends number | undefined>(row: Row<D>): Setting<D | number> {
  return { ...row, type: "integer" };
}

function number<const D extends number | undefined>(row: Row<D>): Setting<D | number> {
  return { ...row, type: "number" };
}

function flag(row: Row<boolean>): Setting<boolean> {
  return { ...row, type: "boolean" };
}

function path<const D extends string | undefined>(row: Row<D>): Setting<D | string> {
  return { ...row, type: "path" };
}

function text<const D extends string | undefined>(row: Row<D>): Setting<D | string> {
  return { ...row, type: "text" };
}

function choice<const C extends string | number, const D extends C | undefined>(
  choices: readonly C[],
  row: Row<D>,
): Setting<C | D> {
  return { ...row, type: "choice", choices };
}

/** The typed value a text stands for; the text itself where it stands for none, for `accepts` to refuse. */
function fromText(setting: Setting<unknown>, text: string): unknown {
  switch (setting.type) {
    case "integer":
    case "number":
      return decimal(text) ?? text;
    case "boolean":
      if (/^(true|yes|on|1)$/i.test(text)) return true;
      return /^(false|no|off|0)$/i.test(text) ? false : text;
    case "choice": {
      // Widths are written 1.0, 1 and 1.0x alike.
      const value = decimal(text.replace(/x$/i, ""));
      return typeof setting.choices?.[0] === "number" ? (value ?? text) : text;
    }
    case "path":
    case "text":
      return text;
  }
}

/** Decimal notation only: Number("") is 0 and Number("0x10") is 16, which nobody means. */
function decimal(text: string): number | undefined {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : undefined;
}

function accepts(setting: Setting<unknown>, value: unknown): boolean {
  switch (setting.type) {
    case "integer":
    case "number":
      return (
        typeof value === "number" &&
        Number.isFinite(value) &&
        (setting.type === "number" || Number.isSafeInteger(value)) &&
        value >= (setting.minimum ?? -Infinity) &&
        value <= (setting.maximum ?? Infinity)
      );
    case "boolean":
      return typeof value === "boolean";
    case "choice":
      return (typeof value === "string" || typeof value === "number") && setting.choices!.includes(value);
    case "path":
    case "text":
      return typeof value === "string" && value.length > 0 && !value.includes("\0");
  }
}

function quote(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}
