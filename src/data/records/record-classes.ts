/**
 * Names of the classes of records, where files beside the shards say them.
 */

import { readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";

import { DataError, errorCode } from "../../core/error.js";
import { linesOf, plainText } from "../../formats/plain-text.js";
import { unreadable } from "../unreadable.js";

/** Larger labels are no classes, and would each get a name. */
export const MAX_CLASSES = 1_000_000;

const MAX_CLASSES_BYTES = 64 * 2 ** 20;

/**
 * Class names beside the shards or one folder up: `integer_encoding.json` (name to label), `classes.txt` (one name per
 * line), TensorFlow Datasets' `label.labels.txt` or slim's `labels.txt`; undefined where there is none of them.
 *
 * @param label the feature that holds the label, after which TensorFlow Datasets names the file
 */
export async function readClasses(folder: string, label = "label"): Promise<string[] | undefined> {
  for (const place of [folder, dirname(folder)]) {
    const encoding = join(place, "integer_encoding.json");
    const json = await readText(encoding);
    if (json !== undefined) return classesOfEncoding(json, encoding);
    const lists = [
      "classes.txt",
      `${label.replaceAll("/", "-")}.labels.txt`,
      "label.labels.txt",
      "labels.txt",
    ];
    for (const name of lists) {
      const list = join(place, name);
      const text = await readText(list);
      if (text === undefined) continue;
      const written = linesOf(text);
      // slim writes "0:daisy".
      const isNumbered = name === "labels.txt" && written.every((line, i) => line.startsWith(`${i}:`));
      const lines = isNumbered ? written.map((line) => line.slice(line.indexOf(":") + 1)) : written;
      // Which line a name stands in is its label, so an empty one cannot be passed over.
      const empty = lines.length === 0 ? 0 : lines.findIndex((line) => line.trim() === "");
      if (empty >= 0) throw DataError.at(`${list}, line ${empty + 1}`, "names no class");
      if (new Set(lines).size !== lines.length) throw DataError.at(list, "names a class twice");
      return lines;
    }
  }
  return undefined;
}

function classesOfEncoding(json: string, where: string): string[] {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw DataError.at(where, "is no JSON", {}, error);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw DataError.at(where, "is no object of names and labels");
  }
  const entries = Object.entries(value);
  const classes: (string | undefined)[] = Array.from({ length: entries.length });
  for (const [name, label] of entries) {
    if (
      !Number.isInteger(label) ||
      label < 0 ||
      label >= entries.length ||
      classes[label as number] !== undefined
    ) {
      throw DataError.at(where, `the label of ${JSON.stringify(name)} is no class of its own`, {
        expected: `each of 0 .. ${entries.length - 1} once`,
        found: JSON.stringify(label),
      });
    }
    classes[label as number] = name;
  }
  return classes as string[];
}

async function readText(path: string): Promise<string | undefined> {
  try {
    const found = await stat(path);
    if (!found.isFile()) throw DataError.at(path, "not a regular file");
    if (found.size > MAX_CLASSES_BYTES) throw DataError.at(path, "too long for a list of classes");
    const text = plainText(await readFile(path));
    if (text === undefined) throw DataError.at(path, "holds bytes that are no UTF-8 text");
    return text;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw unreadable(path, error);
  }
}
