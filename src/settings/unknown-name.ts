/**
 * A name that is none of ours: which of ours is meant. Words that other training programs use have their answer in a
 * table; any other is compared with our names by its letters. It is never taken for what it might mean.
 */

import { RIFFLE } from "../core/call.js";
import { lettersOf, nearest } from "../core/nearest-name.js";
import { type SettingName, settings } from "./settings.js";

/** How a name is written where it is asked for: `--lr` on a command line, `lr` in a program. */
type Written = (name: string) => string;

/** Ours in the order of likelihood, of which the first that is offered is meant; or a sentence where there is no such option. */
type Answer = readonly string[] | ((of: Written) => string);

const noDevice: Answer = (of) =>
  `Riffle computes on the CPU, on all of its cores; ${of("threads")} takes fewer`;
const mixed: Answer = (of) => `Riffle's is ${of("precision_mode")} allow_mix_precision`;
const network: Answer = (of) =>
  `Riffle's network is ShuffleNet V2: ${of("width")} is its size, ${of("variant")} its form, and ${of("init_from")} names weights to start from`;
const optimizer: Answer = (of) =>
  `Riffle's is SGD: ${of("lr")}, ${of("momentum")}, ${of("nesterov")} and ${of("weight_decay")} set it`;
const rates: Answer = () => `Riffle's is a command: ${RIFFLE} find-lr photos`;
const decoding: Answer = () =>
  "Riffle decodes on as many threads as the environment's UV_THREADPOOL_SIZE says";

/** Without underscores and dashes, in small letters. */
const synonyms: Readonly<Record<string, Answer>> = {
  ...same(["max_epochs"], "epochs", "epoch", "nepochs", "maxepoch", "trainepochs", "numtrainepochs"),
  ...same(
    ["batch_size", "eval_batch_size"],
    "batch",
    "bs",
    "batches",
    "batchsizes",
    "perdevicetrainbatchsize",
  ),
  ...same(["image_size"], "imgsz", "imgsize", "img", "imsize", "size", "inputsize", "resolution", "crop"),
  ...same(["lr"], "learningrate", "lr0", "baselr", "rate", "eta", "maxlr", "peaklr"),
  ...same(["end_learning_rate"], "lrf", "minlr", "finallr"),
  ...same(
    ["data_dir"],
    "data",
    "dataset",
    "datapath",
    "dataroot",
    "datafolder",
    "root",
    "folder",
    "path",
    "images",
  ),
  ...same(["train_data_dir"], "train", "traindir", "trainpath", "traindata"),
  ...same(["eval_data_dir"], "val", "valdir", "valpath", "valdata", "validdir", "testdir"),
  ...same(["val_split"], "validationsplit", "valratio", "valsize", "testsize", "holdout"),
  ...same(["num_classes", "classes"], "nc", "nclasses", "numclass", "classcount"),
  ...same(
    ["log_dir", "output"],
    "output",
    "out",
    "outdir",
    "outputdir",
    "savedir",
    "project",
    "rundir",
    "logdir",
    "o",
  ),
  ...same(["init_from"], "weights", "pretrained", "init", "finetune", "checkpoint", "ckpt"),
  ...same(["resume"], "continue", "resumefrom", "resumefromcheckpoint"),
  ...same(["weight_decay"], "wd", "decay", "l2"),
  ...same(["label_smoothing"], "smoothing", "ls"),
  ...same(["warmup_epochs"], "warmup", "warmupsteps"),
  ...same(["schedule"], "scheduler", "lrscheduler", "lrschedule", "sched", "coslr"),
  ...same(["average_decay"], "ema", "emadecay", "modelema"),
  ...same(["max_train_steps"], "steps", "maxsteps", "iterations", "trainsteps"),
  ...same(["save_checkpoints_steps"], "savesteps", "saveevery", "saveperiod", "savefreq"),
  ...same(["keep_checkpoint_max"], "savetotallimit", "maxtokeep"),
  ...same(["epochs_between_evals"], "evalevery", "evalfreq", "valinterval"),
  ...same(["mixup"], "mixupalpha", "mixupprob", "alpha"),
  ...same(["class_weights"], "classweight", "weightclasses", "balanced", "balance", "classbalance"),
  ...same(["budget"], "time", "maxtime", "timelimit", "timebudget", "minutes", "hours"),
  ...same(["patience"], "earlystopping", "earlystop", "earlystoppingpatience", "stopafter", "niternochange"),
  ...same(["seed"], "randomseed", "manualseed", "randomstate"),
  ...same(["augment"], "augmentation", "aug", "transforms", "autoaugment", "aa"),
  ...same(["momentum"], "beta", "mom"),
  ...same(["variant"], "flavour", "flavor", "implementation"),
  ...same(["width"], "widthmult", "widthmultiplier", "multiplier", "depthmultiplier"),
  ...same(["top"], "topk", "k"),
  ...same(["threads"], "nthreads", "numthreads", "jobs", "cores", "cpus"),
  ...same(["ranks", "rank_size"], "worldsize", "np", "nprocpernode"),
  ...same(mixed, "amp", "fp16", "bf16", "half", "mixedprecision", "precision", "dtype"),
  ...same(noDevice, "device", "devices", "gpu", "gpus", "cuda", "deviceid", "accelerator"),
  ...same(network, "model", "arch", "net", "network", "backbone", "modelname"),
  ...same(optimizer, "optimizer", "optimiser", "optim", "opt"),
  ...same(rates, "findlr", "lrfind", "lrfinder", "autolrfind", "autolr"),
  ...same(decoding, "workers", "numworkers", "w", "j"),
};

/** Every foreign word that has an answer, for tests. */
export const foreignWords: ReadonlyMap<string, Answer> = new Map(Object.entries(synonyms));

/**
 * What follows "unknown option --epochs": "; Riffle's is --max_epochs". Empty where nothing is like it.
 *
 * @param offered the names that hold at this place
 * @param written how a name is written there
 * @param place who offers them: "predict"
 */
export function whatIsMeant(
  word: string,
  offered: readonly string[],
  written: Written,
  place: string,
): string {
  const plain = lettersOf(word);
  const near = nearest(plain, offered);
  // A slip of the pen in a name of ours comes before a word of others.
  if (near?.distance === 0) return `; did you mean ${written(near.name)}?`;
  const answer = synonyms[plain];
  if (typeof answer === "function") return `; ${answer(written)}`;
  const ours = answer?.find((name) => offered.includes(name));
  if (ours !== undefined) return `; Riffle's is ${written(ours)}`;
  const own = answer?.find((name) => name in settings) ?? word;
  const commands = own in settings ? settings[own as SettingName].commands : [];
  if (commands.length > 0) {
    return `; ${own === word ? "" : `Riffle's is ${written(own)}, but `}${place} does not take it (${commands.join(", ")} ${commands.length === 1 ? "does" : "do"})`;
  }
  return near === undefined ? "" : `; did you mean ${written(near.name)}?`;
}

function same(answer: Answer, ...words: readonly string[]): Readonly<Record<string, Answer>> {
  return Object.fromEntries(words.map((word) => [word, answer]));
}
