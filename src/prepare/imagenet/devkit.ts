/**
 * ImageNet's devkit: which WordNet id has which number, what it is called, and the classes of the validation pictures.
 *
 * A label is the ILSVRC2012 id less one, in the order of `meta.mat` and not of sorted WordNet ids; networks trained on
 * one order are useless with the other.
 */

import { readFileSync } from "node:fs";
import { basename, join } from "node:path";

import { statIfThere } from "../../core/durable.js";
import { DataError } from "../../core/error.js";
import { type MatValue, parseMat } from "../../formats/mat.js";
import { linesOf, plainText } from "../../formats/plain-text.js";
import { tarContents } from "../../formats/tar.js";

export interface Devkit {
  /** By label. */
  readonly classes: readonly DevkitClass[];
  /** The label of every validation picture by its number less one, or undefined where the devkit has no such file. */
  readonly groundTruth: readonly number[] | undefined;
  /** Where it was read, for messages. */
  readonly where: { readonly meta: string; readonly groundTruth: string };
}

interface DevkitClass {
  readonly wordnetId: string;
  /** "kit fox, Vulpes macrotis" */
  readonly words: string;
  readonly trainPictures: number;
}

/** Ids above are groups of classes, which no picture is labelled with. */
const CLASSES = 1000;
const META = "meta.mat";
const GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt";
/** meta.mat has 0.2 MB, the ground truth as much. */
const MAX_BYTES = 2 ** 24;

/**
 * Reads a devkit: its folder, its `data` folder, or the archive it came in (.tar or .tar.gz).
 *
 * @throws DataError when meta.mat is missing or is not ImageNet's, or a ground truth is no label.
 */
export async function readDevkit(path: string): Promise<Devkit> {
  const files = await findFiles(path);
  const meta = files.get(META);
  if (meta === undefined) {
    throw DataError.at(path, `holds no ${META}`, { expected: `data/${META} or ${META}` });
  }
  const classes = parseClasses(meta.bytes, meta.where);
  const truth = files.get(GROUND_TRUTH);
  return {
    classes,
    groundTruth: truth && parseGroundTruth(truth.bytes, classes.length, truth.where),
    where: { meta: meta.where, groundTruth: truth?.where ?? `${path}, ${GROUND_TRUTH}` },
  };
}

/** The classes of `synsets`, a struct per class or group of classes. */
export function parseClasses(bytes: Uint8Array, where: string): DevkitClass[] {
  const synsets = parseMat(bytes, where).get("synsets");
  if (synsets?.kind !== "struct") {
    throw DataError.at(where, "holds no struct array named synsets, so it is not ImageNet's");
  }
  const column = (name: string): readonly MatValue[] => {
    const values = synsets.fields.get(name);
    if (values === undefined) throw DataError.at(where, `synsets has no field ${name}`);
    return values;
  };
  const ids = column("ILSVRC2012_ID");
  const wordnetIds = column("WNID");
  const words = column("words");
  const pictures = column("num_train_images");

  const byLabel = new Map<number, DevkitClass>();
  const seen = new Set<string>();
  ids.forEach((value, i) => {
    const place = `${where}, synsets(${i + 1})`;
    const id = wholeNumber(value, `${place}.ILSVRC2012_ID`);
    if (id > CLASSES) return;
    const wordnetId = string(wordnetIds[i], `${place}.WNID`);
    if (!/^n[0-9]{8}$/.test(wordnetId)) {
      throw DataError.at(`${place}.WNID`, "no WordNet id", {
        expected: "n and 8 digits",
        found: JSON.stringify(wordnetId),
      });
    }
    if (id < 1 || byLabel.has(id - 1) || seen.has(wordnetId)) {
      throw DataError.at(place, "an id twice, or below 1", { found: `${id}, ${wordnetId}` });
    }
    seen.add(wordnetId);
    const trainPictures = wholeNumber(pictures[i], `${place}.num_train_images`);
    byLabel.set(id - 1, { wordnetId, words: string(words[i], `${place}.words`), trainPictures });
  });
  return Array.from({ length: byLabel.size }, (_, label) => {
    const found = byLabel.get(label);
    if (found === undefined)
      throw DataError.at(where, `has ${byLabel.size} classes but none with the id ${label + 1}`);
    return found;
  });
}

/** An ILSVRC2012 id per line: the labels, less one. */
export function parseGroundTruth(bytes: Uint8Array, classes: number, where: string): number[] {
  const text = plainText(bytes);
  if (text === undefined) throw DataError.at(where, "holds bytes that are no UTF-8 text");
  return linesOf(text).map((line, i) => {
    const id = /^ *[0-9]{1,6} *$/.test(line) ? Number(line) : NaN;
    if (id >= 1 && id <= classes) return id - 1;
    throw DataError.at(`${where}, line ${i + 1}`, "no label", {
      expected: `1 to ${classes}`,
      found: JSON.stringify(line.slice(0, 40)),
    });
  });
}

interface Found {
  readonly bytes: Uint8Array;
  readonly where: string;
}

async function findFiles(path: string): Promise<Map<string, Found>> {
  const found = new Map<string, Found>();
  const status = statIfThere(path);
  if (status === undefined) throw DataError.at(path, "there is no such devkit");
  if (!status.isDirectory()) {
    const isOurs = (name: string) => [META, GROUND_TRUTH].includes(basename(name));
    for await (const { name, bytes } of tarContents(path, isOurs, MAX_BYTES)) {
      const where = `${path}::${name}`;
      const before = found.get(basename(name));
      if (before !== undefined)
        throw DataError.at(where, `a second ${basename(name)} in the archive`, { found: before.where });
      found.set(basename(name), { bytes, where });
    }
    return found;
  }
  for (const name of [META, GROUND_TRUTH]) {
    for (const where of [join(path, "data", name), join(path, name)]) {
      const file = statIfThere(where);
      if (file === undefined || found.has(name)) continue;
      if (!file.isFile() || file.size > MAX_BYTES) {
        throw DataError.at(where, "no file of a devkit", {
          expected: `at most ${MAX_BYTES} bytes`,
          found: `${file.size}`,
        });
      }
      found.set(name, { bytes: readFileSync(where), where });
    }
  }
  return found;
}

function wholeNumber(value: MatValue | undefined, where: string): number {
  const [number, second] = value?.kind === "numbers" ? value.data : [];
  if (number !== undefined && second === undefined && Number.isSafeInteger(number) && number >= 0)
    return number;
  throw DataError.at(where, "no whole number");
}

function string(value: MatValue | undefined, where: string): string {
  const [row, second] = value?.kind === "text" ? value.rows : [];
  if (row !== undefined && second === undefined) return row;
  throw DataError.at(where, "no text");
}
