/**
 * How a path becomes a training and a validation set.
 */

import { stat } from "node:fs/promises";
import { basename, join } from "node:path";

import { DataError, errorCode, UsageError } from "../core/error.js";
import { Draws, streams } from "../core/random.js";
import { type Dataset, type PictureFile, relabelled, subset } from "./dataset.js";
import { openImageFolder } from "./image-folder.js";
import { openNpzDataset } from "./npz-dataset.js";
import { MAX_CLASSES } from "./records/record-classes.js";
import { openRecords, type RecordOptions } from "./records/record-dataset.js";
import { holdsRecords, isShardName } from "./records/record-manifest.js";
import type { Remarks } from "./remarks.js";

export interface Sets {
  readonly train: Dataset;
  readonly validation: Dataset | undefined;
  readonly classes: readonly string[];
}

export interface OpenOptions {
  /** Share of every class held out where there is no validation set; between 0 and 1. */
  readonly valSplit?: number | undefined;
  /** Decides which samples are held out. */
  readonly seed: number;
  /**
   * The set is only evaluated: one without a validation part is then evaluated whole (unless `valSplit` is given),
   * and may hold a single class.
   */
  readonly evalOnly?: boolean | undefined;
  /** Files of training that a run left out: one that is gone since keeps its place, so that every other one does. */
  readonly leftOut?: readonly PictureFile[] | undefined;
  /** Is told what there is to say of folders of pictures. */
  readonly remarks?: Remarks | undefined;
  /** How TFRecords are read, where the path holds them. */
  readonly records?: Omit<RecordOptions, "classes"> | undefined;
  /** Names of the labels of records that do not say them. */
  readonly classes?: readonly string[] | undefined;
}

/**
 * Opens two paths as one set: the training part of the first, the validation part of the second (or all of it where it
 * has no parts), under the first one's labels.
 *
 * @throws DataError when the second has a class that the first does not have.
 */
export async function openPair(trainDir: string, evalDir: string, options: OpenOptions): Promise<Sets> {
  if (options.valSplit !== undefined) throw notToSplit(evalDir, "one is given");
  const { train, validation: unused, classes } = await openDatasets(trainDir, options);
  if (unused !== undefined) await unused.close?.();
  const held = await openDatasets(evalDir, { ...options, leftOut: undefined, evalOnly: true, classes });
  return { train, validation: relabelled(held.validation ?? held.train, classes, evalDir), classes };
}

/**
 * Opens a folder of class folders, a folder with `train/` and `val/`, a `.npz` file, or TFRecords: a folder of shards,
 * one with `train_shards/` and `eval_shards/` (or `train/` and `val/`) that hold them, or a single shard.
 *
 * @throws DataError when there are no pictures, one class, or a validation class that training does not have.
 */
export async function openDatasets(dataDir: string, options: OpenOptions): Promise<Sets> {
  const { valSplit } = options;
  if (valSplit !== undefined && !(valSplit > 0 && valSplit < 1)) {
    throw new UsageError({
      what: "--val_split is no share",
      expected: "between 0 and 1",
      found: `${valSplit}`,
    });
  }
  const evalOnly = options.evalOnly === true;
  const { train, validation } = await openParts(dataDir, options);
  const classes = (train ?? validation)?.classes ?? [];
  if (classes.length < 2 && !evalOnly) {
    throw DataError.at(dataDir, "only one class; a classifier needs two", {
      expected: "at least 2 classes",
      found: classes.join(", "),
    });
  }
  if (classes.length > MAX_CLASSES) {
    throw DataError.at(dataDir, "more classes than a network is given", {
      expected: `at most ${MAX_CLASSES}`,
      found: `${classes.length}`,
    });
  }
  if (train === undefined && !evalOnly) throw DataError.at(dataDir, "no pictures to train on");
  if (validation !== undefined) {
    if (valSplit !== undefined) throw notToSplit(dataDir, "this has one");
    return { train: train ?? validation, validation, classes };
  }
  if (train === undefined) throw new Error("a set without parts was opened");
  if (valSplit !== undefined) return { ...split(train, valSplit, options.seed), classes };
  return { train, validation: evalOnly ? train : undefined, classes };
}

