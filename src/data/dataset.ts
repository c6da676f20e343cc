/**
 * A labelled set of pictures, whatever it is stored as.
 *
 * Sample numbers are fixed by sorted names, so an order or a random draw that names a sample means the same
 * picture in every run over the same files.
 */

import { createHash } from "node:crypto";

import { DataError, UsageError } from "../core/error.js";
import { byName } from "../core/name-forms.js";
import type { BadRecord } from "./records/record-scan.js";
import type { Encoded, Pixels } from "./pictures/render.js";
import type { Scratch } from "./pictures/scratch.js";

export interface Dataset {
  /** By label. */
  readonly classes: readonly string[];
  /** Number of samples. */
  readonly size: number;
  /** 0 .. classes - 1; -1 where no label is known. */
  label(sample: number): number;
  /** The file's path, or `file.npz#17`. */
  name(sample: number): string;
  /** What it is known by in another place, or among others: its name without the set's own, or of its pixels. */
  key?(sample: number): string;
  /** Of sets of files in which one that is removed keeps its place. */
  file?(sample: number): PictureFile | undefined;
  /** Length of what is stored, where that is known without reading it. */
  bytes?(sample: number): number;
  /** When the file that holds it was last written, in any unit, where that is known. */
  modified?(sample: number): number | string | undefined;
  /** Whether its pictures are turned as EXIF says that the camera was held. */
  readonly upright?: boolean;
  /** @throws DataError when the file cannot be read. */
  read(sample: number): Promise<Encoded | Pixels>;
  /**
   * Several at once, for sets that do so in fewer hops between threads; {@link readAll} serves them all. Results may
   * lie in `scratch`, and are valid until that is used again; a DataError stands for each that cannot be read.
   */
  readAll?(samples: readonly number[], scratch: Scratch): Promise<readonly (Encoded | Pixels | DataError)[]>;
  /** SHA-256 over names, sizes and labels, in hexadecimal: has the set changed since the checkpoint? */
  readonly fingerprint: string;
  /** Where the samples are when they are records. */
  readonly records?: RecordsOrigin;
  /** Closes the files held open, if any; a later read opens them again. */
  close?(): Promise<void>;
}

/** A picture's own file, in a folder of classes. */
export interface PictureFile {
  /** CLASS/FILE */
  readonly name: string;
  readonly bytes: number;
  /** When it was last written, in milliseconds. */
  readonly modified?: number | undefined;
  /** It was there when a run began and is no longer: it keeps its number, and counts as bad without being counted. */
  readonly gone?: boolean;
  /** Why it cannot be opened, where its name alone told. */
  readonly problem?: DataError;
}

/** Shards of TFRecords behind a set. */
export interface RecordsOrigin {
  readonly folder: string;
  readonly shards: number;
  /** The file that keeps their index; null where none could be written. */
  readonly index: string | null;
  /** Left out of the set when the index was made, then those found damaged since, each once. */
  readonly badRecords: readonly BadRecord[];
}

/** Reads several samples: what came of each, in their order. Valid until `scratch` is used again. */
export async function readAll(
  set: Dataset,
  samples: readonly number[],
  scratch: Scratch,
): Promise<readonly (Encoded | Pixels | DataError)[]> {
  if (set.readAll !== undefined) return set.readAll(samples, scratch);
  return Promise.all(samples.map((sample) => orDataError(set.read(sample))));
}

/** A DataError as the result that it stands for. */
export async function orDataError<T>(result: Promise<T>): Promise<T | DataError> {
  try {
    return await result;
  } catch (error) {
    if (error instanceof DataError) return error;
    throw error;
  }
}

/** What a record of a split calls a sample; its number where it has no other name. */
export function keyOf(set: Dataset, sample: number): string {
  return set.key?.(sample) ?? `#${sample}`;
}

function keysOf(set: Dataset, at = (sample: number): number => sample): Pick<Dataset, "key"> {
  return set.key === undefined ? {} : { key: (sample) => keyOf(set, at(sample)) };
}

/** @throws RangeError when there is no such sample. */
export function checkedSample({ size }: { readonly size: number }, sample: number): number {
  if (!(sample >= 0 && sample < size)) throw new RangeError(`sample ${sample} of ${size}`);
  return sample;
}

