/**
 * The pictures of a run as it keeps them: upright, no larger than training needs, in the order in which training counts them.
 *
 * Made smaller by the filter of evaluation, a picture that is held out is seen as prediction sees the file it came from, to the
 * bit; one that is trained on stays large enough that no crop has to be enlarged.
 */

import { DataError, ResourceError, RiffleError, UsageError } from "../core/error.js";
import { Draws, streams } from "../core/random.js";
import type { WasmPictures } from "../core/wasm-module.js";
import { wholePicture } from "../data/pictures/augment.js";
import { type DecodedPicture, decodePicture } from "./decoded-picture.js";
import type { LeftOutEvent, NoteEvent, PreparingEvent } from "./events.js";
import type { GivenLabelled } from "./wire.js";

/** What is kept of a picture beside its pixels. */
export interface PictureEntry {
  readonly name: string;
  /** Row of the classes. */
  readonly label: number;
  readonly heldOut: boolean;
  readonly width: number;
  readonly height: number;
}

export interface KeptSet {
  readonly classes: readonly string[];
  /** Those that are trained on first, class by class. */
  readonly entries: readonly PictureEntry[];
  /** [height, width, 3] of each. */
  readonly pixels: readonly Uint8Array[];
}

/** Pixels of the shorter sides that pictures are made smaller to. */
export interface KeptSizes {
  readonly train: number;
  readonly heldOut: number;
}

export interface Preparation {
  readonly pictures: readonly GivenLabelled[];
  readonly validation: readonly GivenLabelled[] | undefined;
  readonly classes: readonly string[];
  readonly sizes: KeptSizes;
  readonly seed: number;
  readonly report: (event: PreparingEvent | LeftOutEvent | NoteEvent) => void;
  readonly signal: AbortSignal;
}

/** Of every class, where no pictures are given to score. */
const HELD_OUT = 0.2;

/** Pictures in memory, and as many bytes on the disk. */
const MOST_BYTES = 2 ** 30;

/** The classes of a training, in the order of the network's outputs. @throws UsageError */
export function classesOf(
  pictures: readonly GivenLabelled[],
  validation: readonly GivenLabelled[],
  given: readonly string[] | undefined,
): readonly string[] {
  const labels = new Set([...pictures, ...validation].map(({ label }) => label));
  const refuse = (what: string, expected: string, found: string, hint?: string): never => {
    throw new UsageError({ what, where: "classes", expected, found, safe: "Nothing was trained", hint });
  };
  const bad = [...labels, ...(given ?? [])].find(
    (name) => typeof name !== "string" || name.trim() === "" || name.length > LONGEST_NAME,
  );
  if (bad !== undefined)
    refuse("a class needs a name", `1 to ${LONGEST_NAME} characters`, JSON.stringify(bad) ?? "none");
  // In the order of their code points, as folders of classes are read.
  const classes = given ?? [...labels].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const twice = classes.find((name, i) => classes.indexOf(name) !== i) ?? alike(classes);
  if (twice !== undefined)
    refuse(
      "two classes have the same name",
      "a name of its own for each",
      JSON.stringify(twice),
      "Rename one of them, or put their pictures together",
    );
  if (classes.length < 2)
    refuse(
      "there is nothing to tell apart",
      "two classes at least",
      classes.map((name) => JSON.stringify(name)).join(", ") || "none",
    );
  const unknown = [...labels].find((label) => !classes.includes(label));
  if (unknown !== undefined) refuse("a picture is of a class that is not named", classes.join(", "), unknown);
  for (const name of classes) {
    const count = pictures.filter(({ label }) => label === name).length;
    if (count === 0)
      refuse(
        "a class has no pictures to learn from",
        "one at least, better 20",
        `none of ${JSON.stringify(name)}`,
      );
  }
  return classes;
}

const LONGEST_NAME = 200;

/** Names that people take for the same, by space around them or by how letters are composed. */
function alike(classes: readonly string[]): string | undefined {
  const plain = classes.map((name) => name.trim().normalize("NFC"));
  return classes.find((_, i) => plain.indexOf(plain[i] as string) !== i);
}

/**
 * Decodes all pictures. One that cannot be used is told and left out.
 *
 * @throws DataError where a class has none left, ResourceError where they are too many, the signal's reason
 */
