/**
 * From the devkit, folders and archives that ImageNet comes in to the five files that records are made from.
 *
 * The files are those of the original's notebook, byte for byte where it left no choice: `training_metadata.csv`,
 * `validation_metadata.csv`, `boxes.npy`, `integer_encoding.json`, `wordnet_decoder.json`. Rows are sorted, where the
 * original has the order of the file system. Without a devkit any folder of classes will do; its classes are then
 * numbered in the order of their names.
 *
 * Boxes are shares of the picture: corners divided by the size in the XML, clipped to [0, 1].
 *
 * Source: TropComplique/shufflenet-v2-tensorflow, data/explore_imagenet.ipynb at 22e5615.
 */

import { readFile, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";

import { asResourceError, exists, makeFolder, probeFolder, replaceFile } from "../../core/durable.js";
import { DataError, errorCode, ResourceError, UsageError } from "../../core/error.js";
import { parseVocXml, type VocObject } from "../../formats/voc-xml.js";
import { encodeBoxes } from "./boxes.js";
import { type Devkit, readDevkit } from "./devkit.js";
import { encodeMetadata, justName, type PictureRow } from "./metadata.js";
import {
  boxFiles,
  countBoxFiles,
  type Listed,
  type ListEvents,
  listByClass,
  listFlat,
  type FolderOrArchive,
} from "./sources.js";
import { byCodePoint } from "../../data/picture-folder.js";
import { type NamesOf, refuseUnknown } from "../../core/nearest-name.js";

export interface ExploreSettings {
  /** Its folder or archive; without it classes are numbered by their sorted names. */
  readonly devkit?: string | undefined;
  readonly train: FolderOrArchive;
  readonly annotations?: FolderOrArchive | undefined;
  readonly validation?: FolderOrArchive | undefined;
  /** The folder that the files are written to. */
  readonly output: string;
  /** Replace files that stand there and hold something else. */
  readonly overwrite: boolean;
}

const exploreSettings: NamesOf<ExploreSettings> = {
  devkit: true,
  train: true,
  annotations: true,
  validation: true,
  output: true,
  overwrite: true,
};

export interface ExploreReport {
  /** What the numbers of the classes come from. */
  readonly encoding: "devkit" | "sorted names";
  readonly classes: number;
  /** Classes that have a training picture. */
  readonly classes_with_pictures: number;
  readonly training_pictures: number;
  /** What the devkit says there should be. */
  readonly training_pictures_expected: number | null;
  readonly validation_pictures: number;
  readonly boxes: BoxCounts | null;
  /** Members of archives that were left out: by reason. */
  readonly left_out: readonly Skips[];
  /** What was written, or stood there already with the same content. */
  readonly files: readonly string[];
}

interface BoxCounts {
  readonly files: number;
  readonly files_saved: number;
  readonly boxes_saved: number;
  /** Files of which no box was saved. */
  readonly files_skipped: number;
  readonly boxes_skipped: number;
  /** Pictures with boxes that are not among the training pictures; their boxes are saved all the same. */
  readonly without_picture: number;
  /** Files that name another picture inside; the file's own name counts. */
  readonly named_differently: number;
  readonly skipped: readonly Skips[];
}

/** How many were left out for one reason, and the first of them. */
interface Skips {
  readonly reason: string;
  readonly count: number;
  readonly first: string;
}

/** Told of each part as it goes on; `total` is undefined while it is not known. */
export type ExploreProgress = (part: "pictures" | "boxes", done: number, total: number | undefined) => void;

/**
 * Lists, checks and writes; nothing is written before everything was read.
 *
 * @throws DataError when something is missing, contradicts itself or has no place; UsageError where files stand in the way;
 * ResourceError, before anything is read, where the output cannot be written.
 */
export async function explore(
  settings: ExploreSettings,
  progress: ExploreProgress = () => {},
  signal?: AbortSignal,
): Promise<ExploreReport> {
  refuseUnknown(settings, exploreSettings, "explore");
  await provePlace(settings.output);
  const leftOut = new Tally();
  const devkit = settings.devkit === undefined ? undefined : await readDevkit(settings.devkit);
  const pause = async (part: "pictures" | "boxes", done: number, total?: number): Promise<void> => {
    progress(part, done, total);
    // Lets signals and a drawn bar have their turn.
    await new Promise((resolve) => setImmediate(resolve));
    signal?.throwIfAborted();
  };
  const events = {
    skipped: leftOut.add,
    empty: () => {},
    pause: (done: number) => pause("pictures", done),
  };
  const listed = await listByClass(settings.train, devkit ? events : { ...events, empty: refuseEmpty });
  progress("pictures", listed.length, listed.length);
  const classes = classesOf(devkit, listed);
  const training = rowsOf(
    listed,
    classes,
    settings.train.path,
    "a class folder that the devkit does not know",
    devkit && {
      expected: `one of the ${classes.size} WordNet ids in ${devkit.where.meta}`,
      hint: "Leave --devkit out to number the classes by their sorted names",
    },
  );
  const validation =
    settings.validation && (await validationRows(settings.validation, devkit, classes, events));
  const boxes =
    settings.annotations &&
    (await readBoxFiles(settings.annotations, classes, training, (done, total) =>
      pause("boxes", done, total),
    ));

  const files = new Map<string, readonly Uint8Array[]>();
  files.set("training_metadata.csv", [Buffer.from(encodeMetadata(training, "training"))]);
  if (validation)
    files.set("validation_metadata.csv", [Buffer.from(encodeMetadata(validation, "validation"))]);
  if (boxes) files.set("boxes.npy", encodeBoxes(boxes.rows));
  files.set("integer_encoding.json", [pythonJson([...classes].map(([id, { label }]) => [id, label]))]);
  files.set("wordnet_decoder.json", [pythonJson([...classes].map(([id, { words }]) => [id, words]))]);
  await writeOutputs(settings.output, files, settings.overwrite);

  return {
    encoding: devkit ? "devkit" : "sorted names",
    classes: classes.size,
    classes_with_pictures: new Set(listed.map(({ folder }) => folder)).size,
    training_pictures: training.length,
    training_pictures_expected: devkit ? devkit.classes.reduce((sum, c) => sum + c.trainPictures, 0) : null,
    validation_pictures: validation?.length ?? 0,
    boxes: boxes?.counts ?? null,
    left_out: leftOut.list(),
    files: [...files.keys()].map((name) => join(settings.output, name)),
  };
}

/** Without a devkit every class has a number, and training on the folders would refuse one without pictures. */
function refuseEmpty(where: string): never {
  throw DataError.at(where, "a class without pictures", {
    safe: "Nothing was written",
    hint: "Put its pictures there, or remove it: the classes are numbered by their sorted names",
  });
}

/** Classes in the order of their labels. */
type Classes = ReadonlyMap<string, { readonly label: number; readonly words: string }>;

function classesOf(devkit: Devkit | undefined, listed: readonly Listed[]): Classes {
  const named = devkit
    ? devkit.classes.map(({ wordnetId, words }) => ({ id: wordnetId, words }))
    : [...new Set(listed.map(({ folder }) => folder))].sort(byCodePoint).map((id) => ({ id, words: id }));
  return new Map(named.map(({ id, words }, label) => [id, { label, words }]));
}

/** A row for each picture, whose folder in `where` names its class; `stranger` says what a folder is that is none. */
function rowsOf(
  listed: readonly Listed[],
  classes: Classes,
  where: string,
  stranger: string,
  more: { readonly expected?: string; readonly hint?: string } = {},
): PictureRow[] {
  return listed.map(({ folder, path }) => {
    if (classes.has(folder)) return { path, wordnetId: folder, justName: justName(path) };
    throw DataError.at(join(where, folder), stranger, { ...more, found: JSON.stringify(folder) });
  });
}

/** By the number in the name and the devkit's list, or by class folders. */
async function validationRows(
  source: FolderOrArchive,
  devkit: Devkit | undefined,
  classes: Classes,
  events: ListEvents,
): Promise<PictureRow[]> {
  const flat = listFlat(source, events);
  if (flat !== undefined) return numberedRows(flat, source.path, devkit);
  const listed = await listByClass(source, events);
  return rowsOf(listed, classes, source.path, "a validation class that training does not have");
}

function numberedRows(paths: readonly string[], where: string, devkit: Devkit | undefined): PictureRow[] {
  const truth = devkit?.groundTruth;
  if (devkit === undefined || truth === undefined) {
    throw DataError.at(where, "validation pictures without class folders, and no list of their classes", {
      expected: devkit === undefined ? "--devkit, or a folder per class" : devkit.where.groundTruth,
    });
  }
  if (paths.length !== truth.length) {
    throw DataError.at(
      devkit.where.groundTruth,
      `lists ${truth.length} labels but ${where} holds ${paths.length} pictures`,
      { expected: `${truth.length} pictures`, found: `${paths.length}` },
    );
  }
  const byNumber = new Map<number, string>();
  for (const path of paths) {
    // ILSVRC2012_val_00000001.JPEG
    const [, digits] = /(?:^|[_/:])([0-9]{1,9})\.[^./]*$/.exec(path) ?? [];
    if (digits === undefined) {
      throw DataError.at(path, "no number in the name, so its line in the ground truth is unknown", {
        expected: "a name like ILSVRC2012_val_00000001.JPEG",
      });
    }
    const before = byNumber.get(Number(digits));
    if (before !== undefined) {
      throw DataError.at(path, `the number ${Number(digits)} a second time`, { found: before });
    }
    byNumber.set(Number(digits), path);
  }
  const ids = devkit.classes.map(({ wordnetId }) => wordnetId);
  return [...byNumber]
    .sort(([a], [b]) => a - b)
    .map(([number, path], i) => {
      if (number !== i + 1) {
        throw DataError.at(where, `no picture has the number ${i + 1}`, { found: path });
      }
      return { path, wordnetId: ids[truth[i] ?? -1] ?? "", justName: justName(path) };
    });
}

/** Reads every box file; what is dropped is counted under its reason. */
async function readBoxFiles(
  source: FolderOrArchive,
  classes: Classes,
  training: readonly PictureRow[],
  pause: (done: number, total: number | undefined) => Promise<void>,
): Promise<{ readonly rows: ReadonlyMap<string, Float32Array>; readonly counts: BoxCounts }> {
  const rows = new Map<string, Float32Array>();
  const seen = new Map<string, string>();
  const skipped = new Tally();
  const total = countBoxFiles(source);
  const counts = { files: 0, boxes_saved: 0, boxes_skipped: 0, named_differently: 0 };
  for await (const file of boxFiles(source)) {
    const before = seen.get(file.justName);
    if (before !== undefined) {
      throw DataError.at(
        file.where,
        `boxes of ${JSON.stringify(file.justName)} a second time; boxes.npy knows pictures by name alone`,
        { found: before },
      );
    }
    seen.set(file.justName, file.where);
    const { filename, width, height, objects } = parseVocXml(file.bytes, file.where);
    if (filename !== file.justName) counts.named_differently++;
    const kept: number[] = [];
    for (const object of objects) {
      const box = boxOf(object, width, height, file.folder, classes);
      if (typeof box === "string") {
        skipped.add(file.where, box);
        counts.boxes_skipped++;
      } else kept.push(...box);
    }
    if (objects.length === 0) skipped.add(file.where, "a file without an object");
    if (kept.length > 0) rows.set(file.justName, Float32Array.from(kept));
    counts.boxes_saved += kept.length / 4;
    if (++counts.files % PAUSE_FILES === 0) await pause(counts.files, total);
  }
  await pause(counts.files, counts.files);
  return {
    rows,
    counts: {
      ...counts,
      files_saved: rows.size,
      files_skipped: counts.files - rows.size,
      without_picture: withoutPicture(rows, training),
      skipped: skipped.list(),
    },
  };
}

const PAUSE_FILES = 500;

/**
 * The box as shares of the picture, or why it is dropped. The original puts swapped corners right with a slip (it
 * takes the least of both, then the greatest of what is left), which leaves no width; the outcome is kept.
 */
function boxOf(
  object: VocObject,
  width: number,
  height: number,
  folder: string,
  classes: Classes,
): readonly [number, number, number, number] | string {
  if (!classes.has(folder)) return "a class that is not among the classes";
  if (object.name !== folder) return "an object of another class";
  if (!(width > 0 && height > 0)) return "the file gives the picture no size";
  if (object.xmin > object.xmax || object.ymin > object.ymax) return "corners swapped";
  const share = (corner: number, side: number) => Math.min(Math.max(corner / side, 0), 1);
  // What is empty is judged before the numbers become f32, as in the original.
  const [xmin, xmax] = [share(object.xmin, width), share(object.xmax, width)];
  const [ymin, ymax] = [share(object.ymin, height), share(object.ymax, height)];
  if (xmin >= xmax || ymin >= ymax) return "a side without length inside the picture";
  return [xmin, ymin, xmax, ymax];
}

/** A picture whose name another has too would get the boxes of both. */
function withoutPicture(rows: ReadonlyMap<string, Float32Array>, training: readonly PictureRow[]): number {
  const matched = new Map<string, string>();
  for (const { path, justName } of training) {
    if (!rows.has(justName)) continue;
    const before = matched.get(justName);
    if (before !== undefined) {
      throw DataError.at(path, "has the name of another picture, and boxes are known by name alone", {
        found: before,
        hint: "Rename one of them, or leave --annotations out",
      });
    }
    matched.set(justName, path);
  }
  return rows.size - matched.size;
}

/** Counts by reason, with the first example of each. */
class Tally {
  readonly #skips = new Map<string, { count: number; readonly first: string }>();

  readonly add = (path: string, reason: string): void => {
    const skips = this.#skips.get(reason);
    if (skips === undefined) this.#skips.set(reason, { count: 1, first: path });
    else skips.count++;
  };

  list(): Skips[] {
    return [...this.#skips].map(([reason, { count, first }]) => ({ reason, count, first }));
  }
}

/** `json.dump(dict, file, indent=0)`: ASCII, an entry a line, no newline at the end. */
function pythonJson(entries: readonly (readonly [string, string | number])[]): Buffer {
  const value = (item: string | number) =>
    JSON.stringify(item).replace(
      /[\u0080-\uffff]/g,
      (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
  const lines = entries.map(([key, item]) => `${value(key)}: ${value(item)}`);
  return Buffer.from(lines.length === 0 ? "{}" : `{\n${lines.join(",\n")}\n}`);
}

/** Proves that the folder can be written, or made; listing 1.3 million pictures first would be in vain. Leaves nothing. */
async function provePlace(folder: string): Promise<void> {
  try {
    let place = resolve(folder);
    while (!(await exists(place)) && place !== dirname(place)) place = dirname(place);
    await probeFolder(place);
  } catch (error) {
    const reason = errorCode(error) ?? String(error);
    throw new ResourceError(
      {
        what: `the output folder cannot be written: ${reason}`,
        ...(error instanceof ResourceError ? error.problem : {}),
        where: folder,
        safe: "Nothing was read or written",
        hint: "Name another folder with --output",
      },
      error,
    );
  }
}

/** Writes each file whole or not at all; a file that stands there with other content is not ours to replace. */
async function writeOutputs(
  folder: string,
  files: ReadonlyMap<string, readonly Uint8Array[]>,
  overwrite: boolean,
): Promise<void> {
  try {
    await makeFolder(folder);
    const changed: [string, readonly Uint8Array[]][] = [];
    for (const [name, pieces] of files) {
      const there = await compare(join(folder, name), pieces);
      if (there === "other" && !overwrite) {
        throw new UsageError({
          where: join(folder, name),
          what: "stands there already, with other content",
          safe: "Nothing was written",
          hint: "Name another folder with --output, or replace the files with --overwrite",
        });
      }
      if (there !== "same") changed.push([name, pieces]);
    }
    const words = {
      safe: "Files written before this are whole",
      hint: "Free space, check the folder's permissions or name another with --output",
    };
    for (const [name, pieces] of changed) await replaceFile(join(folder, name), pieces, words);
  } catch (error) {
    throw asResourceError(error, folder, {});
  }
}

async function compare(path: string, pieces: readonly Uint8Array[]): Promise<"none" | "same" | "other"> {
  const status = await stat(path).catch(() => undefined);
  if (status === undefined) return "none";
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  if (!status.isFile() || status.size !== length) return "other";
  return (await readFile(path)).equals(Buffer.concat(pieces)) ? "same" : "other";
}
