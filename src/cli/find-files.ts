/**
 * What the arguments of `predict` stand for: files, folders (every file in them), patterns the shell was
 * kept from expanding ("photos/*.jpg"), and single pictures of an array (`set.npz#17`).
 *
 * A path that exists is taken as it is, whatever characters are in it.
 */

import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";

import { DataError } from "../core/error.js";
import { byCodePoint, isJunk } from "../data/picture-folder.js";

interface Inputs {
  /** Picture and `.npz` files, in the order of the arguments, sorted within a folder. */
  readonly files: readonly string[];
  /** Whether a result, named as the prediction names it, was asked for. */
  readonly wanted: (result: string) => boolean;
}

/** @throws DataError when an argument stands for no file. */
export function findFiles(paths: readonly string[]): Inputs {
  const files: string[] = [];
  const entries = new Map<string, Set<string>>();
  for (const path of paths) {
    const [, npz] = /^(.*\.npz)#\d+$/is.exec(path) ?? [];
    if (npz !== undefined && !existsSync(path)) {
      const known = entries.get(npz);
      if (known === undefined) files.push(npz);
      entries.set(npz, (known ?? new Set()).add(path));
    } else {
      files.push(...filesOf(path));
    }
  }
  // An archive given by name as well is wanted whole.
  for (const npz of entries.keys()) {
    if (files.indexOf(npz) !== files.lastIndexOf(npz)) {
      files.splice(files.indexOf(npz), 1);
      entries.delete(npz);
    }
  }
  return {
    files,
    wanted: (result) => entries.get(result.replace(/#\d+$/, ""))?.has(result) ?? true,
  };
}

function filesOf(path: string): string[] {
  if (existsSync(path)) return statSync(path).isDirectory() ? filesUnder(path) : [path];
  const pattern = basename(path);
  const folder = dirname(path);
  if (!/[*?]/.test(pattern) || !existsSync(folder)) return [path];
  const matching = readdirSync(folder)
    .filter((name) => patternOf(pattern).test(name) && (pattern.startsWith(".") || !name.startsWith(".")))
    .sort();
  if (matching.length === 0) {
    throw new DataError({ what: "no file matches the pattern", where: path, expected: "at least one file" });
  }
  return matching.map((name) => join(folder, name));
}

function filesUnder(folder: string): string[] {
  const found = readdirSync(folder, { recursive: true, withFileTypes: true })
    .map((entry) => ({ entry, path: join(entry.parentPath, entry.name) }))
    // A broken link is a result of its own.
    .filter(({ entry, path }) => entry.isFile() || (entry.isSymbolicLink() && !isFolder(path)))
    .map(({ path }) => path)
    .filter((path) => !isJunk(relative(folder, path)))
    .sort(byCodePoint);
  if (found.length === 0) {
    throw new DataError({ what: "the folder holds no files", where: folder, expected: "pictures" });
  }
  return found;
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** `*` and `?` within one segment of a path; everything else stands for itself. */
function patternOf(pattern: string): RegExp {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".");
  return new RegExp(`^${source}$`, "s");
}
