/**
 * Folders that Riffle wrote: runs, shards, lists. Inside the data they are no classes, whatever their names.
 */

import { readdirSync } from "node:fs";
import { join } from "node:path";

/** What such a folder holds, one of these names at least; a run's is found before its first checkpoint, too. */
const MARKS: readonly RegExp[] = [
  /^(step-\d+|recipe\.json|events\.jsonl)$/,
  /^SHA256SUMS$/,
  /^(plan\.json|shards\.jsonl)$/,
  /^(integer_encoding\.json|wordnet_decoder\.json|training_metadata\.csv)$/,
];

/** A folder of ours holds no such file; where one lies, what else lies there is somebody's notes. */
export function isPictureName(name: string): boolean {
  return /\.(jpe?g|png|webp|gif|tiff?|avif|bmp|heic)$/i.test(name);
}

/** Whether a folder is one of ours, or holds nothing but such folders, as `runs/` does. */
export function isOwnOutput(path: string, depth = 2): boolean {
  let entries;
  try {
    entries = readdirSync(path, { withFileTypes: true });
  } catch {
    return false;
  }
  if (entries.some(({ name }) => isPictureName(name))) return false;
  if (entries.some(({ name }) => MARKS.some((mark) => mark.test(name)))) return true;
  if (depth === 0 || entries.length === 0) return false;
  return entries.every((entry) => entry.isDirectory() && isOwnOutput(join(path, entry.name), depth - 1));
}
