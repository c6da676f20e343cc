/**
 * Names of classes that a file of weights carries, or that lie in a file beside it: what people's training scripts, Hugging Face's
 * folders, TensorFlow Datasets and slim leave.
 *
 * Every list is kept with the place that it comes from, so that whoever uses one can say so. Which of them fits is decided by
 * the number of outputs (describe.ts); nothing here knows the network.
 */

import { join } from "node:path";

import { exists } from "../core/durable.js";
import { Call, type PickleValue, Tuple } from "../formats/pickle.js";
import { readWhole } from "../formats/read-file.js";
import { utf8Of } from "../formats/utf8.js";

/** A name for each output, in order. */
export interface ClassNames {
  readonly names: readonly string[];
  /** "class_to_idx in the file", "labels.txt beside it". */
  readonly from: string;
}

/** Under these keys scripts save them; a dict from name to number, from number to name, or a list. The surest first. */
const keys = ["class_to_idx", "idx_to_class", "id2label", "class_names", "classes", "label_names", "labels"];

/** Files beside weights: Hugging Face's, torchvision's mapping, slim's, TensorFlow Datasets', a plain list. */
const files = ["config.json", "class_to_idx.json", "labels.txt", "label.labels.txt", "classes.txt"];

/** Dicts in dicts, and objects' attributes, in which names are looked for: {"args": Namespace(classes=[...])}. */
const DEPTH = 3;
/** A file of more is none of names. */
const MAX_BYTES = 16 * 2 ** 20;

/** Lists in what a pickle holds. */
export function namesInPickle(value: PickleValue): ClassNames[] {
  const found: (ClassNames & { readonly rank: number })[] = [];
  const visited = new Set<unknown>();
  let level: { value: PickleValue; path: string }[] = [{ value, path: "" }];
  for (let depth = 0; depth < DEPTH; depth++) {
    const next: typeof level = [];
    for (const { value: holder, path } of level) {
      if (visited.has(holder)) continue;
      visited.add(holder);
      for (const dict of dictsOf(holder)) {
        for (const [key, child] of dict) {
          if (typeof key !== "string") continue;
          const names = keys.includes(key) ? namesOf(plain(child)) : undefined;
          if (names !== undefined)
            found.push({ names, from: `${path}${key} in the file`, rank: keys.indexOf(key) });
          else if (child !== null && typeof child === "object")
            next.push({ value: child, path: `${path}${key}.` });
        }
      }
    }
    level = next;
  }
  return found.sort((a, b) => a.rank - b.rank);
}

/** Lists in a file's own text, such as safetensors' metadata. */
export function namesInMetadata(metadata: ReadonlyMap<string, string>): ClassNames[] {
  return keys.flatMap((key) => {
    const names = namesOf(parsed(metadata.get(key) ?? "null"));
    return names === undefined ? [] : [{ names, from: `${key} in the file` }];
  });
}

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

/** A list of text, or a dict between numbers 0 to n - 1 and text, whichever way. */
function namesOf(value: unknown): readonly string[] | undefined {
  if (Array.isArray(value)) {
    const list = value as unknown[];
    return list.length > 0 && list.every((name) => typeof name === "string") ? list : undefined;
  }
  if (!(value instanceof Map) || value.size === 0) return undefined;
  const names: string[] = [];
  for (const [key, content] of value as Map<unknown, unknown>) {
    const [name, number] = typeof content === "string" ? [content, Number(key)] : [key, Number(content)];
    if (typeof name !== "string" || !Number.isInteger(number) || number < 0 || number >= value.size) {
      return undefined;
    }
    if (names[number] !== undefined) return undefined;
    names[number] = name;
  }
  return names;
}

/** Objects become Maps, so that no key of the file is a property of ours. */
function parsed(json: string): unknown {
  const asMap = (_: string, value: unknown): unknown =>
    value !== null && typeof value === "object" && !Array.isArray(value)
      ? new Map(Object.entries(value))
      : value;
  try {
    const value: unknown = JSON.parse(json, asMap);
    return value;
  } catch {
    return undefined;
  }
}

/** Entries of a dict, attributes of an object. */
function dictsOf(value: PickleValue): Map<PickleValue, PickleValue>[] {
  const held = value instanceof Call ? [value.entries, value.state] : [value];
  return held.filter((dict) => dict instanceof Map);
}

/** A tuple as a list, a kind of dict as a dict. */
function plain(value: PickleValue): unknown {
  if (value instanceof Tuple) return value.items;
  return value instanceof Call ? (value.entries ?? value.items) : value;
}