export async function keepPictures(tool: WasmPictures, preparation: Preparation): Promise<KeptSet> {
  const { classes, validation, report, signal, seed, sizes } = preparation;
  const split = validation === undefined ? heldOutOf(preparation, seed) : new Set<number>();
  const given = [
    ...preparation.pictures.map((one, i) => ({ ...one, index: i, heldOut: split.has(i) })),
    ...(validation ?? []).map((one, i) => ({
      ...one,
      index: preparation.pictures.length + i,
      heldOut: true,
    })),
  ];
  const order = (one: (typeof given)[number]): number =>
    (one.heldOut ? classes.length : 0) + classes.indexOf(one.label);
  given.sort((a, b) => order(a) - order(b) || a.index - b.index);
  const entries: PictureEntry[] = [];
  const pixels: Uint8Array[] = [];
  let bytes = 0;
  let lastTold = 0;
  for (const [done, { picture, label, index, heldOut }] of given.entries()) {
    signal.throwIfAborted();
    if (performance.now() - lastTold > TELL_EVERY) {
      lastTold = performance.now();
      report({ event: "preparing", what: "pictures", done, total: given.length });
    }
    const { name } = picture;
    try {
      const decoded = await decodePicture(picture);
      if (decoded.note !== undefined) report({ event: "note", what: `${name}: ${decoded.note}` });
      const kept = smaller(tool, decoded, heldOut ? sizes.heldOut : sizes.train);
      bytes += kept.data.length;
      if (bytes > MOST_BYTES) throw tooMany(entries.length, given.length);
      const { width, height } = kept;
      entries.push({ name, label: classes.indexOf(label), heldOut, width, height });
      pixels.push(kept.data);
    } catch (error) {
      if (!(error instanceof RiffleError) || error instanceof ResourceError) throw error;
      report({ event: "left out", name, index, label, problem: error.problem });
    }
  }
  report({ event: "preparing", what: "pictures", done: given.length, total: given.length });
  classes.forEach((name, label) => {
    const own = entries.filter((entry) => entry.label === label);
    const trained = own.filter(({ heldOut }) => !heldOut).length;
    if (trained === 0) throw noneLeft(name);
    if (trained < FEW && trained === own.length && validation?.length !== 0) {
      const count = trained === 1 ? "1 picture" : `${trained} pictures`;
      report({
        event: "note",
        what: `class ${JSON.stringify(name)} has ${count}, and none to be scored with`,
      });
    }
  });
  return { classes, entries, pixels };
}

/** Pictures of a class below which none is held out. */
const FEW = 3;

/** Milliseconds between two words on how far it is. */
const TELL_EVERY = 100;

/** A fifth of each class, drawn by the seed; of fewer than three pictures none. */
function heldOutOf({ pictures, classes }: Preparation, seed: number): Set<number> {
  const held = new Set<number>();
  classes.forEach((name, label) => {
    const own = pictures.flatMap((one, i) => (one.label === name ? [i] : []));
    const count = own.length < FEW ? 0 : Math.max(1, Math.round(own.length * HELD_OUT));
    const drawn = new Draws(seed, streams.split, 0, label).permutation(own.length);
    for (const i of drawn.subarray(0, count)) held.add(own[i] as number);
  });
  return held;
}

/** The shorter side made as short as that where it is longer; in squares, for that is what the tool makes. */
function smaller(tool: WasmPictures, picture: DecodedPicture, shorterSide: number): DecodedPicture {
  const { width, height, data } = picture;
  const shorter = Math.min(width, height);
  if (shorter <= shorterSide) return picture;
  // As torchvision's Resize, and so evaluation, has it.
  const side = (length: number): number =>
    length === shorter ? shorterSide : Math.floor((length * shorterSide) / shorter);
  const resized = { width: side(width), height: side(height) };
  const out = new Uint8Array(resized.width * resized.height * 3);
  const square = new Uint8Array(shorterSide * shorterSide * 3);
  const plain = wholePicture(picture, shorterSide, "pillow-bytes", { fastDct: false, scaled: false });
  const row = shorterSide * 3;
  for (const y of places(resized.height, shorterSide)) {
    for (const x of places(resized.width, shorterSide)) {
      tool.resize({ ...plain, resized, window: { x, y } }, data, [width, height, 3], square);
      for (let i = 0; i < shorterSide; i++)
        out.set(square.subarray(i * row, (i + 1) * row), ((y + i) * resized.width + x) * 3);
    }
  }
  return { ...resized, data: out };
}

/** Where squares begin that cover a length; the last may lie over the one before. */
function places(length: number, side: number): number[] {
  const count = Math.ceil(length / side);
  return Array.from({ length: count }, (_, i) => Math.min(i * side, length - side));
}

function tooMany(done: number, all: number): ResourceError {
  return new ResourceError({
    what: "the pictures are more than a page holds",
    expected: `${MOST_BYTES / 2 ** 20} MB when they are made smaller`,
    found: `that much after ${done} of ${all}`,
    safe: "Nothing was trained or written",
    hint: "Take fewer pictures or a smaller imageSize, or train with riffle in Node, which reads them from the disk",
  });
}

function noneLeft(name: string): DataError {
  return new DataError({
    what: `none of the pictures of class ${JSON.stringify(name)} can be trained on`,
    expected: "one at least, better 20",
    found: "all were left out, for the reasons told",
    safe: "Nothing was trained or written",
    hint: "Give it other pictures",
  });
}
