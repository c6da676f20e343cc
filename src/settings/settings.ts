/**
 * Every setting of a run, once: the command line makes its options and its help from this table, a
 * checkpoint records it in full, so a name, a default or a range cannot differ between them.
 *
 * Names and meanings follow the training system this one re-creates (docs/parameters.md).
 * What a recipe fills in stands in recipe.ts; the defaults here hold where no recipe says otherwise.
 */

import { backendNames } from "../backends/names.js";
import { usualEvaluationCrop } from "../data/pictures/augment.js";
import { orientationRules } from "../data/pictures/orientation.js";
import { splits } from "../data/split-names.js";
import { initialisationVersions } from "../models/initialise.js";
import { variantNames, widths } from "../models/variants.js";
import {
  choice,
  type Command,
  flag,
  inGroup,
  integer,
  number,
  path,
  type Setting,
  text,
} from "./setting-kinds.js";

const trainAndEvaluate = ["train", "evaluate"] as const;
const all = ["train", "evaluate", "predict"] as const;

export const settings = {
  ...inGroup("data", {
    data_dir: path({
      commands: trainAndEvaluate,
      help: "folder of pictures: train/<class>/* and val/<class>/*, or <class>/*; folder of TFRecord shards: train_shards/ and val_shards/, or shards whose names say their part; or .npz files",
      source: "must be given",
      mayChange: true,
    }),
    train_data_dir: path({
      help: "folder of the training pictures or shards alone, in place of the one in --data_dir",
      source: "in data_dir",
      mayChange: true,
    }),
    eval_data_dir: path({
      commands: trainAndEvaluate,
      help: "folder of the validation pictures or shards alone, in place of the one in --data_dir",
      source: "in data_dir",
      mayChange: true,
    }),
    synthetic: flag({
      commands: trainAndEvaluate,
      help: "generated pictures of noise in place of data: measures speed, needs no --data_dir",
      default: false,
      source: "the documented command line",
    }),
    train_dataset_size: integer({
      help: "how many of the training pictures are used, spread evenly over the set; more than there are is refused",
      unit: "images",
      source: "all; 1281144 with --synthetic",
      range: [2, 2 ** 31 - 1],
    }),
    eval_dataset_size: integer({
      commands: trainAndEvaluate,
      help: "how many of the validation pictures are used, spread evenly over the set; more than there are is refused",
      unit: "images",
      source: "all; none with --synthetic",
      range: [1, 2 ** 31 - 1],
      mayChange: true,
    }),
    val_split: number({
      commands: trainAndEvaluate,
      help: "share of every class held out of training and scored, of data without a validation or test part; 0 holds out nothing",
      source: "0.2 where the data have no validation or test part",
      range: [0, 0.9],
    }),
    split: choice(splits, {
      commands: ["evaluate"],
      help: "which part is scored: the validation part or what was held out, the test part, or, only by this word, what was trained on",
      source: "validation; test where there is no other",
      mayChange: true,
    }),
    num_classes: integer({
      commands: trainAndEvaluate,
      help: "outputs of the network; at least as many as the data has classes",
      source: "the data's classes",
      range: [2, 1_000_000],
    }),
    max_bad_images: integer({
      commands: all,
      help: "how many files that cannot be decoded are left out before the run stops",
      unit: "files",
      default: 0,
      source: "a broken file is worth knowing about",
      range: [0],
      mayChange: true,
    }),
    skip_bad_records: integer({
      commands: trainAndEvaluate,
      help: "how many damaged records are left out of a set of records before it is refused",
      unit: "records",
      default: 0,
      source: "a damaged shard is worth making again",
      range: [0],
      mayChange: true,
    }),
    keys: text({
      commands: trainAndEvaluate,
      help: "names of the features in records of others: image=KEY,label=KEY and, for boxes, xmin=KEY,ymin=KEY,xmax=KEY,ymax=KEY",
      source: "image, label, xmin, ...; or image/encoded, image/class/label, image/object/bbox/xmin, ...",
      mayChange: true,
    }),
    label_offset: integer({
      commands: trainAndEvaluate,
      help: "the label of the first class in records and .npz files: 1 where they are counted from 1, or 0 stands for background",
      default: 0,
      source: "labels from 0, as riffle create-tfrecords writes them",
      range: [0, 1_000_000],
    }),
    cache: choice(["none", "resized", "decoded"], {
      help: "train on pictures made smaller once (shorter side 256 px): resized keeps them on the disk, decoded in memory",
      default: "none",
      source: "the pictures as they are",
    }),
    cache_dir: path({
      help: "folder for --cache resized",
      source: ".riffle-cache beside the data, else the user's folder for caches",
      mayChange: true,
    }),
    shuffle: flag({
      help: "draw each epoch's order anew; false trains in file order",
      default: true,
      source: "usual",
    }),
  }),

  ...inGroup("pictures", {
    image_size: integer({
      commands: trainAndEvaluate,
      help: "height and width of the network's input",
      unit: "px",
      default: 224,
      source: "the paper's",
      range: [32, 4096],
    }),
    grow_from: integer({
      help: "height and width of the training pictures in the first epochs, which are faster for it; then they are of image_size",
      unit: "px",
      source: "image_size from the first step on",
      range: [32, 4096],
    }),
    grow_epochs: number({
      help: "epochs on pictures of grow_from",
      unit: "epochs",
      source: "with grow_from, half of max_epochs",
      range: [0, 1_000_000],
    }),
    augment: choice(["tensorflow", "torchvision", "none"], {
      help: "how training pictures are varied",
      default: "tensorflow",
    }),
    crop_area_min: number({
      help: "smallest share of the picture that a training crop covers",
      default: 0.08,
      source: "the recipe; 0.08 in torchvision and TensorFlow",
      range: [0.01, 1],
    }),
    flip: flag({
      help: "mirror half of the training pictures",
      default: true,
      source: "usual",
    }),
    eval_resize: integer({
      commands: all,
      help: "shorter side of a picture before its central crop, in evaluation and prediction",
      unit: "px",
      source: "image_size / eval_crop, rounded",
      range: [32, 8192],
    }),
    exif_orientation: choice(orientationRules, {
      commands: all,
      help: "apply: turn each picture as its EXIF says that the camera was held; ignore: take it as it is stored, as TensorFlow's and torchvision's training do",
      default: "ignore",
      source:
        "as stored; evaluate and predict follow the training, and predict applies it for weights from elsewhere",
    }),
    eval_crop: number({
      help: "share of the shorter side that the central crop covers, in evaluation and prediction",
      default: usualEvaluationCrop,
      source: "224 of 256 px, as everybody has it",
      range: [0.1, 1],
    }),
  }),

  ...inGroup("network", {
    variant: choice(variantNames, {
      help: "whose ShuffleNet V2: padding, batch norm and input differ",
      default: "tensorflow",
    }),
    width: choice(widths, {
      help: "width multiplier of the network",
      default: 1,
      source: "the paper's main network",
    }),
    version: choice(initialisationVersions, {
      help: "how the weights are initialised; he_uniorm, as the published table prints its default, is he_uniform",
      default: "he_uniform",
      misprints: { he_uniorm: "he_uniform" },
    }),
    init_from: path({
      help: "what a new run starts from: a run folder, checkpoint or file of weights (safetensors, PyTorch, TensorFlow); or weights by name, fetched at their first use: imagenet, which is torchvision/1.0x, or torchvision/0.5x, 1.5x, 2.0x",
      source: "weights drawn from the seed",
      aliases: ["from"],
    }),
    offline: flag({
      commands: all,
      help: "weights that are named are never fetched, only taken from where they were kept",
      default: false,
      source: "they are fetched once",
      mayChange: true,
    }),
  }),

  ...inGroup("learning", {
    recipe: choice(["documented", "original", "torchvision", "megvii", "small-set", "fine-tune"], {
      help: "named set of defaults for what is not given (npx riffle-vision help recipes)",
      source: "fine-tune with --init_from, small-set below 100,000 pictures, else documented",
    }),
    batch_size: integer({
      help: "pictures of each shard of a training step; there is one shard unless --shards or several processes make more",
      unit: "images",
      default: 128,
      aliases: ["train_batch_size"],
      range: [1, 65_536],
    }),
    lr: number({
      help: "peak learning rate",
      default: 0.06,
      aliases: ["initial_learning_rate"],
      range: [0, 1000],
    }),
    classifier_rate: number({
      help: "the classifier's learning rate, as a multiple of every other layer's",
      default: 1,
      source: "one rate for all",
      range: [0, 1000],
    }),
    solve_classifier: flag({
      help: "with --init_from: solve a classifier that the weights do not have on features of the network as it is, before the first step; false draws it, to be learnt by more steps at other rates",
      default: false,
      source: "drawn, and learnt by the steps",
    }),
    class_weights: choice(["none", "balanced"], {
      help: "balanced: every class counts as much as another, however few its pictures, in the loss of steps and in a classifier that is solved; a picture's loss is multiplied by pictures / (classes * pictures of its class), which is 1 on average",
      default: "none",
      source: "every picture counts as much as another",
    }),
    freeze: flag({
      help: "with --init_from: only the classifier learns, all else stays as it is; where it is solved, no step is made",
      default: false,
      source: "all layers learn",
    }),
    batch_norm: choice(["batch", "moving"], {
      help: "what batch norms are given in training: each batch's own statistics, or the moving ones, which then stay those of the weights, or those measured before the first step where the weights' own do not fit them",
      default: "batch",
      source: "Ioffe and Szegedy 2015",
    }),
    end_learning_rate: number({
      help: "learning rate at the end of the decay",
      default: 1e-6,
      range: [0, 1000],
    }),
    schedule: choice(["linear", "cosine"], {
      help: "how the learning rate falls from its peak",
      default: "linear",
    }),
    max_epochs: number({
      help: "passes over the training pictures",
      unit: "epochs",
      default: 133,
      aliases: ["num_epochs"],
      range: [0.001, 1_000_000],
    }),
    budget: text({
      help: "train for as many epochs as fit into this time, 90s, 3m or 1h30m, from the command's beginning to its report; told from the machine's speed, measured before the first step",
      source: "max_epochs are run",
    }),
    max_train_steps: integer({
      help: "stop after this many steps; the learning rate still follows max_epochs",
      unit: "steps",
      source: "all epochs are run",
      aliases: ["max_train_step"],
      range: [1],
      mayChange: true,
    }),
    patience: integer({
      help: "end the run after so many evaluations in a row that were no better than the best before them; 0 runs all epochs",
      unit: "evaluations",
      default: 0,
      source: "all epochs are run",
      range: [0],
      mayChange: true,
    }),
    warmup_epochs: number({
      help: "epochs in which the learning rate rises to its peak",
      unit: "epochs",
      default: 5,
      range: [0, 1_000_000],
    }),
    weight_decay: number({
      help: "L2 penalty on the weights",
      default: 4e-5,
      range: [0, 1],
    }),
    weight_decay_on: choice(["variant", "matrices"], {
      help: "what decays: what the variant's own training decayed, or all but batch norms and biases",
      default: "variant",
    }),
    momentum: number({
      help: "momentum of SGD",
      default: 0.9,
      range: [0, 0.9999],
    }),
    nesterov: flag({
      help: "Nesterov's form of the momentum",
      default: true,
    }),
    label_smoothing: number({
      help: "share of the target spread evenly over all classes",
      default: 0.1,
      range: [0, 0.9],
    }),
    mixup: number({
      help: "alpha of mixup: the pictures of a batch are mixed in pairs, and their labels with them, by shares drawn from Beta(alpha, alpha); 0.2 is usual, 0 mixes none",
      default: 0,
      source: "pictures as they are",
      range: [0, 100],
    }),
    average_decay: number({
      help: "decay of the running averages of the weights; 0 keeps none",
      default: 0.995,
      range: [0, 0.999999],
    }),
    seed: integer({
      help: "decides every random draw of the run",
      default: 0,
      source: "fixed, so that two runs agree",
      range: [0, Number.MAX_SAFE_INTEGER],
    }),
  }),

  ...inGroup("run", {
    mode: choice(["train", "train_and_evaluate", "evaluate"], {
      commands: trainAndEvaluate,
      help: "train without evaluating, train and evaluate by turns, or evaluate a checkpoint (the same as riffle evaluate)",
      default: "train_and_evaluate",
      source: "usual",
      mayChange: true,
    }),
    log_dir: path({
      commands: trainAndEvaluate,
      help: "folder of the run: checkpoints, best/, events.jsonl, recipe.json",
      default: "./model_1p",
      source: "the documented command line",
      aliases: ["model_dir"],
      mayChange: true,
    }),
    log_name: text({
      help: "file in log_dir for a plain log with lines as TensorFlow writes them: global_step/sec: 1.2, loss = 3.4, step = 10",
      source: "none is written",
      mayChange: true,
    }),
    report: flag({
      commands: trainAndEvaluate,
      help: "write report.html and model-card.md into log_dir when training has ended, or when what a run held out was evaluated; takes an evaluation more at the end of training",
      default: true,
      source: "a run that explains itself",
      mayChange: true,
    }),
    checkpoint_dir: path({
      commands: ["evaluate"],
      help: "folder whose newest whole checkpoint is evaluated: a run of ours, or TensorFlow's checkpoints",
      source: "log_dir",
      mayChange: true,
    }),
    resume: path({
      help: "run folder or checkpoint to continue, to the same bits as if it had never stopped",
      source: "a new run",
      mayChange: true,
    }),
    do_checkpoint: flag({
      help: "write checkpoints; without any, a run cannot be resumed, evaluated or used",
      default: true,
      source: "the documented command line",
      mayChange: true,
    }),
    checkpoint_format: choice(["riffle", "tf"], {
      help: "tf writes TensorFlow's checkpoints (model.ckpt-N) beside our own, for the tensorflow variant",
      default: "riffle",
      source: "our own",
      mayChange: true,
    }),
    save_checkpoints_steps: integer({
      help: "steps between checkpoints",
      unit: "steps",
      default: 1000,
      source: "the documented command line",
      range: [1],
      mayChange: true,
    }),
    keep_checkpoint_max: integer({
      help: "newest checkpoints kept, besides best/",
      unit: "checkpoints",
      default: 5,
      source: "TensorFlow's default",
      range: [1, 10_000],
      mayChange: true,
    }),
    epochs_between_evals: integer({
      help: "epochs between evaluations on the validation set; the last step is always evaluated",
      unit: "epochs",
      default: 5,
      range: [1],
      mayChange: true,
    }),
    eval_batch_size: integer({
      commands: all,
      help: "pictures per evaluation or prediction batch; does not change the result",
      unit: "images",
      default: 64,
      source: "fits small memories at full speed",
      range: [1, 65_536],
      mayChange: true,
    }),
    log_steps: integer({
      help: "steps between step lines in events.jsonl",
      unit: "steps",
      default: 10,
      source: "about one line a second",
      range: [1],
      mayChange: true,
    }),
    iterations_per_loop: integer({
      help: "steps that the engine makes in one call, their batches ready in memory; log lines, progress and summaries come at the end of a loop; changes no result",
      unit: "steps",
      default: 1,
      source: "every step is reported",
      range: [1, 1_000_000],
      mayChange: true,
    }),
    save_summary_steps: integer({
      help: "steps between summaries for TensorBoard; 0 writes none",
      unit: "steps",
      default: 100,
      source: "the documented command line",
      range: [0],
      mayChange: true,
    }),
    precision_mode: choice(
      ["must_keep_origin_dtype", "allow_mix_precision", "allow_fp32_to_fp16", "force_fp16"],
      {
        commands: all,
        help: "which number formats may be used: allow_mix_precision (and force_fp16) store maps in bf16, the others compute in f32",
        default: "must_keep_origin_dtype",
        source: "f32 is exact on every machine",
        mayChange: true,
      },
    ),
    loss_scale: choice(["dynamic", "fixed", "none"], {
      help: "what the loss is multiplied by, so that gradients are not too small for a narrow format: dynamic finds the largest scale, fixed keeps one, both pass over steps that are not finite; none ends the run at such a step",
      source: "dynamic in mixed precision, none in f32",
      mayChange: true,
    }),
    loss_scale_value: number({
      help: "the scale that fixed keeps and dynamic begins with",
      source: "2^32, as the original",
      range: [1, 3.4e38],
      mayChange: true,
    }),
    backend: choice(backendNames, {
      commands: all,
      help: "the engine: native is compiled for this machine, wasm is the same engine in WebAssembly, without a compiler and several times slower, reference is plain TypeScript, hundreds of times slower",
      source: "native where it is built, else wasm",
      mayChange: true,
    }),
    threads: integer({
      commands: all,
      help: "threads of the engine; does not change the result",
      unit: "threads",
      source: "one per available core",
      range: [1, 1024],
      mayChange: true,
    }),
    autotune: flag({
      commands: all,
      help: "time how the engine's work is cut for this machine and network, some seconds once, and keep what is faster among the user's caches; changes no result",
      default: false,
      source: "the original's scripts",
      mayChange: true,
    }),
    profiling: flag({
      help: "profile some steps: where time goes by layer, a roofline, a trace of all threads and ranks, in log_dir/profile; changes no result",
      default: false,
      source: "the original's scripts",
      mayChange: true,
    }),
    profile_steps: text({
      help: "the steps that --profiling profiles, one or a range: 7, 5-14",
      source: "the 5th to the 14th that the command makes; of fewer than 10 all",
      mayChange: true,
    }),
    over_dump: flag({
      help: "where a loss or gradient is not finite, name the first layer and tensor that is not, and keep statistics of all in log_dir/dump; changes no result",
      default: false,
      source: "the original's scripts",
      mayChange: true,
    }),
    data_dump_flag: flag({
      help: "write a step's pictures, layers, logits, gradients and weights as .npy into log_dir/dump; changes no result",
      default: false,
      source: "the original's scripts",
      mayChange: true,
    }),
    data_dump_step: text({
      help: "the steps that --data_dump_flag dumps: 10, 10|20, 5-7",
      source: "10, or the last of a shorter run",
      mayChange: true,
    }),
  }),

  ...inGroup("ranks", {
    rank_size: integer({
      help: "processes that train together, as many as were started (npx riffle-vision launch --ranks); another number is refused",
      unit: "processes",
      source: "those that were started",
      range: [1, 65_536],
      mayChange: true,
    }),
    shards: integer({
      help: "batches of batch_size pictures that make one training step, each with its own batch norm, shared among the processes; the bits depend on it, not on the number of processes",
      unit: "shards",
      source: "one for every process",
      range: [1, 65_536],
    }),
    hcom_parallel: flag({
      help: "exchange gradients between machines while the rest of them is being computed; changes no result",
      default: true,
      source: "the original's scripts",
      mayChange: true,
    }),
    exchange: choice(["auto", "window", "messages"], {
      help: "how processes add gradients: in memory that all of a machine see, or by messages; changes no result",
      default: "auto",
      source: "window on one machine, messages between machines",
      mayChange: true,
    }),
    bucket_size: integer({
      help: "gradients that are exchanged at a time; changes no result",
      unit: "KB",
      default: 256,
      source: "measured: the last one, which backward cannot hide, is over soon",
      range: [16, 1_048_576],
      mayChange: true,
    }),
    sync_batch_norm: flag({
      help: "one batch norm over the pictures of all shards, of which every process then has one",
      default: false,
      source: "as the original: every batch its own",
    }),
    rank_timeout: integer({
      help: "how long a process may be silent before the run ends and names it",
      unit: "seconds",
      default: 600,
      source: "longer than the slowest save or evaluation of a batch",
      range: [5, 86_400],
      mayChange: true,
    }),
    enable_data_pre_proc: flag({
      help: "decode pictures ahead of the step; false decodes a batch when the one before it is done; changes no result",
      default: true,
      source: "the original's scripts",
      mayChange: true,
    }),
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

/** The settings that a command takes, in the table's order. */
export function settingsOf(command: Command): SettingName[] {
  return settingNames.filter((name) => settings[name].commands.includes(command));
}