function notToSplit(where: string, why: string): UsageError {
  const what = `--val_split is for data without a validation set, and ${why}`;
  return new UsageError({ where, what, hint: "Leave --val_split out" });
}

interface Parts {
  readonly train: Dataset | undefined;
  readonly validation: Dataset | undefined;
}

/** What a path holds; a set that is only evaluated may have any of the two. */
async function openParts(dataDir: string, options: OpenOptions): Promise<Parts> {
  if (await isFolder(dataDir)) {
    const shards = await findShards(dataDir);
    return shards === undefined
      ? openImageFolder(dataDir, options.leftOut, options.remarks)
      : openShards(shards, options);
  }
  if (dataDir.toLowerCase().endsWith(".npz")) return openNpzDataset(dataDir, options.evalOnly === true);
  if (isShardName(basename(dataDir))) return openShards({ train: dataDir }, options);
  throw DataError.at(
    dataDir,
    "neither a folder of pictures or TFRecords, nor a .npz file, nor a shard named *.tfrecords",
  );
}

/** Paths of the parts of a set in TFRecords. */
interface ShardPaths {
  readonly train?: string | undefined;
  readonly validation?: string | undefined;
}

/** Where a folder's shards are; undefined where it has none. */
export async function findShards(root: string): Promise<ShardPaths | undefined> {
  if (await holdsRecords(root)) return { train: root };
  const find = async (names: readonly string[]): Promise<string | undefined> => {
    for (const path of names.map((name) => join(root, name))) {
      if ((await isFolder(path, true)) && (await holdsRecords(path))) return path;
    }
    return undefined;
  };
  const train = await find(["train_shards", "train"]);
  const validation = await find(["eval_shards", "val_shards", "val", "validation"]);
  return train === undefined && validation === undefined ? undefined : { train, validation };
}

async function openShards({ train, validation }: ShardPaths, options: OpenOptions): Promise<Parts> {
  const { records, evalOnly } = options;
  // Training shards may be 145 GB, read whole for their index: not for an evaluation.
  const isNeeded = train !== undefined && !(evalOnly === true && validation !== undefined);
  const trained = isNeeded ? await openRecords(train, { ...records, classes: options.classes }) : undefined;
  if (validation === undefined) return { train: trained, validation };
  const classes = trained?.classes ?? options.classes;
  return { train: trained, validation: await openRecords(validation, { ...records, classes }) };
}

async function isFolder(path: string, mayBeMissing = false): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    const code = errorCode(error);
    const isMissing = code === "ENOENT" || code === "ENOTDIR";
    if (isMissing && mayBeMissing) return false;
    const what = isMissing ? "there is no such file or folder" : `cannot be read: ${code ?? String(error)}`;
    throw DataError.at(path, what, {}, error);
  }
}

/** Holds out the same share of every class, at least one sample of each class that has two. */
function split(set: Dataset, share: number, seed: number): { train: Dataset; validation: Dataset } {
  const byClass: number[][] = set.classes.map(() => []);
  for (let sample = 0; sample < set.size; sample++) byClass[set.label(sample)]?.push(sample);
  const train: number[] = [];
  const validation: number[] = [];
  byClass.forEach((samples, label) => {
    const draws = new Draws(seed, streams.split, 0, label);
    for (let i = samples.length - 1; i > 0; i--) {
      const j = draws.below(i + 1);
      [samples[i], samples[j]] = [samples[j] as number, samples[i] as number];
    }
    const held = Math.min(Math.max(1, Math.round(samples.length * share)), samples.length - 1);
    // One by one: a class may have more samples than a call takes arguments.
    samples.forEach((sample, i) => (i < held ? validation : train).push(sample));
  });
  const ordered = (samples: number[]) => subset(set, Uint32Array.from(samples).sort());
  return { train: ordered(train), validation: ordered(validation) };
}
