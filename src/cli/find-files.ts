/**
 * What the arguments of `predict` stand for: files, folders (every file in them), patterns the shell was
 * kept from expanding ("photos/*.jpg"), and single pictures of an array (`set.npz#17`).
 *
 * A path that exists is taken as it is, whatever characters are in it.
 */

import { existsSync, readdirSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";

import { statIfThere } from "../core/durable.js";
import { DataError } from "../core/error.js";
import { inItsForm } from "../core/name-forms.js";
import { shellWord } from "../core/printable.js";
import { byCodePoint, entriesOf, isDocument } from "../data/picture-folder.js";
import { noRemarks, type Remarks } from "../data/remarks.js";

interface Inputs {
  /** Picture and `.npz` files, in the order of the arguments, sorted within a folder. */
  readonly files: readonly string[];
  /** Whether a result, named as the prediction names it, was asked for. */
  readonly wanted: (result: string) => boolean;
  /** Why those of the files cannot be opened whose names alone tell. */
  readonly refused: ReadonlyMap<string, string>;
  /** What was passed over in folders. */
  readonly remarks: Remarks;
}

interface Finding {
  readonly refused: Map<string, string>;
  readonly remarks: Remarks;
}

/** @throws DataError when an argument stands for no file. */
export function findFiles(paths: readonly string[]): Inputs {
  const files: string[] = [];
  const entries = new Map<string, Set<string>>();
  const finding = { refused: new Map<string, string>(), remarks: noRemarks() };
  for (const path of paths.map(inItsForm)) {
    const [, npz] = /^(.*\.npz)#\d+$/is.exec(path) ?? [];
    if (npz !== undefined && !existsSync(path)) {
      const known = entries.get(npz);
      if (known === undefined) files.push(npz);
      entries.set(npz, (known ?? new Set()).add(path));
    } else {
      files.push(...filesOf(path, finding));
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
    ...finding,
    wanted: (result) => entries.get(result.replace(/#\d+$/, ""))?.has(result) ?? true,
  };
}

function filesOf(path: string, finding: Finding): string[] {
  if (existsSync(path)) return statSync(path).isDirectory() ? filesUnder(path, finding) : [path];
  const pattern = basename(path);
  const folder = dirname(path);
  if (!/[*?]/.test(pattern) || statIfThere(folder)?.isDirectory() !== true) return [path];
  // Who writes the dot means what begins with one.
  const names = pattern.startsWith(".")
    ? readdirSync(folder).sort(byCodePoint)
    : entriesOf(folder, finding.remarks).map(({ name }) => name);
  const matching = names.filter((name) => patternOf(pattern).test(name));
  if (matching.length === 0) {
    throw new DataError({
      what: "no file matches the pattern",
      where: path,
      expected: "at least one file",
      hint: `What is there: ls ${shellWord(folder)}`,
    });
  }
  return matching.map((name) => join(folder, name));
}

function filesUnder(folder: string, finding: Finding): string[] {
  const found: string[] = [];
  const walked = new Set<string>();
  const walk = (path: string): void => {
    // A link may lead back to a folder above.
    const real = realpathSync(path);
    if (walked.has(real)) return;
    walked.add(real);
    for (const { name, kind, problem } of entriesOf(path, finding.remarks)) {
      const where = join(path, name);
      if (problem !== undefined) finding.refused.set(where, problem.problem.what);
      if (kind === "folder" && problem === undefined) walk(where);
      else if (isDocument(name)) finding.remarks.others.push(where);
      else found.push(where);
    }
  };
  walk(folder);
  if (found.length === 0) {
    throw new DataError({
      what: "the folder holds no files",
      where: folder,
      expected: "pictures",
      hint: "Name a folder with pictures in it, or the pictures themselves",
    });
  }
  return found.sort(byCodePoint);
}

/** `*` and `?` within one segment of a path; everything else stands for itself. */
function patternOf(pattern: string): RegExp {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".");
  return new RegExp(`^${source}$`, "s");
}
