/** Names of classes in files that lie beside weights. */

import { join } from "node:path";

import { exists } from "../core/durable.js";
import { readWhole } from "../formats/read-file.js";
import { utf8Of } from "../formats/utf8.js";
import { type ClassNames, keys, namesOf, parsed } from "./class-names.js";

/** Files beside weights: Hugging Face's, torchvision's mapping, slim's, TensorFlow Datasets', a plain list. */
const files = ["config.json", "class_to_idx.json", "labels.txt", "label.labels.txt", "classes.txt"];

/** A file of more is none of names. */
const MAX_BYTES = 16 * 2 ** 20;

/** Lists in the files of a folder that are known to hold such. What cannot be read there is passed over: it was not asked for. */
export async function namesInFolder(folder: string): Promise<ClassNames[]> {
  const found: ClassNames[] = [];
  for (const name of files) {
    const path = join(folder, name);
    if (!(await exists(path))) continue;
    const bytes = await readWhole(path, MAX_BYTES).catch(() => undefined);
    const text = bytes && utf8Of(bytes)?.replace(/^\uFEFF/, "");
    if (text === undefined) continue;
    const names = name.endsWith(".json") ? namesInJson(name, text) : namesInLines(text);
    if (names !== undefined) found.push({ names, from: name });
  }
  return found;
}

function namesInJson(name: string, text: string): readonly string[] | undefined {
  const value = parsed(text);
  if (name !== "config.json") return namesOf(value);
  if (!(value instanceof Map)) return undefined;
  const names = namesOf(
    keys.map((key) => (value as Map<unknown, unknown>).get(key)).find((list) => namesOf(list) !== undefined),
  );
  // What transformers writes where nobody named the classes.
  return names?.every((label, i) => label === `LABEL_${i}`) === true ? undefined : names;
}

/** One name a line; slim writes "0:daisy". */
function namesInLines(text: string): readonly string[] | undefined {
  const lines = text.trimEnd().split(/\r?\n/);
  const plainLines = lines.every((line, i) => line.startsWith(`${i}:`))
    ? lines.map((line) => line.slice(line.indexOf(":") + 1))
    : lines;
  const names = plainLines.map((line) => line.trim());
  return names.includes("") ? undefined : names;
}