/** All but what is read: the same pictures in another form, or under other labels. */
export function viewOf(dataset: Dataset, fingerprint: string): Omit<Dataset, "read" | "close"> {
  return {
    classes: dataset.classes,
    size: dataset.size,
    label: (sample) => dataset.label(sample),
    name: (sample) => dataset.name(sample),
    ...keysOf(dataset),
    file: (sample) => dataset.file?.(sample),
    modified: (sample) => dataset.modified?.(sample),
    fingerprint,
    ...(dataset.upright === undefined ? {} : { upright: dataset.upright }),
    ...(dataset.records === undefined ? {} : { records: dataset.records }),
  };
}

/** The set with its pictures turned as their EXIF says that the camera was held; to other bits, so another set. */
export function upright(set: Dataset): Dataset {
  if (set.upright === true) return set;
  const fingerprint = createHash("sha256").update(`${set.fingerprint}\nupright`).digest("hex");
  return {
    ...viewOf(set, fingerprint),
    upright: true,
    read: async (sample) => turned(await set.read(sample)),
    readAll: async (samples, scratch) =>
      (await readAll(set, samples, scratch)).map((read) => (read instanceof DataError ? read : turned(read))),
    bytes: (sample) => set.bytes?.(sample) ?? 0,
    close: async () => set.close?.(),
  };
}

function turned(picture: Encoded | Pixels): Encoded | Pixels {
  return picture.kind === "encoded" ? { ...picture, upright: true } : picture;
}

/** The samples of `set` named in `samples`, under new numbers. */
export function subset(set: Dataset, samples: Uint32Array): Dataset {
  const at = (sample: number): number => samples[checkedSample({ size: samples.length }, sample)] as number;
  const hash = createHash("sha256").update(set.fingerprint);
  hash.update(new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength));
  return {
    classes: set.classes,
    size: samples.length,
    label: (sample) => set.label(at(sample)),
    name: (sample) => set.name(at(sample)),
    ...keysOf(set, at),
    file: (sample) => set.file?.(at(sample)),
    read: (sample) => set.read(at(sample)),
    readAll: (samples, scratch) => readAll(set, samples.map(at), scratch),
    bytes: (sample) => set.bytes?.(at(sample)) ?? 0,
    modified: (sample) => set.modified?.(at(sample)),
    fingerprint: hash.digest("hex"),
    ...(set.upright === undefined ? {} : { upright: set.upright }),
    ...(set.records === undefined ? {} : { records: set.records }),
    close: async () => set.close?.(),
  };
}

/**
 * `size` samples spread evenly over the set, so that sets sorted by class keep all of them.
 *
 * @throws UsageError naming `option` when there are fewer.
 */
export function spread(set: Dataset, size: number, option: string): Dataset {
  if (size === set.size) return set;
  if (size > set.size) {
    throw new UsageError({
      what: "the set has fewer pictures than are asked for",
      where: `option ${option}`,
      expected: `at most ${set.size}`,
      found: `${size}`,
      safe: "Nothing was trained or written",
      hint: `Leave ${option} out to use all`,
    });
  }
  return subset(
    set,
    Uint32Array.from({ length: size }, (_, i) => Math.floor((i * set.size) / size)),
  );
}

/**
 * `set` under the labels of `classes`, matched by name.
 *
 * @throws DataError naming `where` when it has a class that is not among them.
 */
export function relabelled(set: Dataset, classes: readonly string[], where: string): Dataset {
  if (set.classes.length === classes.length && set.classes.every((name, i) => name === classes[i]))
    return set;
  const labelOf = byName(classes.map((name, label) => [name, label]));
  const labels = set.classes.map((name) => labelOf(name) ?? -1);
  const unknown = labels.indexOf(-1);
  if (unknown >= 0) {
    throw unknownClass(where, classes, set.classes[unknown] as string);
  }
  const hash = createHash("sha256").update(`${set.fingerprint}\n${labels.join(",")}`);
  return {
    ...viewOf(set, hash.digest("hex")),
    classes,
    label: (sample) => labels[set.label(sample)] ?? -1,
    read: (sample) => set.read(sample),
    readAll: (samples, scratch) => readAll(set, samples, scratch),
    bytes: (sample) => set.bytes?.(sample) ?? 0,
    close: async () => set.close?.(),
  };
}

export function unknownClass(where: string, classes: readonly string[], found: string): DataError {
  const expected = classes.slice(0, 8).join(", ") + (classes.length > 8 ? `, … (${classes.length})` : "");
  return DataError.at(where, "a class that the training set does not have", {
    expected,
    found,
    hint: "Move it away, or call it what training calls it",
  });
}
