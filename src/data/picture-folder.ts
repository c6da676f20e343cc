/**
 * What lies in a folder of pictures, the same for every command: links are followed, what systems and editors leave
 * behind is passed over, names are sorted by code point, and one that is no text is refused, since no list can hold it.
 */

import { isUtf8 } from "node:buffer";
import { readdirSync, type Stats, statSync } from "node:fs";
import { join } from "node:path";

import { DataError, errorCode } from "../core/error.js";
import { unreadable } from "./unreadable.js";

/** Folders and files in `path`, sorted; what systems and editors leave behind is passed over. */
export function listFolder(path: string): { readonly folders: string[]; readonly files: string[] } {
  let entries;
  try {
    // Bytes: Node puts U+FFFD in the place of what is no UTF-8, and no file has that name.
    entries = readdirSync(path, { withFileTypes: true, encoding: "buffer" });
  } catch (error) {
    const code = errorCode(error);
    if (code === "ENOENT") throw DataError.at(path, "there is no such folder", {}, error);
    if (code === "ENOTDIR") throw DataError.at(path, "a file, where a folder is expected", {}, error);
    throw unreadable(path, error);
  }
  const folders: string[] = [];
  const files: string[] = [];
  for (const entry of entries) {
    const name = entry.name.toString();
    if (isJunk(name)) continue;
    if (!isUtf8(entry.name)) throw notText(path, entry.name);
    const kind = entry.isSymbolicLink() ? statOf(join(path, name)) : entry;
    if (kind.isDirectory()) folders.push(name);
    else if (kind.isFile()) files.push(name);
    else throw DataError.at(join(path, name), "neither a file nor a folder");
  }
  return { folders: folders.sort(byCodePoint), files: files.sort(byCodePoint) };
}

function notText(folder: string, name: Uint8Array): DataError {
  // As a shell takes it between $' and '.
  const bytes = Array.from(name, (byte) =>
    byte < 0x80 ? String.fromCharCode(byte) : `\\x${byte.toString(16)}`,
  );
  return DataError.at(folder, "a name that is not UTF-8 text, so no list can hold it", {
    found: bytes.join(""),
    safe: "Nothing was written",
    hint: "Rename it; for many of them there is convmv -f latin1 -t utf8 --notest",
  });
}

export function statOf(path: string): Stats {
  try {
    return statSync(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

const JUNK: ReadonlySet<string> = new Set(["thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "@eadir"]);

/** Names at any level of a path. */
export function isJunk(path: string): boolean {
  return path.split("/").some((name) => name.startsWith(".") || JUNK.has(name.toLowerCase()));
}

/** Notes that data sets carry beside their class folders. */
export function isDocument(name: string): boolean {
  return (
    /\.(txt|md|rst|csv|tsv|json|jsonl|xml|ya?ml|pdf|html?|npy)$/i.test(name) ||
    /^(readme|licen[cs]e)$/i.test(name)
  );
}

/** The order of every list here. */
export function byCodePoint(a: string, b: string): number {
  // The order of JavaScript's own comparison, which needs no buffers, where all characters have one unit.
  if (!/[\ud800-\udfff]/.test(a) && !/[\ud800-\udfff]/.test(b)) return a < b ? -1 : a > b ? 1 : 0;
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
