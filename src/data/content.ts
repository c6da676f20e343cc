/**
 * A set's content, by a sample of it: files that were replaced by others of the same name and length are another set,
 * which names and lengths do not tell.
 *
 * Of files and records up to {@link SAMPLED}, spread evenly, are read, and of each its first and last 64 KiB count, with its
 * length; pictures that lie in memory count all of them. So of a set of no more than 256 pictures every file that was replaced is
 * noticed, of a larger one what was replaced as a whole. A picture that cannot be read has no mark.
 */

import { createHash } from "node:crypto";

import { DataError } from "../core/error.js";
import { type Dataset, orDataError } from "./dataset.js";

/** A mark of each part of the set, in its order; null where there was nothing to read. */
export type Content = readonly (string | null)[];

const SAMPLED = 256;
const ENDS = 64 * 1024;
const DIGITS = 12;

export async function contentOf(set: Dataset): Promise<Content> {
  const marks: (string | null)[] = [];
  for (const part of partsOf(set)) marks.push(await markOf(set, part));
  return marks;
}

/** The first sample of each part whose marks differ; a part that has none on either side is passed over. */
export function replacedIn(set: Dataset, before: Content, now: Content): number[] {
  const differs = (i: number): boolean =>
    before[i] !== now[i] && typeof before[i] === "string" && typeof now[i] === "string";
  return partsOf(set).flatMap(({ first }, i) => (differs(i) ? [first] : []));
}

interface Part {
  readonly first: number;
  readonly end: number;
}

function partsOf({ size }: Dataset): Part[] {
  const count = Math.min(size, SAMPLED);
  const start = (i: number): number => Math.floor((i * size) / count);
  return Array.from({ length: count }, (_, i) => ({ first: start(i), end: start(i + 1) }));
}

async function markOf(set: Dataset, { first, end }: Part): Promise<string | null> {
  const hash = createHash("sha256");
  for (let sample = first; sample < end; sample++) {
    const picture = await orDataError(set.read(sample));
    if (picture instanceof DataError) return null;
    if (picture.kind === "encoded") {
      const { bytes } = picture;
      hash.update(`${bytes.length}\n`).update(bytes.subarray(0, ENDS));
      if (bytes.length > ENDS) hash.update(bytes.subarray(Math.max(ENDS, bytes.length - ENDS)));
      break;
    }
    hash.update(picture.data);
  }
  return hash.digest("hex").slice(0, DIGITS);
}
