/**
 * A labelled set of pictures, whatever it is stored as.
 *
 * Sample numbers are fixed by sorted names, so an order or a random draw that names a sample means the same
 * picture in every run over the same files.
 */

import { createHash } from "node:crypto";

import type { BadRecord } from "./record-index.js";
import type { Encoded, Pixels } from "./render.js";
import type { Scratch } from "./scratch.js";

export interface Dataset {
  /** By label. */
  readonly classes: readonly string[];
  /** Number of samples. */
  readonly size: number;
  /** 0 .. classes - 1; -1 where no label is known. */
  label(sample: number): number;
  /** The file's path, or `file.npz#17`. */
  name(sample: number): string;
  /**
   * Into `scratch` where it is given and the set can use it: the result is then valid until that is used again.
   *
   * @throws DataError when the file cannot be read.
   */
  read(sample: number, scratch?: Scratch): Promise<Encoded | Pixels>;
  /** SHA-256 over names, sizes and labels, in hexadecimal: has the set changed since the checkpoint? */
  readonly fingerprint: string;
  /** Where the samples are when they are records. */
  readonly records?: RecordsOrigin;
  /** Closes the files held open, if any; a later read opens them again. */
  close?(): Promise<void>;
}

/** Shards of TFRecords behind a set. */
export interface RecordsOrigin {
  readonly shards: number;
  /** The file that keeps their index; null where none could be written. */
  readonly index: string | null;
  /** Left out of the set when the index was made, then those found damaged since, each once. */
  readonly badRecords: readonly BadRecord[];
}

/** The samples of `set` named in `samples`, under new numbers. */
export function subset(set: Dataset, samples: Uint32Array): Dataset {
  const at = (sample: number): number => {
    const found = samples[sample];
    if (found === undefined) throw new RangeError(`sample ${sample} of ${samples.length}`);
    return found;
  };
  const hash = createHash("sha256").update(set.fingerprint);
  hash.update(new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength));
  return {
    classes: set.classes,
    size: samples.length,
    label: (sample) => set.label(at(sample)),
    name: (sample) => set.name(at(sample)),
    read: (sample, scratch) => set.read(at(sample), scratch),
    fingerprint: hash.digest("hex"),
    ...(set.records === undefined ? {} : { records: set.records }),
    close: async () => set.close?.(),
  };
}
