/**
 * What lies in a folder of pictures, the same for every command: links are followed, what systems and editors leave
 * behind is passed over and counted, names are sorted by code point, and one that is no text is refused by name, since
 * no list can hold it.
 */

import { isUtf8 } from "node:buffer";
import { type Dirent, readdirSync, type Stats, statSync } from "node:fs";
import { join } from "node:path";

import { DataError, errorCode } from "../core/error.js";
import { noRemarks, type Remarks } from "./remarks.js";
import { isCompanion, isFilm, isSystemFile } from "./system-files.js";
import { unreadable } from "./unreadable.js";

/** One name in a folder. */
export interface FolderEntry {
  /** Escaped where it is no text. */
  readonly name: string;
  readonly kind: "folder" | "file";
  /** Why it cannot be opened: a name that is no text, a link to nothing, a pipe. */
  readonly problem?: DataError;
}

/**
 * What lies in `path`, sorted by name, without what systems and editors leave behind, which is counted in `remarks`.
 *
 * @throws DataError when the folder cannot be read.
 */
export function entriesOf(path: string, remarks = noRemarks()): FolderEntry[] {
  let entries;
  try {
    // Bytes: Node puts U+FFFD in the place of what is no UTF-8, and no file has that name.
    entries = readdirSync(path, { withFileTypes: true, encoding: "buffer" });
  } catch (error) {
    const code = errorCode(error);
    if (code === "ENOENT")
      throw DataError.at(path, "there is no such folder", { hint: "Check the path" }, error);
    if (code === "ENOTDIR")
      throw DataError.at(path, "a file, where a folder is expected", { hint: "Give its folder" }, error);
    throw unreadable(path, error);
  }
  const found: FolderEntry[] = [];
  for (const entry of entries) {
    const text = entry.name.toString();
    if (isSystemFile(text) || (isCompanion(text) && !entry.isDirectory())) {
      remarks.system++;
      continue;
    }
    found.push(isUtf8(entry.name) ? entryOf(path, text, entry) : notText(path, entry));
  }
  return found.sort((a, b) => byCodePoint(a.name, b.name));
}

/** Folders and files in `path`, sorted. @throws DataError for what can be neither opened nor put into a list. */
export function listFolder(
  path: string,
  remarks?: Remarks,
): { readonly folders: string[]; readonly files: string[] } {
  const entries = entriesOf(path, remarks);
  const problem = entries.find((entry) => entry.problem !== undefined)?.problem;
  if (problem !== undefined) throw problem;
  const named = (kind: FolderEntry["kind"]): string[] =>
    entries.filter((entry) => entry.kind === kind).map(({ name }) => name);
  return { folders: named("folder"), files: named("file") };
}

/** A name's own kind, or of what it is a link to. */
function entryOf(folder: string, name: string, entry: Dirent<Buffer>): FolderEntry {
  const path = join(folder, name);
  let kind: Dirent<Buffer> | Stats = entry;
  try {
    if (entry.isSymbolicLink()) kind = statOf(path);
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    return { name, kind: "file", problem: error };
  }
  if (kind.isDirectory()) return { name, kind: "folder" };
  if (kind.isFile()) return { name, kind: "file" };
  return {
    name,
    kind: "file",
    problem: DataError.at(path, "neither a file nor a folder", { hint: "Move it away" }),
  };
}

function notText(folder: string, entry: Dirent<Buffer>): FolderEntry {
  // As a shell takes it between $' and '.
  const name = Array.from(entry.name, (byte) =>
    byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`,
  ).join("");
  const problem = DataError.at(join(folder, name), "a name that is not UTF-8 text, so no list can hold it", {
    found: name,
    safe: "Nothing was written",
    hint: "Rename it; for many of them there is convmv -f latin1 -t utf8 --notest",
  });
  return { name, kind: entry.isDirectory() ? "folder" : "file", problem };
}

export function statOf(path: string): Stats {
  try {
    return statSync(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** Whether a path goes through a name that is passed over; its last is a file's. */
export function isJunk(path: string): boolean {
  const names = path.split("/");
  return names.some(isSystemFile) || isCompanion(names.at(-1) as string) || isFilm(names.at(-1) as string);
}

/** Notes and films that lie beside pictures and are none, by their names; a class folder may be called so. */
export function isDocument(name: string): boolean {
  return (
    /\.(txt|md|rst|csv|tsv|json|jsonl|xml|ya?ml|pdf|html?|npy)$/i.test(name) ||
    /^(readme|licen[cs]e)$/i.test(name) ||
    isFilm(name)
  );
}

/** The order of every list here. */
export function byCodePoint(a: string, b: string): number {
  // The order of JavaScript's own comparison, which needs no buffers, where all characters have one unit.
  if (!/[\ud800-\udfff]/.test(a) && !/[\ud800-\udfff]/.test(b)) return a < b ? -1 : a > b ? 1 : 0;
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
