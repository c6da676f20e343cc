/**
 * Finds pictures that come more than once in a data set of millions.
 *
 * Pictures are the same when 96 bits of their SHA-256 are.
 */

import { hash } from "node:crypto";

import type { Encoded, Pixels } from "../data/pictures/render.js";
import type { PartName, PicturePlace, Sample } from "./verify-parts.js";

/** What is remembered of a picture, to find copies: columns, because there may be millions. */
export interface Seen {
  readonly part: PartName;
  readonly files: string[];
  readonly file: number[];
  readonly record: number[];
  readonly offset: number[];
  readonly label: number[];
  /** The first and the second 48 bits of the SHA-256. */
  readonly hash: number[];
  readonly check: number[];
}

export function remember(
  seen: Seen,
  { file, record, offset, label }: Sample,
  picture: Encoded | Pixels,
): void {
  if (seen.files.at(-1) !== file) seen.files.push(file);
  seen.file.push(seen.files.length - 1);
  seen.record.push(record ?? -1);
  seen.offset.push(offset ?? -1);
  seen.label.push(label);
  const digest = hash("sha256", contentOf(picture), "buffer");
  seen.hash.push(digest.readUIntBE(0, 6));
  seen.check.push(digest.readUIntBE(6, 6));
}

export function at(seen: Seen, sample: number): PicturePlace {
  const [record, offset] = [seen.record[sample] ?? -1, seen.offset[sample] ?? -1];
  return {
    file: seen.files[seen.file[sample] ?? -1] ?? "",
    record: record < 0 ? null : record,
    offset: offset < 0 ? null : offset,
  };
}

/** shard-0003.tfrecords#17, byte 4711 */
export function placeOf(seen: Seen, sample: number): string {
  const { file, record, offset } = at(seen, sample);
  return record === null ? file : `${file}#${record}, byte ${offset}`;
}

/** One copy of a picture that comes more than once. */
interface Copy {
  readonly part: number;
  readonly sample: number;
}

/** Groups of the same picture, each in the order of parts and samples. */
export function copies(seen: readonly Seen[]): Copy[][] {
  // Sorted numbers find what repeats without a table of a million entries.
  const all = Float64Array.from(seen.flatMap((part) => part.hash)).sort();
  const repeated = new Set<number>();
  for (let i = 1; i < all.length; i++) if (all[i] === all[i - 1]) repeated.add(all[i] as number);
  const groups = new Map<string, Copy[]>();
  seen.forEach(({ hash: hashes, check }, part) => {
    hashes.forEach((value, sample) => {
      if (!repeated.has(value)) return;
      const key = `${value} ${check[sample]}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [{ part, sample }]);
      else group.push({ part, sample });
    });
  });
  return [...groups.values()].filter((group) => group.length > 1);
}

export function contentOf(picture: Encoded | Pixels): Uint8Array {
  return picture.kind === "encoded" ? picture.bytes : picture.data;
}
