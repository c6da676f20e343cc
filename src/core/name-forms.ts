/**
 * Names as people see them: Unicode writes an accented letter as one character (NFC, as keyboards and Windows do) or as a
 * letter and its accent (NFD, as macOS stores names and archives made there carry them). File systems keep the bytes,
 * so a list made on one machine misses the files of another although both read alike.
 *
 * Sources: Unicode Standard Annex 15; Apple's Technical Q&A 1173.
 */

import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** Looks names up as they are, then in the other form; a form that two of them share finds none. */
export function byName<T>(entries: Iterable<readonly [string, T]>): (name: string) => T | undefined {
  const exact = new Map(entries);
  const forms = new Map<string, T | undefined>();
  for (const [name, value] of exact) {
    const form = name.normalize("NFC");
    forms.set(form, forms.has(form) ? undefined : value);
  }
  return (name) => (exact.has(name) ? exact.get(name) : forms.get(name.normalize("NFC")));
}

/** Two of the names that look the same and are not; undefined where there are none. */
export function lookalikes(names: readonly string[]): readonly [string, string] | undefined {
  const seen = new Map<string, string>();
  for (const name of names) {
    const form = name.normalize("NFC");
    const other = seen.get(form);
    if (other !== undefined && other !== name) return [other, name];
    seen.set(form, name);
  }
  return undefined;
}

/** The path, or, where nothing is there, the one that is there under names that look the same. */
export function inItsForm(path: string): string {
  if (isPlain(path) || existsSync(path)) return path;
  const parent = dirname(path);
  if (parent === path) return path;
  const folder = inItsForm(parent);
  const name = basename(path);
  for (const form of [name, name.normalize("NFC"), name.normalize("NFD")]) {
    const there = join(folder, form);
    if (existsSync(there)) return there;
  }
  return path;
}

/** Of ASCII, which has one form only. */
function isPlain(path: string): boolean {
  return !/[^\0-\x7f]/.test(path);
}
