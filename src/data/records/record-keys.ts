/**
 * Which features of an Example are the picture, its label and its boxes: the lineage's names, TensorFlow's usual
 * ones, or those given with `--keys image=image/encoded,label=image/class/label,...`.
 *
 * Boxes are shares of the picture's width and height.
 */

import { DataError, UsageError } from "../../core/error.js";
import type { Feature } from "../../formats/tf-example.js";
import type { ObjectBox } from "../pictures/augment.js";

const ROLES = ["image", "label", "xmin", "ymin", "xmax", "ymax"] as const;
type Role = (typeof ROLES)[number];
const SIDES = ["xmin", "ymin", "xmax", "ymax"] as const;

/** The name of the feature for each role. */
export type RecordKeys = { readonly [R in Role]: string };

/** What was asked for; roles left out are found by {@link detectKeys}. */
export type RequestedKeys = ReadonlyMap<Role, string>;

export type Example = ReadonlyMap<string, Feature>;

/**
 * `image=KEY,label=KEY,xmin=KEY,...`; names of features hold neither commas nor equals signs.
 *
 * @throws UsageError
 */
export function parseKeys(text: string): RequestedKeys {
  const keys = new Map<Role, string>();
  const refuse = (what: string, found: string, expected?: string) =>
    new UsageError({
      what: `--keys: ${what}`,
      found,
      expected,
      hint: "--keys image=image/encoded,label=image/class/label",
    });
  for (const part of text.split(",")) {
    const [, role = "", key = ""] = /^\s*([^=\s]+)\s*=\s*([^=]*?)\s*$/.exec(part) ?? [];
    if (role === "" || key === "") throw refuse("not NAME=KEY", part);
    if (!isRole(role)) throw refuse("no such name", role, ROLES.join(", "));
    if (/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(key))
      throw refuse("a key with control characters", JSON.stringify(key));
    if (keys.has(role)) throw refuse(`${role} is given twice`, text);
    keys.set(role, key);
  }
  const sides = SIDES.filter((side) => keys.has(side));
  if (sides.length > 0 && sides.length < 4)
    throw refuse("a box needs all its sides", sides.join(", "), SIDES.join(", "));
  return keys;
}

/**
 * The keys of a data set by its first Example.
 *
 * @throws DataError listing the keys found where the picture or the label is under none of the known names.
 */
export function detectKeys(
  example: Example,
  requested: RequestedKeys | undefined,
  where: string,
): RecordKeys {
  const find = (role: "image" | "label"): string => {
    const asked = requested?.get(role);
    const candidates = asked === undefined ? KNOWN.map((keys) => keys[role]) : [asked];
    const found = candidates.find((key) => example.has(key));
    if (found !== undefined) return found;
    throw DataError.at(
      where,
      `the record has no ${role === "image" ? "picture" : "label"} under a known key`,
      {
        expected: candidates.join(" or "),
        found: listed(example),
        hint: "Say which it is, such as --keys image=image/encoded,label=image/class/label",
      },
    );
  };
  const image = find("image");
  const label = find("label");
  const boxes = KNOWN.find((keys) => example.has(keys.xmin)) ?? KNOWN[0];
  const side = (name: (typeof SIDES)[number]) => requested?.get(name) ?? boxes[name];
  return { image, label, xmin: side("xmin"), ymin: side("ymin"), xmax: side("xmax"), ymax: side("ymax") };
}

/** The encoded picture, a view of the record. */
export function pictureOf(example: Example, keys: RecordKeys, where: string): Uint8Array {
  const feature = example.get(keys.image);
  if (feature?.kind === "bytes" && feature.values.length === 1) return feature.values[0] as Uint8Array;
  throw unexpected(example, keys.image, where, "one string of bytes");
}

/** The label as the record has it: a 32-bit integer, or a list of the same one (one per object). */
export function labelOf(example: Example, keys: RecordKeys, where: string): number {
  const feature = example.get(keys.label);
  if (feature?.kind !== "ints" || feature.values.length === 0) {
    throw unexpected(example, keys.label, where, "one integer");
  }
  const [first = 0n] = feature.values;
  if (feature.values.some((value) => value !== first)) {
    const found = `${feature.values.slice(0, 8).join(", ")}${feature.values.length > 8 ? ", ..." : ""}`;
    throw DataError.at(where, `several labels under "${keys.label}"`, { expected: "one class", found });
  }
  if (BigInt.asIntN(32, first) !== first) {
    throw DataError.at(where, "a label that is no class", {
      expected: "a 32-bit integer",
      found: `${first}`,
    });
  }
  return Number(first);
}

/** The boxes; none where the record has no such keys. */
export function boxesOf(example: Example, keys: RecordKeys, where: string): ObjectBox[] {
  if (SIDES.every((side) => !example.has(keys[side]))) return [];
  const [xmin, ymin, xmax, ymax] = SIDES.map((side) => {
    const feature = example.get(keys[side]);
    if (feature?.kind === "floats") return feature.values;
    // Writers that do not know the type of an empty list write none.
    if (feature === undefined || feature.values.length === 0) return new Float32Array(0);
    throw unexpected(example, keys[side], where, "a list of floats");
  }) as [Float32Array, Float32Array, Float32Array, Float32Array];
  const lengths = [xmin, ymin, xmax, ymax].map((values) => values.length);
  if (lengths.some((length) => length !== xmin.length)) {
    const numbers = { expected: "as many of each", found: lengths.join(", ") };
    throw DataError.at(where, `boxes without all sides (${SIDES.join(", ")})`, numbers);
  }
  return Array.from(xmin, (_, i) => {
    const box = {
      xmin: xmin[i] as number,
      ymin: ymin[i] as number,
      xmax: xmax[i] as number,
      ymax: ymax[i] as number,
    };
    if (!SIDES.every((side) => Number.isFinite(box[side]))) {
      throw DataError.at(where, `box ${i} is not made of numbers`, { found: Object.values(box).join(", ") });
    }
    return box;
  });
}

/** In the order in which they are tried: the lineage's, then those of TensorFlow's slim and its object detection. */
const KNOWN = [
  { image: "image", label: "label", xmin: "xmin", ymin: "ymin", xmax: "xmax", ymax: "ymax" },
  {
    image: "image/encoded",
    label: "image/class/label",
    xmin: "image/object/bbox/xmin",
    ymin: "image/object/bbox/ymin",
    xmax: "image/object/bbox/xmax",
    ymax: "image/object/bbox/ymax",
  },
] as const satisfies readonly RecordKeys[];

function isRole(text: string): text is Role {
  return (ROLES as readonly string[]).includes(text);
}

function unexpected(example: Example, key: string, where: string, expected: string): DataError {
  const feature = example.get(key);
  const found =
    feature === undefined
      ? `no such key among ${listed(example)}`
      : `${feature.values.length} of ${feature.kind}`;
  return DataError.at(where, `the record's "${key}" cannot be used`, { expected, found });
}

/** Keys with their kinds; control characters were refused when the Example was read. */
function listed(example: Example): string {
  const keys = [...example].map(([key, { kind }]) => `${key.slice(0, 60)} (${kind})`).sort();
  return keys.slice(0, 24).join(", ") + (keys.length > 24 ? ", ..." : "") || "no keys";
}
