/**
 * Which samples of a set are held out of training where it has no part for that, and how they are found again when the
 * set has moved, or when samples were removed from it or added.
 *
 * A share is drawn once, by the seed. From then on the run's record decides, by name: drawn anew from a set that has
 * changed, a share would hold pictures that were trained on.
 */

import { createHash } from "node:crypto";

import { DataError } from "../core/error.js";
import { byName } from "../core/name-forms.js";
import { Draws, streams } from "../core/random.js";
import { type Dataset, keyOf, subset } from "./dataset.js";

/** Held out where nothing is said: the share that most tutorials hold out. */
export const USUAL_SHARE = 0.2;

/** Samples by their names in the set, each with its length in bytes; 0 where that says nothing, as of arrays. */
type Names = ReadonlyMap<string, number>;

/** Which samples a run trained on, and which it held out where it drew a share. */
export interface SplitRecord {
  /** Drawn by share and seed; null where the data had a part of its own to be scored. */
  readonly drawn: { readonly share: number; readonly seed: number } | null;
  /** Of the whole set that was drawn from: where it is the same, so is every number in it. */
  readonly fingerprint: string;
  readonly heldOut: Names;
  readonly trained: Names;
}

export interface Halves {
  readonly train: Uint32Array;
  readonly heldOut: Uint32Array;
}

/** Holds out the same share of every class, at least one sample of each class that has two. */
export function drawShare(set: Dataset, share: number, seed: number): Halves {
  const byClass: number[][] = set.classes.map(() => []);
  for (let sample = 0; sample < set.size; sample++) byClass[set.label(sample)]?.push(sample);
  const train: number[] = [];
  const heldOut: number[] = [];
  byClass.forEach((samples, label) => {
    const draws = new Draws(seed, streams.split, 0, label);
    for (let i = samples.length - 1; i > 0; i--) {
      const j = draws.below(i + 1);
      [samples[i], samples[j]] = [samples[j] as number, samples[i] as number];
    }
    const held = Math.max(0, Math.min(Math.max(1, Math.round(samples.length * share)), samples.length - 1));
    // One by one: a class may have more samples than a call takes arguments.
    samples.forEach((sample, i) => (i < held ? heldOut : train).push(sample));
  });
  return { train: Uint32Array.from(train).sort(), heldOut: Uint32Array.from(heldOut).sort() };
}

/**
 * A part of a set. Where samples have names it is the same part whatever else the set holds, so a run goes on
 * when others were added or removed.
 */
export function partOf(set: Dataset, samples: Uint32Array): Dataset {
  const part = subset(set, samples);
  if (!isNamed(set)) return part;
  const hash = createHash("sha256").update(JSON.stringify(set.classes));
  for (let sample = 0; sample < part.size; sample++) {
    hash.update(`\n${keyOf(part, sample)}\t${part.bytes?.(sample)}\t${part.label(sample)}`);
  }
  return { ...part, fingerprint: hash.digest("hex") };
}

/** What to remember of samples. */
export function namesOf(set: Dataset, samples: Uint32Array): Names {
  return new Map(Array.from(samples, (sample) => [keyOf(set, sample), set.bytes?.(sample) ?? 0]));
}

/** What a record says of the samples of a set: the same set, or another that has some of its samples. */
export interface Recognised extends Halves {
  /** Neither trained on nor held out. */
  readonly others: number;
  /** Held out, and not in this set. */
  readonly gone: number;
}

/**
 * Finds the samples of a record in a set: pictures by name, or, so that another set with names like `0001.jpg` is not
 * taken for this one, by name and length where a sample is to be one that was trained on. Records by both, arrays by
 * their pixels.
 */
export function recognise(set: Dataset, record: SplitRecord): Recognised {
  const train: number[] = [];
  const heldOut: number[] = [];
  if (isNamed(set) || set.fingerprint === record.fingerprint) {
    const trainedBytes = byName(record.trained);
    const heldBytes = byName(record.heldOut);
    for (let sample = 0; sample < set.size; sample++) {
      const key = keyOf(set, sample);
      const bytes = set.bytes?.(sample) ?? 0;
      const held = heldBytes(key);
      if (held !== undefined && (held === bytes || set.records === undefined)) heldOut.push(sample);
      else if (trainedBytes(key) === bytes) train.push(sample);
    }
  }
  return {
    train: Uint32Array.from(train),
    heldOut: Uint32Array.from(heldOut),
    others: set.size - train.length - heldOut.length,
    gone: record.heldOut.size - heldOut.length,
  };
}

/**
 * The two parts that a run drew, of its own set as it is now.
 *
 * @throws DataError where they cannot be told any more.
 */
export function recordedHalves(set: Dataset, record: SplitRecord, where: string): Recognised {
  const found = recognise(set, record);
  if (found.heldOut.length + found.train.length > 0) return found;
  throw DataError.at(where, "none of the run's pictures is in it, so which were held out cannot be told", {
    expected: `${record.trained.size + record.heldOut.size} pictures under the names that they had`,
    found: `${set.size} others`,
    hint: "Put the data back, or say where it is now with --data_dir",
  });
}

/** From this share of a set on, names and lengths that agree are no chance. */
const NO_CHANCE = 0.05;

/**
 * What may be scored of a set that was given for that: all of it, or, where pictures of it were trained on, what was
 * held out.
 *
 * @param notice is told what is left out, and of what may be chance
 * @throws DataError where there is nothing but pictures that were trained on.
 */
export function unseen(
  set: Dataset,
  record: SplitRecord,
  where: string,
  notice: (what: string) => void,
): Dataset {
  const found = recognise(set, record);
  const [first] = found.train;
  if (first === undefined) return set;
  const trainedOn = `${found.train.length} of its ${set.size} pictures`;
  if (found.train.length < set.size * NO_CHANCE) {
    notice(
      `${where}: ${trainedOn} have names and lengths of pictures that the run trained on, such as ${set.name(first)}`,
    );
    return set;
  }
  if (found.heldOut.length > 0) {
    notice(
      `${where}: ${trainedOn} were trained on; the ${found.heldOut.length} that were held out are scored`,
    );
    return partOf(set, found.heldOut);
  }
  throw DataError.at(
    where,
    `${trainedOn} are those that the run trained on, so their score would say nothing`,
    {
      expected: "pictures that it has not seen",
      found: set.name(first),
      hint: "Score them all the same with --split train",
    },
  );
}

/** A line each of what a record's set is not any more. */
export function changes({ others, gone }: Recognised, where: string): string[] {
  const pictures = (n: number): string => (n === 1 ? "1 picture" : `${n} pictures`);
  return [
    ...(gone > 0
      ? [`${where}: ${pictures(gone)} that the run held out ${gone === 1 ? "is" : "are"} gone`]
      : []),
    ...(others > 0
      ? [
          `${where}: ${pictures(others)} came since the run began, and ${others === 1 ? "is" : "are"} neither trained on nor scored`,
        ]
      : []),
  ];
}

/** Whether samples are known by more than their numbers. */
function isNamed(set: Dataset): boolean {
  return set.key !== undefined;
}
