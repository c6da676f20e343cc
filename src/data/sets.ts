/**
 * How a path becomes what is trained on and what is scored.
 *
 * What is scored is what was held out: the data's own part for that, or a share that the run drew and remembers
 * (held-out.ts). Pictures that were trained on are scored when the training part is asked for by name, and never else.
 */

import { readdirSync } from "node:fs";
import { stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import { DataError, errorCode, UsageError } from "../core/error.js";
import { lettersOf, nearest } from "../core/nearest-name.js";
import { shellWord } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";
import { type Dataset, type PictureFile, relabelled, subset } from "./dataset.js";
import { isTrainPart, layoutOf, type Place } from "./folder-layout.js";
import {
  changes,
  drawShare,
  type Halves,
  namesOf,
  partOf,
  recognise,
  recordedHalves,
  type SplitRecord,
  unseen,
} from "./held-out.js";
import { openClasses } from "./image-folder.js";
import { openNpzParts } from "./npz-dataset.js";
import { MAX_CLASSES } from "./records/record-classes.js";
import { openRecords, type RecordOptions } from "./records/record-dataset.js";
import { isShardName } from "./records/record-manifest.js";
import { noRemarks, type Remarks } from "./remarks.js";
import { type Split, splitOfShard, splits } from "./split-names.js";

/** What is scored, in the words of events. */
export interface Scored {
  /** The data's part of that name, a share that was drawn, data given apart; null where nothing is. */
  readonly by: "validation" | "test" | "share" | "given" | null;
  /** Of every class, where a share was drawn. */
  readonly share: number | null;
  /** Paths of folders, shards and arrays that belong to the data and are not used. */
  readonly unused: readonly string[];
}

export interface Sets {
  readonly train: Dataset;
  readonly validation: Dataset | undefined;
  readonly classes: readonly string[];
  /** Absent for generated pictures. */
  readonly scored?: Scored | undefined;
  /** To be remembered by a run. */
  readonly record?: SplitRecord | undefined;
}

export interface OpenOptions {
  /** Share of every class held out where there is no part to be scored; 0 holds out nothing. */
  readonly valSplit?: number | undefined;
  /** What holds where `valSplit` says nothing: 0. */
  readonly usualShare?: number | undefined;
  /** Decides which samples are held out. */
  readonly seed: number;
  /** What the run remembers of a share that it drew before. */
  readonly record?: SplitRecord | undefined;
  /** The run is of a version that remembered no names: its samples are known by their numbers. */
  readonly byNumber?: boolean | undefined;
  /** Files of training that a run left out: one that is gone since keeps its place, so that every other one does. */
  readonly leftOut?: readonly PictureFile[] | undefined;
  /** Folders that the command writes to, which are no classes. */
  readonly outputs?: readonly string[] | undefined;
  /** Is told what there is to say of the data. */
  readonly remarks?: Remarks | undefined;
  /** How TFRecords are read, where the path holds them. */
  readonly records?: Omit<RecordOptions, "classes"> | undefined;
  /** Names of the labels of records that do not say them. */
  readonly classes?: readonly string[] | undefined;
}

/** Opens one of the parts, under these classes or its own. */
type Opener = (known?: readonly string[]) => Promise<Dataset>;

/** The parts that a path holds, none of them opened yet. */
export interface Source {
  readonly kind: "pictures" | "records" | "arrays";
  readonly parts: { readonly [S in Split]?: Opener };
  /** Where there are no parts. */
  readonly whole?: Opener;
  /** What belongs to the data and to none of the parts. */
  readonly unused: readonly string[];
  /** Where a part is, for people. */
  readonly place: (split: Split) => string;
}

/**
 * Opens two paths as one set: the training part of the first, the part of the second that may be scored, under the first
 * one's labels.
 *
 * @throws DataError when the second has a class that the first does not have, or is the first.
 */
export async function openPair(trainDir: string, evalDir: string, options: OpenOptions): Promise<Sets> {
  if (options.valSplit !== undefined && options.valSplit > 0) throw notToSplit(evalDir, "one is given");
  const source = await openSource(trainDir, options);
  const train = await trainedPart(source, trainDir)();
  const { classes } = train;
  refuseClasses(trainDir, classes);
  const ofOther = { leftOut: undefined, record: undefined, valSplit: undefined, usualShare: 0 };
  const held = await openPart(evalDir, undefined, { ...options, ...ofOther, classes });
  if (held.set.fingerprint === train.fingerprint) {
    throw DataError.at(
      evalDir,
      "holds the very pictures that are trained on, so their score would say nothing",
      {
        expected: "pictures that are not in the training set",
        found: train.name(0),
        safe: "Nothing was trained",
        hint: "Leave --eval_data_dir out, and a share is held out",
      },
    );
  }
  const unused = [...source.unused, ...others(source, "train"), ...held.unused];
  return {
    train,
    validation: relabelled(held.set, classes, evalDir),
    classes,
    scored: { by: "given", share: null, unused },
    record: recordOf(train, undefined, options),
  };
}

/**
 * Opens what is trained on and what is scored: a folder of class folders, one with parts, a `.npz` file, or TFRecords in
 * one folder or in parts.
 *
 * @throws DataError when there are no pictures, one class, or a class to be scored that training does not have.
 */
export async function openDatasets(dataDir: string, options: OpenOptions): Promise<Sets> {
  const { valSplit, seed, record, remarks = noRemarks() } = options;
  refuseShare(valSplit);
  const source = await openSource(dataDir, options);
  const whole = await trainedPart(source, dataDir)();
  const { classes } = whole;
  refuseClasses(dataDir, classes);
  const by = (["validation", "test"] as const).find((split) => source.parts[split] !== undefined);
  if (by !== undefined) {
    if (record?.drawn != null) {
      throw DataError.at(dataDir, "has parts now, and had none when the run held out a share of it", {
        hint: "Put it back as it was",
      });
    }
    if (valSplit !== undefined) throw notToSplit(dataDir, "this has one");
    const validation = await (source.parts[by] as Opener)(classes);
    const unused = [...source.unused, ...others(source, "train", by)];
    return {
      train: whole,
      validation,
      classes,
      scored: { by, share: null, unused },
      record: recordOf(whole, undefined, options),
    };
  }
  const share = record?.drawn?.share ?? valSplit ?? options.usualShare ?? 0;
  const { unused } = source;
  if (share === 0) {
    const scored = { by: null, share: null, unused };
    return {
      train: whole,
      validation: undefined,
      classes,
      scored,
      record: recordOf(whole, undefined, options),
    };
  }
  const halves = halvesOf(whole, share, dataDir, options, remarks);
  const half = options.byNumber === true ? subset : partOf;
  const drawn = { share, seed };
  return {
    train: half(whole, halves.train),
    validation: halves.heldOut.length === 0 ? undefined : half(whole, halves.heldOut),
    classes,
    scored: { by: "share", share, unused },
    record: record ?? recordOf(whole, { ...halves, drawn }, options),
  };
}

/** One part of data, to be scored or looked at. */
export interface OpenedPart {
  readonly set: Dataset;
  /** Which part it is: one of the data's own, a half that was drawn, or all of data without parts. */
  readonly part: Split | "held out" | "all";
  readonly unused: readonly string[];
  /** Of a share that was drawn now. */
  readonly record?: SplitRecord | undefined;
}

/**
 * Opens the part that is asked for; else the one that was held out.
 *
 * @throws DataError where there is no such part, or where all there is was trained on.
 */
export async function openPart(
  dataDir: string,
  asked: Split | undefined,
  options: OpenOptions & {
    /** The data is the run's own, where the record says: not other data that is given for the run to be scored on. */
    readonly isOwn?: boolean | undefined;
  },
): Promise<OpenedPart> {
  const { valSplit, record, remarks = noRemarks(), isOwn = false } = options;
  refuseShare(valSplit);
  const source = await openSource(dataDir, options);
  const { parts, unused, place } = source;
  const notice = (what: string): void => void remarks.notices.push(what);
  const scored = asked === "train" ? undefined : partToScore(source, asked, dataDir);
  if (scored !== undefined) {
    const set = await (parts[scored] as Opener)(options.classes);
    // Sorted into parts since, some of what it held out then may be in another part now.
    const isSorted = record?.drawn != null;
    return { set: isSorted ? unseen(set, record, place(scored), notice) : set, part: scored, unused };
  }
  const whole = await trainedPart(source, dataDir)(options.classes);
  const half = options.byNumber === true ? subset : partOf;
  const isTrain = asked === "train";
  const isOfRun = record?.drawn != null && (isOwn || recognise(whole, record).train.length > 0);
  if (isOfRun && valSplit !== undefined && valSplit !== record.drawn?.share) {
    throw new UsageError({
      what: "--val_split is not what the run held out, so pictures that it trained on would be scored",
      where: dataDir,
      expected: `${record.drawn?.share}`,
      found: `${valSplit}`,
      hint: "Leave --val_split out",
    });
  }
  const share = (isOfRun ? record.drawn?.share : undefined) ?? valSplit ?? options.usualShare ?? 0;
  if (share > 0) {
    const halves = halvesOf(
      whole,
      share,
      dataDir,
      isOfRun ? options : { ...options, record: undefined },
      remarks,
    );
    const samples = isTrain ? halves.train : halves.heldOut;
    if (samples.length === 0) {
      throw DataError.at(
        dataDir,
        isTrain ? "holds no picture that was trained on" : "holds no picture that was held out",
        {
          hint: isTrain
            ? "Leave --split out"
            : "Score others with --data_dir, or those trained on with --split train",
        },
      );
    }
    const set = half(whole, samples);
    if (isTrain) return { set, part: "train", unused };
    const drawn = { share, seed: options.seed };
    return {
      set: isOfRun || record === undefined ? set : unseen(set, record, dataDir, notice),
      part: "held out",
      unused,
      record: recordOf(whole, { ...halves, drawn }, options),
    };
  }
  if (isTrain) return { set: whole, part: "train", unused };
  if (isOwn || parts.train !== undefined || isTrainPart(dataDir)) {
    throw DataError.at(dataDir, "holds pictures to train on alone, so their score would say nothing", {
      expected: "a part called val, validation, dev or test",
      found: isOwn ? "all of them were trained on" : "a training part",
      hint: "Score them all the same with --split train, or name others with --data_dir",
    });
  }
  return { set: record === undefined ? whole : unseen(whole, record, dataDir, notice), part: "all", unused };
}

/** @throws DataError when there is no such file or folder, or no data in it. */
export async function openSource(dataDir: string, options: OpenOptions): Promise<Source> {
  if (await isFolder(dataDir)) {
    const { kind, parts, whole, unused } = await layoutOf(dataDir);
    const open = ({ path, only }: Place, isPart: boolean): Opener =>
      kind === "records"
        ? (known) => openRecords(path, { ...options.records, only, classes: known ?? options.classes })
        : (known) => Promise.resolve(openClasses(path, folderOptions(options, known, isPart)));
    return {
      kind,
      parts: mapped(parts, (place, split) => open(place, split !== "train")),
      ...(whole === undefined ? {} : { whole: open(whole, false) }),
      unused,
      place: (split) => placeName(parts[split], split),
    };
  }
  if (dataDir.toLowerCase().endsWith(".npz")) {
    const npz = await openNpzParts(dataDir);
    const { all, ...parts } = npz.names;
    const { labelOffset = 0 } = options.records ?? {};
    const open =
      (part: Split | "all"): Opener =>
      (known) =>
        npz.open(part, { labelOffset, classes: known });
    return {
      kind: "arrays",
      parts: mapped(parts, (_, split) => open(split)),
      ...(all === undefined || parts.train !== undefined ? {} : { whole: open("all") }),
      unused: npz.unused.map((name) => `${dataDir}, ${name}`),
      place: (split) => `${dataDir}, ${parts[split]?.images ?? split}`,
    };
  }
  if (isShardName(basename(dataDir))) {
    const open: Opener = (known) =>
      openRecords(dataDir, { ...options.records, classes: known ?? options.classes });
    const isTrain = splitOfShard(basename(dataDir)) === "train";
    return {
      kind: "records",
      parts: isTrain ? { train: open } : {},
      ...(isTrain ? {} : { whole: open }),
      unused: [],
      place: () => dataDir,
    };
  }
  throw DataError.at(
    dataDir,
    "neither a folder of pictures or TFRecords, nor a .npz file, nor a shard named *.tfrecords",
    { hint: "Give the folder that holds a folder of pictures per class" },
  );
}

function folderOptions(options: OpenOptions, known: readonly string[] | undefined, mayBeEmpty: boolean) {
  const { remarks, outputs } = options;
  return { remarks, outputs, known, mayBeEmpty, leftOut: mayBeEmpty ? undefined : options.leftOut };
}

/** What a share holds out of a set: as the run remembers, or drawn. */
function halvesOf(
  whole: Dataset,
  share: number,
  where: string,
  options: OpenOptions,
  remarks: Remarks,
): Halves {
  const { record, seed } = options;
  if (record !== undefined) {
    const found = recordedHalves(whole, record, where);
    remarks.notices.push(...changes(found, where));
    return found;
  }
  const halves = drawShare(whole, share, seed);
  if (halves.heldOut.length === 0) {
    remarks.notices.push(`${where}: no class has two pictures, so none is held out and nothing is scored`);
  }
  return halves;
}

/** A run's memory of its samples; of a set with a part to be scored, where they are few enough to be remembered. */
function recordOf(
  whole: Dataset,
  halves: (Halves & { readonly drawn: { readonly share: number; readonly seed: number } }) | undefined,
  { record }: OpenOptions,
): SplitRecord | undefined {
  if (record !== undefined) return record;
  const { fingerprint } = whole;
  if (halves !== undefined) {
    const { drawn, train, heldOut } = halves;
    return { drawn, fingerprint, heldOut: namesOf(whole, heldOut), trained: namesOf(whole, train) };
  }
  if (whole.size > MOST_REMEMBERED) return undefined;
  const all = Uint32Array.from({ length: whole.size }, (_, sample) => sample);
  return { drawn: null, fingerprint, heldOut: new Map(), trained: namesOf(whole, all) };
}

/** A few megabytes of names. */
const MOST_REMEMBERED = 100_000;

/** What is trained on, or drawn from. */
function trainedPart({ parts, whole, place }: Source, where: string): Opener {
  const open = parts.train ?? whole;
  if (open !== undefined) return open;
  const found = splits.filter((split) => parts[split] !== undefined).map(place);
  throw DataError.at(where, "no pictures to train on", {
    expected: "a part called train or training",
    found: found.join(", "),
    hint: `Give a folder by itself to train on it: --data_dir ${found[0] ?? where}`,
  });
}

/** The part that is scored; undefined where there is none for that, and the whole is to be looked at. */
function partToScore(
  { parts }: Source,
  asked: "validation" | "test" | undefined,
  where: string,
): Split | undefined {
  if (asked !== "test") {
    if (parts.validation !== undefined) return "validation";
    return parts.test === undefined ? undefined : "test";
  }
  if (parts.test !== undefined) return "test";
  throw DataError.at(where, "has no test part", {
    expected: "a folder, shards or arrays called test, testing or eval",
    found: parts.validation === undefined ? "none" : "validation",
    hint: "Leave --split out to score what was held out",
  });
}

/** Where the parts are that are not among these. */
function others({ parts, place }: Source, ...used: readonly Split[]): string[] {
  return splits.filter((split) => parts[split] !== undefined && !used.includes(split)).map(place);
}

function placeName(place: Place | undefined, split: Split): string {
  if (place === undefined) return split;
  return place.only === undefined ? place.path : `${place.path}, the shards called ${place.only}`;
}

function mapped<T>(
  parts: { readonly [S in Split]?: T },
  open: (part: T, split: Split) => Opener,
): { readonly [S in Split]?: Opener } {
  const found = splits.flatMap((split) => {
    const part = parts[split];
    return part === undefined ? [] : [[split, open(part, split)] as const];
  });
  return Object.fromEntries(found);
}

function refuseShare(share: number | undefined): void {
  if (share === undefined || (share >= 0 && share < 1)) return;
  throw new UsageError({
    what: "--val_split is no share",
    expected: "at least 0, and less than 1",
    found: `${share}`,
  });
}

function refuseClasses(where: string, classes: readonly string[]): void {
  if (classes.length < 2) {
    throw DataError.at(where, "only one class; a classifier needs two", {
      expected: "at least 2 classes",
      found: classes.join(", "),
      hint: "Add a folder of pictures for each other class; one of anything else will do",
    });
  }
  if (classes.length > MAX_CLASSES) {
    throw DataError.at(where, "more classes than a network is given", {
      expected: `at most ${MAX_CLASSES}`,
      found: `${classes.length}`,
    });
  }
}

function notToSplit(where: string, why: string): UsageError {
  const what = `--val_split is for data without a part to be scored, and ${why}`;
  return new UsageError({ where, what, hint: "Leave --val_split out" });
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    const code = errorCode(error);
    const isMissing = code === "ENOENT" || code === "ENOTDIR";
    const what = isMissing ? "there is no such file or folder" : `cannot be read: ${code ?? String(error)}`;
    throw DataError.at(path, what, isMissing ? { hint: whereInstead(path) } : {}, error);
  }
}

/** A name beside it that is nearly its; else what to do where a run's pictures were moved. */
function whereInstead(path: string): string {
  const near = nearest(lettersOf(basename(path)), namesIn(dirname(path)));
  return near === undefined
    ? "Check the path; where a run's pictures have moved, say where to: --data_dir FOLDER"
    : `Did you mean ${shellWord(shortPath(join(dirname(path), near.name)))}?`;
}

/** None where the folder cannot be read. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
