/**
 * What is kept of a run beside its tensors and pixels: `run.json`, the one small file that says which of the others count.
 *
 * A run's folder in the browser's own files (OPFS):
 *
 *     run.json                 this; replaced as a whole by the browser when a save is complete
 *     last-N.safetensors       all of training after step N, as in step-N/ of a run's folder in Node
 *     best-N.safetensors       the weights that scored best
 *     pictures-ID.bin          the pixels of all pictures, one behind the other; pictures-ID.json says which
 */

import { CheckpointError } from "../core/error.js";
import { evaluationDecodings } from "../data/pictures/augment.js";
import { orientationRules } from "../data/pictures/orientation.js";
import { variantNames, widths } from "../models/variants.js";
import type { Best, ModelDescription, Scores, SolvedClassifier } from "../run/checkpoint-state.js";
import { accepts } from "../settings/setting-kinds.js";
import { type SettingName, settingNames, settings as table, type Settings } from "../settings/settings.js";
import type { PictureEntry } from "./kept-pictures.js";

export const recordFile = "run.json";

/** A file of the run, and what it was when it was written. */
export interface FileEntry {
  readonly name: string;
  readonly bytes: number;
  /** Of tensors; pictures are known by their length. */
  readonly sha256?: string | undefined;
}

/** Where a run stands, as checkpoints have it. */
export interface Standing {
  readonly step: number;
  /** Of the last evaluation, or -1. */
  readonly evaluated_step: number;
  readonly scores: Scores | null;
  readonly best: (Best & { readonly loss: number }) | null;
  readonly unimproved: number;
}

export interface RunRecord extends Standing {
  readonly format: "riffle-browser-run";
  readonly version: 1;
  readonly name: string;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly model: ModelDescription;
  readonly settings: Settings;
  readonly origins: Readonly<Record<string, string>>;
  readonly steps: number;
  readonly steps_per_epoch: number;
  readonly solved?: SolvedClassifier | undefined;
  readonly train_images: number;
  readonly files: {
    readonly last: FileEntry;
    readonly best: FileEntry | null;
    /** Absent from a run whose pictures are elsewhere. */
    readonly pictures?: { readonly pixels: FileEntry; readonly index: FileEntry } | undefined;
  };
}

/** @throws CheckpointError for anything that was not written by this version */
export function parseRecord(text: string, where: string): RunRecord {
  try {
    const record = JSON.parse(text) as RunRecord;
    check(isRecord(record), "an object", record);
    check(
      record.format === "riffle-browser-run" && record.version === 1,
      "riffle-browser-run version 1",
      `${record.format} ${record.version}`,
    );
    checkModel(record.model);
    checkSettings(record.settings);
    for (const key of ["step", "steps", "steps_per_epoch", "train_images", "unimproved"] as const)
      check(isCount(record[key]), `a whole number in ${key}`, record[key]);
    check(record.steps_per_epoch > 0, "steps_per_epoch above 0", record.steps_per_epoch);
    check(
      Number.isInteger(record.evaluated_step) && record.evaluated_step >= -1,
      "a step in evaluated_step",
      record.evaluated_step,
    );
    check(typeof record.name === "string" && record.name !== "", "a name", record.name);
    check(isRecord(record.files) && isFile(record.files.last), "a file last", record.files);
    check(record.files.best === null || isFile(record.files.best), "a file best, or null", record.files.best);
    const { pictures } = record.files;
    check(
      pictures === undefined || (isRecord(pictures) && isFile(pictures.pixels) && isFile(pictures.index)),
      "files of pictures",
      pictures,
    );
    check(
      record.best === null || (isCount(record.best.step) && typeof record.best.top1 === "number"),
      "best as a score, or null",
      record.best,
    );
    return {
      ...record,
      // JSON writes null for what is not finite.
      scores: record.scores === null ? null : { ...record.scores, loss: record.scores.loss ?? NaN },
    };
  } catch (error) {
    throw new CheckpointError(
      {
        what: "is no run that this version reads",
        where,
        ...(error instanceof Unexpected
          ? { expected: error.message, found: error.found }
          : { found: String(error) }),
        safe: "It was left as it is",
      },
      error,
    );
  }
}

/** Which pictures there are, in the order of their pixels. @throws CheckpointError */
export function parsePictures(text: string, where: string, classes: number, bytes: number): PictureEntry[] {
  try {
    const entries = JSON.parse(text) as PictureEntry[];
    check(Array.isArray(entries), "a list", entries);
    let total = 0;
    for (const one of entries) {
      check(
        isRecord(one) &&
          typeof one.name === "string" &&
          typeof one.heldOut === "boolean" &&
          isCount(one.label) &&
          one.label < classes &&
          isCount(one.width) &&
          isCount(one.height) &&
          one.width * one.height > 0,
        "name, label, heldOut, width and height of each picture",
        one,
      );
      total += one.width * one.height * 3;
    }
    check(total === bytes, `${bytes} bytes of pixels`, total);
    return entries;
  } catch (error) {
    throw new CheckpointError(
      {
        what: "the list of the run's pictures is damaged",
        where,
        found: String(error),
        safe: "It was left as it is",
      },
      error,
    );
  }
}

class Unexpected extends Error {
  readonly found: string;
  constructor(expected: string, found: unknown) {
    super(expected);
    this.found = (JSON.stringify(found) ?? "nothing").slice(0, 80);
  }
}

function check(isRight: boolean, expected: string, found: unknown): void {
  if (!isRight) throw new Unexpected(expected, found);
}

function checkModel(model: ModelDescription): void {
  check(isRecord(model), "a model", model);
  const { variant, width, classes, image_size, eval_resize, pipeline, exif_orientation, class_names } = model;
  check(variantNames.includes(variant), `a variant: ${variantNames.join(", ")}`, variant);
  check(widths.includes(width), `a width: ${widths.join(", ")}`, width);
  check(isCount(classes) && classes >= 2 && classes <= 1_000_000, "2 classes or more", classes);
  check(
    isCount(image_size) && image_size >= 32 && image_size <= 4096,
    "image_size from 32 to 4096",
    image_size,
  );
  check(
    isCount(eval_resize) && eval_resize >= image_size && eval_resize <= 8192,
    "eval_resize of image_size at least",
    eval_resize,
  );
  check(Object.hasOwn(evaluationDecodings, pipeline), "a pipeline", pipeline);
  check(
    exif_orientation === undefined || orientationRules.includes(exif_orientation),
    "an orientation",
    exif_orientation,
  );
  check(
    Array.isArray(class_names) &&
      class_names.length <= classes &&
      class_names.every((name) => typeof name === "string"),
    "names of the classes",
    class_names,
  );
}

/** Each that is there is one that the table accepts. */
function checkSettings(settings: Record<string, unknown>): void {
  check(isRecord(settings), "settings", settings);
  for (const [name, value] of Object.entries(settings)) {
    check(
      settingNames.includes(name as SettingName) && accepts(table[name as SettingName], value),
      "a setting",
      { [name]: value },
    );
  }
  for (const name of ["batch_size", "lr", "seed", "max_epochs"])
    check(name in settings, `the setting ${name}`, undefined);
}

function isRecord(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** A name in the run's own folder, which leads nowhere else. */
function isFile(entry: FileEntry): boolean {
  return isRecord(entry) && /^[a-z]+-[\w.-]+$/.test(entry.name) && isCount(entry.bytes);
}
