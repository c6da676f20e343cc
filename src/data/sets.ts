/**
 * How a path becomes a training and a validation set.
 */

import { stat } from "node:fs/promises";

import { DataError, UsageError } from "../core/error.js";
import { Draws, streams } from "../core/random.js";
import { type Dataset, subset } from "./dataset.js";
import { openImageFolder } from "./image-folder.js";
import { openNpzDataset } from "./npz-dataset.js";

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
}

/**
 * Opens a folder of class folders, a folder with `train/` and `val/`, or a `.npz` file.
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
  const { train, validation } = await openParts(dataDir, evalOnly);
  const classes = (train ?? validation)?.classes ?? [];
  if (classes.length < 2 && !evalOnly) {
    throw new DataError({
      where: dataDir,
      what: "only one class; a classifier needs two",
      expected: "at least 2 classes",
      found: classes.join(", "),
    });
  }
  if (train === undefined && !evalOnly)
    throw new DataError({ where: dataDir, what: "no pictures to train on" });
  if (validation !== undefined) {
    if (valSplit !== undefined) {
      throw new UsageError({
        where: dataDir,
        what: "--val_split is for data without a validation set, and this has one",
        hint: "Leave --val_split out",
      });
    }
    return { train: train ?? validation, validation, classes };
  }
  if (train === undefined) throw new Error("a set without parts was opened");
  if (valSplit !== undefined) return { ...split(train, valSplit, options.seed), classes };
  return { train, validation: evalOnly ? train : undefined, classes };
}

/** What a path holds; a set that is only evaluated may have any of the two. */
async function openParts(
  dataDir: string,
  evalOnly: boolean,
): Promise<{ readonly train: Dataset | undefined; readonly validation: Dataset | undefined }> {
  let isFolder: boolean;
  try {
    isFolder = (await stat(dataDir)).isDirectory();
  } catch (error) {
    throw new DataError({ where: dataDir, what: "there is no such file or folder" }, error);
  }
  if (isFolder) return openImageFolder(dataDir);
  if (dataDir.toLowerCase().endsWith(".npz")) return openNpzDataset(dataDir, evalOnly);
  throw new DataError({ where: dataDir, what: "neither a folder of pictures nor a .npz file" });
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
    validation.push(...samples.slice(0, held));
    train.push(...samples.slice(held));
  });
  const ordered = (samples: number[]) => subset(set, Uint32Array.from(samples).sort());
  return { train: ordered(train), validation: ordered(validation) };
}
