/**
 * The parts of a data set as `verify-data` looks at them: every record or file in order, with what is wrong before a
 * picture is decoded.
 *
 * Records count from 0 in their shard, offsets are in bytes.
 */

import { stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import { DataError, errorCode, withNumbers } from "../core/error.js";
import { hex32 } from "../formats/crc32c.js";
import { decodeExample } from "../formats/tf-example.js";
import { type DamagedRecord, RecordReader, type TfRecord } from "../formats/tfrecord.js";
import type { Dataset } from "../data/dataset.js";
import type { ObjectBox } from "../data/pictures/augment.js";
import type { Encoded, Pixels } from "../data/pictures/render.js";
import { readClasses } from "../data/records/record-classes.js";
import {
  boxesOf,
  detectKeys,
  labelOf,
  pictureOf,
  type RecordKeys,
  type RequestedKeys,
} from "../data/records/record-keys.js";
import {
  compareWithManifest,
  type FoundShard,
  isShardName,
  isUnfinished,
  listShards,
  MANIFEST_FILE,
  PLAN_FILE,
  readManifest,
  type RecordManifest,
} from "../data/records/record-manifest.js";
import { layoutOf, type Place } from "../data/folder-layout.js";
import { openSource } from "../data/sets.js";
import { type Split, splitOfShard, splits } from "../data/split-names.js";
import type { VerifyProgress, VerifySettings } from "./verify-data.js";

export type PartName = Split | "data";

/** What a problem is about. */
export type Check =
  | "shard" // cannot be opened or read
  | "record" // framing and CRCs
  | "example" // the message in the record
  | "picture" // does not decode
  | "label" // no class
  | "boxes" // outside the picture, or without a side
  | "manifest" // shards missing, extra, or others; other classes than training has
  | "contradiction" // the same picture under two labels
  | "leakage"; // the same picture in training and validation

/** A file, or a record in it. */
export interface PicturePlace {
  readonly file: string;
  readonly record: number | null;
  readonly offset: number | null;
}

export interface DataProblem extends PicturePlace {
  readonly check: Check;
  readonly part: PartName;
  readonly what: string;
}

/** A part of a data set, about to be looked at. */
export interface Part {
  readonly part: PartName;
  readonly path: string;
  /** Shards; null where pictures are files. */
  readonly shards: number | null;
  readonly manifest: boolean;
  /** Names by label, where something says. */
  readonly classes: readonly string[] | undefined;
  /** Those that its manifest gives. */
  readonly declared?: readonly string[] | null | undefined;
  /** The amount of work, in megabytes or pictures. */
  readonly total: number;
  readonly unit: VerifyProgress["unit"];
  /** Problems and samples, in order. */
  read(): AsyncIterable<Found | Sample>;
}

/** A problem, as its source tells it. */
export type Found = Omit<DataProblem, "part">;

/** A picture with what belongs to it. The bytes hold until the next one is asked for. */
export interface Sample extends PicturePlace {
  readonly label: number;
  readonly picture: Encoded | Pixels;
  readonly boxes: readonly ObjectBox[];
  /** Of the source's total. */
  readonly done: number;
}

/** What a path holds, as `train` would take it. */
export async function openParts(settings: VerifySettings): Promise<Part[]> {
  const { path } = settings;
  let isFolder: boolean;
  try {
    isFolder = (await stat(path)).isDirectory();
  } catch (error) {
    const isMissing = ["ENOENT", "ENOTDIR"].includes(errorCode(error) ?? "");
    const what = isMissing ? "there is no such file or folder" : unreadable(error);
    throw DataError.at(path, what, {}, error);
  }
  if (!isFolder && isShardName(basename(path))) {
    return [await shardsPart("data", dirname(path), [basename(path)], undefined, settings)];
  }
  const layout = isFolder ? await layoutOf(path) : undefined;
  if (layout?.kind === "records") {
    const open = async (part: PartName, { path: folder, only }: Place): Promise<Part> => {
      const names = (await listShards(folder)).filter(
        (name) => only === undefined || splitOfShard(name) === only,
      );
      return shardsPart(part, folder, names, await readManifest(folder, only), settings);
    };
    const { parts, whole } = layout;
    const found = splits.map((split) => [split, parts[split]] as const);
    const places = [["data", whole] as const, ...found];
    return Promise.all(places.flatMap(([part, place]) => (place === undefined ? [] : [open(part, place)])));
  }
  const records = { labelOffset: settings.labelOffset };
  const { parts, whole, place } = await openSource(path, { seed: 0, records });
  if (whole !== undefined) return [picturesPart("data", path, await whole())];
  const opened: Part[] = [];
  let known: readonly string[] | undefined;
  for (const split of splits) {
    const set = await parts[split]?.(known);
    if (set === undefined) continue;
    known ??= set.classes;
    opened.push(picturesPart(split, place(split), set));
  }
  return opened;
}

function picturesPart(part: PartName, path: string, set: Dataset): Part {
  async function* read(): AsyncGenerator<Found | Sample> {
    for (let sample = 0; sample < set.size; sample++) {
      const file = set.name(sample);
      try {
        const picture = await set.read(sample);
        const boxes = picture.kind === "encoded" ? (picture.boxes ?? []) : [];
        const label = set.label(sample);
        yield { file, record: null, offset: null, label, picture, boxes, done: sample + 1 };
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        yield { check: "picture", file, record: null, offset: null, what: worded(error) };
      }
    }
  }
  return {
    part,
    path,
    shards: null,
    manifest: false,
    classes: set.classes,
    total: set.size,
    unit: "pictures",
    read,
  };
}

async function shardsPart(
  part: PartName,
  folder: string,
  names: readonly string[],
  manifest: RecordManifest | undefined,
  { keys, labelOffset = 0 }: VerifySettings,
): Promise<Part> {
  // One that cannot be looked at is told in its turn.
  const sizeOf = (name: string): Promise<number> =>
    stat(join(folder, name)).then(
      ({ size }) => size,
      () => 0,
    );
  const sizes = await Promise.all(names.map(sizeOf));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const classes = manifest?.classes ?? (await readClasses(folder));
  return {
    part,
    path: folder,
    shards: names.length,
    manifest: manifest !== undefined,
    classes,
    declared: manifest?.classes,
    total: total / 1e6,
    unit: "MB",
    read: () => readShards(folder, names, sizes, manifest, { keys, labelOffset }),
  };
}

/** The records of all shards, then what the manifest says of them. */
async function* readShards(
  folder: string,
  names: readonly string[],
  sizes: readonly number[],
  manifest: RecordManifest | undefined,
  asked: { readonly keys: RequestedKeys | undefined; readonly labelOffset: number },
): AsyncGenerator<Found | Sample> {
  const shards: FoundShard[] = [];
  /** What the manifest says of them cannot be compared. */
  const unread = new Set<string>();
  const declared = new Map(manifest?.shards.map((shard) => [shard.name, shard]));
  let before = 0;
  let keys: RecordKeys | undefined;
  for (const [i, name] of names.entries()) {
    const file = join(folder, name);
    let crc = "";
    let records = 0;
    let whole = true;
    for await (const found of recordsOf(file, (sum) => (crc = sum))) {
      if (typeof found === "string") {
        whole = false;
        unread.add(file);
        yield { check: "shard", file, record: null, offset: null, what: found };
        continue;
      }
      const { record, offset } = found;
      records++;
      if (found.error !== undefined) {
        whole = false;
        yield { check: "record", file, record, offset, what: worded(found.error) };
        continue;
      }
      const where = `${file}#${record}, byte ${offset}`;
      try {
        const example = decodeExample(found.payload, where);
        keys ??= detectKeys(example, asked.keys, where);
        yield {
          file,
          record,
          offset,
          label: labelOf(example, keys, where) - asked.labelOffset,
          picture: { kind: "encoded", bytes: pictureOf(example, keys, where) },
          boxes: boxesOf(example, keys, where),
          done: (before + offset + found.payload.length) / 1e6,
        };
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        yield { check: "example", file, record, offset, what: worded(error) };
      }
    }
    const size = sizes[i] ?? 0;
    before += size;
    // Where a record is damaged, how many follow is not known.
    shards.push({ name, bytes: size, ...(whole ? { records } : {}) });
    const entry = declared.get(name);
    if (whole && entry !== undefined && entry.bytes === size && entry.crc32c !== crc) {
      const what = `other records than ${MANIFEST_FILE} was written for: CRC ${crc}, expected ${entry.crc32c}`;
      yield { check: "manifest", file, record: null, offset: null, what };
    }
  }
  const differences = manifest === undefined ? [] : compareWithManifest(manifest, shards, folder);
  for (const error of differences) {
    const file = error.problem.where ?? folder;
    if (unread.has(file)) continue;
    yield { check: "manifest", file, record: null, offset: null, what: worded(error) };
  }
  if (await isUnfinished(folder)) {
    const what = `unfinished: there is ${PLAN_FILE} but no ${MANIFEST_FILE}; run npx riffle-vision create-tfrecords again`;
    yield { check: "manifest", file: folder, record: null, offset: null, what };
  }
}

/** A shard's records; where it cannot be opened, or read further, last of all the reason. Gives the CRC of them all. */
async function* recordsOf(
  path: string,
  ended: (crc: string) => void,
): AsyncGenerator<TfRecord | DamagedRecord | string> {
  let reader: RecordReader | undefined;
  try {
    reader = await RecordReader.open(path);
    for (let found = await reader.next(); found !== undefined; found = await reader.next()) yield found;
    ended(hex32(reader.crc));
  } catch (error) {
    yield unreadable(error);
  } finally {
    await reader?.close();
  }
}

function unreadable(error: unknown): string {
  if (error instanceof DataError) return worded(error);
  const code = errorCode(error);
  if (code === undefined) throw error;
  if (code === "ENOENT") return "there is no such file (a broken link?)";
  return `cannot be read: ${code === "EACCES" ? "no permission" : code}`;
}

/** The problem without its place, which is told apart. */
function worded({ problem }: DataError): string {
  return withNumbers(problem);
}
