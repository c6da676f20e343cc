/**
 * Names of classes that a file of weights carries (class-names-beside.ts: that lie beside it): what people's training scripts, Hugging Face's
 * folders, TensorFlow Datasets and slim leave.
 *
 * Every list is kept with the place that it comes from, so that whoever uses one can say so. Which of them fits is decided by
 * the number of outputs (describe.ts); nothing here knows the network.
 */

import { Call, type PickleValue, Tuple } from "../formats/pickle.js";

/** A name for each output, in order. */
export interface ClassNames {
  readonly names: readonly string[];
  /** "class_to_idx in the file", "labels.txt beside it". */
  readonly from: string;
}

/** Under these keys scripts save them; a dict from name to number, from number to name, or a list. The surest first. */
export const keys = [
  "class_to_idx",
  "idx_to_class",
  "id2label",
  "class_names",
  "classes",
  "label_names",
  "labels",
];

/** Dicts in dicts, and objects' attributes, in which names are looked for: {"args": Namespace(classes=[...])}. */
const DEPTH = 3;
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

/** A list of text, or a dict between numbers 0 to n - 1 and text, whichever way. */
export function namesOf(value: unknown): readonly string[] | undefined {
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
export function parsed(json: string): unknown {
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
