/**
 * Everything that can be known to be wrong with a data set before hours are spent on it: every checksum, every
 * picture decoded to its end, labels, boxes, copies of a picture under two labels or in both parts, and whether the
 * shards are those that the manifest lists.
 *
 * What would stop a training or falsify its scores is a problem. What is only worth knowing is a remark in the
 * counts: a picture that comes twice under one label, and classes of very different sizes. Nothing is changed.
 *
 * Records count from 0 in their shard, offsets are in bytes; boxes are shares of the picture. Pictures are the same
 * when 96 bits of their SHA-256 are.
 */

import { hash } from "node:crypto";
import { stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import { errorCode } from "../core/durable.js";
import { DataError } from "../core/error.js";
import { hex32 } from "../formats/crc32c.js";
import { decodeExample } from "../formats/tf-example.js";
import { type DamagedRecord, RecordReader, type TfRecord } from "../formats/tfrecord.js";
import type { Dataset } from "../data/dataset.js";
import { readClasses } from "../data/records/record-dataset.js";
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
import type { ObjectBox } from "../data/pictures/augment.js";
import type { Encoded, Pixels } from "../data/pictures/render.js";
import { findShards, openDatasets } from "../data/sets.js";
import { decodingProblem } from "../data/pictures/decoding-problem.js";
import { MAX_CLASSES } from "../data/records/record-dataset.js";

export interface VerifySettings {
  /** What `train` takes for its data: shards, a folder of pictures, `.npz`; or one shard. */
  readonly path: string;
  /** Names of the features where the records are not ours. */
  readonly keys?: RequestedKeys | undefined;
  /** The label of the first class in records; labels are told with it taken off. */
  readonly labelOffset?: number | undefined;
}

export interface VerifyHooks {
  /** Called about ten times a second. */
  readonly progress?: (progress: VerifyProgress) => void;
  /** Aborted: report on what was looked at so far. */
  readonly signal?: AbortSignal;
}

export interface VerifyProgress {
  readonly part: PartName;
  /** Of `total`: megabytes of shards, or pictures. */
  readonly done: number;
  readonly total: number;
  readonly unit: "MB" | "pictures";
  /** Pictures a second. */
  readonly rate: number;
}

export type PartName = "train" | "validation" | "data";

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

export interface DataProblem extends PicturePlace {
  readonly check: Check;
  readonly part: PartName;
  readonly what: string;
}

/** A picture that is a copy of an earlier one in its part, under the same label. */
export interface CopiedPicture extends PicturePlace {
  readonly part: PartName;
  readonly of: PicturePlace;
}

/** A file, or a record in it. */
export interface PicturePlace {
  readonly file: string;
  readonly record: number | null;
  readonly offset: number | null;
}

export interface VerifiedPart {
  readonly part: PartName;
  readonly path: string;
  /** Shards; null where pictures are files. */
  readonly shards: number | null;
  readonly manifest: boolean;
  /** Those that could be read. */
  readonly pictures: number;
  /** Bytes of the pictures. */
  readonly bytes: number;
  readonly boxes: number;
  /** Pictures with at least one box. */
  readonly boxed: number;
  readonly classes: ClassBalance;
  /** How many pictures are a {@link CopiedPicture}. */
  readonly duplicates: number;
}

export interface ClassBalance {
  /** Classes there are; null where nothing says. */
  readonly known: number | null;
  /** Those with at least one picture. */
  readonly seen: number;
  readonly smallest: ClassSize | null;
  readonly largest: ClassSize | null;
}

export interface ClassSize {
  readonly label: number;
  readonly name: string | null;
  readonly pictures: number;
}

export interface VerifyReport {
  /** All was looked at, and nothing found. */
  readonly ok: boolean;
  /** Not all was looked at. */
  readonly stopped: boolean;
  readonly parts: readonly VerifiedPart[];
  /** The first {@link MOST_COPIES}; the parts say how many there are. */
  readonly copies: readonly CopiedPicture[];
  /** Validation pictures that are in training, too. */
  readonly leaked: number;
  /** How many of each kind; kinds without any are left out. */
  readonly counts: Readonly<Partial<Record<Check, number>>>;
  /** In the order of parts, files and records; the first {@link MOST_PROBLEMS}. */
  readonly problems: readonly DataProblem[];
  readonly seconds: number;
}

/** Problems kept for listing; all are counted. */
export const MOST_PROBLEMS = 10_000;

/** Copies kept for listing; they are no problem, and all are counted. */
export const MOST_COPIES = 100;

/**
 * Looks at every picture of a data set.
 *
 * @throws DataError when there is no data set at the path.
 */
export async function verifyData(settings: VerifySettings, hooks: VerifyHooks = {}): Promise<VerifyReport> {
  const verification = new Verification(hooks);
  for (const source of await openSources(settings)) await verification.look(source);
  return verification.report();
}

/** A part of a data set, about to be looked at. */
interface Source {
  readonly part: PartName;
  readonly path: string;
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
type Found = Omit<DataProblem, "part">;

/** A picture with what belongs to it. The bytes hold until the next one is asked for. */
interface Sample {
  readonly file: string;
  readonly record: number | null;
  readonly offset: number | null;
  readonly label: number;
  readonly picture: Encoded | Pixels;
  readonly boxes: readonly ObjectBox[];
  /** Of the source's total. */
  readonly done: number;
}

/** What is remembered of a picture, to find copies: columns, because there may be millions. */
interface Seen {
  readonly part: PartName;
  readonly files: string[];
  readonly file: number[];
  readonly record: number[];
  readonly offset: number[];
  readonly label: number[];
  /** The first and the second 48 bits of the SHA-256. */
  readonly hash: number[];
  readonly check: number[];
}

class Verification {
  readonly #parts: VerifiedPart[] = [];
  readonly #seen: Seen[] = [];
  readonly #problems: DataProblem[] = [];
  readonly #counts = new Map<Check, number>();
  readonly #started = performance.now();
  /** Decodings under way. */
  readonly #inFlight = new Set<Promise<void>>();
  /** Names by label that training goes by: those of the part looked at before. */
  #classes: readonly string[] | undefined;
  #reported = -Infinity;
  #pictures = 0;
  #stopped = false;

  constructor(private readonly hooks: VerifyHooks) {}

  async look(source: Source): Promise<void> {
    if (this.#isStopped()) return;
    const { part } = source;
    const seen: Seen = { part, files: [], file: [], record: [], offset: [], label: [], hash: [], check: [] };
    this.#seen.push(seen);
    let bytes = 0;
    let boxes = 0;
    let boxed = 0;
    // Problems in order although decodings end in any: each keeps the place where it was found.
    const found: (Found & { readonly order: number })[] = [];
    let order = 0;
    let done = 0;
    for (const problem of otherClasses(source, this.#classes)) found.push({ ...problem, order });
    const classes = (this.#classes ?? source.classes)?.length ?? MAX_CLASSES;
    for await (const one of source.read()) {
      if (this.#isStopped()) break;
      order++;
      if ("check" in one) {
        found.push({ ...one, order });
        continue;
      }
      for (const problem of problemsOf(one, classes)) found.push({ ...problem, order });
      // The reader's buffer is about to be used again.
      const picture = ownCopy(one.picture);
      remember(seen, one, picture);
      bytes += contentOf(picture).length;
      boxes += one.boxes.length;
      if (one.boxes.length > 0) boxed++;
      this.#pictures++;
      const { file, record, offset } = one;
      const at = order;
      await this.#decode(picture, file, (what) =>
        found.push({ check: "picture", file, record, offset, what, order: at }),
      );
      done = one.done;
      this.#progress(source, done);
    }
    await Promise.all(this.#inFlight);
    this.#progress(source, this.#stopped ? done : source.total, true);
    this.#classes ??= source.classes ?? numbered(seen.label);
    found.sort((a, b) => a.order - b.order);
    for (const { check, file, record, offset, what } of found) {
      this.#add({ check, part, file, record, offset, what });
    }
    const { path, shards, manifest } = source;
    this.#parts.push({
      part,
      path,
      shards,
      manifest,
      pictures: seen.hash.length,
      bytes,
      boxes,
      boxed,
      classes: balanceOf(seen, source.classes),
      duplicates: 0,
    });
  }

  report(): VerifyReport {
    const { duplicates, copies, leaked } = this.#findCopies();
    return {
      ok: this.#counts.size === 0 && !this.#stopped,
      stopped: this.#stopped,
      parts: this.#parts.map((part, i) => ({ ...part, duplicates: duplicates[i] ?? 0 })),
      copies,
      leaked,
      counts: Object.fromEntries(this.#counts),
      problems: this.#problems,
      seconds: (performance.now() - this.#started) / 1000,
    };
  }

  /** Begins to decode, once there is room; the others go on meanwhile. */
  async #decode(picture: Encoded | Pixels, where: string, bad: (what: string) => void): Promise<void> {
    while (this.#inFlight.size >= IN_FLIGHT) await Promise.race(this.#inFlight);
    const decoding: Promise<void> = decodingProblem(picture, where)
      .then((what) => void (what === undefined || bad(what)))
      .finally(() => this.#inFlight.delete(decoding));
    this.#inFlight.add(decoding);
  }

  /** Copies within a part and between the parts. */
  #findCopies(): {
    readonly duplicates: readonly number[];
    readonly copies: readonly CopiedPicture[];
    readonly leaked: number;
  } {
    const duplicates = this.#seen.map(() => 0);
    const listed: CopiedPicture[] = [];
    let leaked = 0;
    for (const group of copies(this.#seen)) {
      for (const [part, seen] of this.#seen.entries()) {
        const [first, ...more] = group.filter((copy) => copy.part === part);
        if (first === undefined) continue;
        for (const { sample } of more) {
          const [label, firstLabel] = [seen.label[sample], seen.label[first.sample]];
          if (label === firstLabel) {
            duplicates[part] = (duplicates[part] ?? 0) + 1;
            if (listed.length < MOST_COPIES)
              listed.push({ part: seen.part, ...at(seen, sample), of: at(seen, first.sample) });
          } else {
            const what = `label ${label}; the same picture has label ${firstLabel} at ${placeOf(seen, first.sample)}`;
            this.#add({ check: "contradiction", part: seen.part, ...at(seen, sample), what });
          }
        }
      }
      const [here] = group;
      for (const { part, sample } of group) {
        const [seen, other] = [this.#seen[part], here && this.#seen[here.part]];
        if (here === undefined || seen === undefined || other === undefined || part === here.part) continue;
        leaked++;
        const what = `also in ${other.part}, at ${placeOf(other, here.sample)}`;
        this.#add({ check: "leakage", part: seen.part, ...at(seen, sample), what });
      }
    }
    return { duplicates, copies: listed, leaked };
  }

  /** Once asked to stop, what is left is not looked at. */
  #isStopped(): boolean {
    this.#stopped ||= this.hooks.signal?.aborted === true;
    return this.#stopped;
  }

  #add(problem: DataProblem): void {
    this.#counts.set(problem.check, (this.#counts.get(problem.check) ?? 0) + 1);
    if (this.#problems.length < MOST_PROBLEMS) this.#problems.push(problem);
  }

  #progress({ part, total, unit }: Source, done: number, last = false): void {
    const now = performance.now();
    if (!last && now < this.#reported + REPORT_MS) return;
    this.#reported = now;
    const rate = this.#pictures / ((now - this.#started) / 1000);
    this.hooks.progress?.({ part, done, total, unit, rate });
  }
}

/** Labels and boxes, which need no pixel; labels are below `classes`. */
function problemsOf({ file, record, offset, label, boxes }: Sample, classes: number): Found[] {
  const problems: Found[] = [];
  if (label < 0 || label >= classes) {
    const what = `label ${label} is no class; there are 0 .. ${classes - 1}`;
    problems.push({ check: "label", file, record, offset, what });
  }
  boxes.forEach(({ xmin, ymin, xmax, ymax }, i) => {
    if (xmin >= 0 && xmin < xmax && xmax <= 1 && ymin >= 0 && ymin < ymax && ymax <= 1) return;
    const what = `box ${i} is no box: xmin ${xmin}, ymin ${ymin}, xmax ${xmax}, ymax ${ymax}`;
    problems.push({ check: "boxes", file, record, offset, what });
  });
  return problems;
}

/** A manifest that names the classes otherwise than training does; the labels then mean something else. */
function otherClasses({ path, declared }: Source, classes: readonly string[] | undefined): Found[] {
  if (declared == null || classes === undefined) return [];
  const labels = Array.from({ length: Math.max(declared.length, classes.length) }, (_, label) => label);
  const label = labels.find((i) => declared[i] !== classes[i]);
  if (label === undefined) return [];
  const expected = classes[label] ?? `${classes.length} classes`;
  const found = declared[label] ?? `${declared.length} classes`;
  const what = `other classes than the training set has: label ${label} means something else (expected ${expected}, found ${found})`;
  return [{ check: "manifest", file: join(path, MANIFEST_FILE), record: null, offset: null, what }];
}

/** Names as training gives them where nothing else does: "0" .. the highest label; undefined where there is no label. */
function numbered(labels: readonly number[]): string[] | undefined {
  const highest = labels.reduce((most, label) => Math.max(most, label), -1);
  if (highest < 0) return undefined;
  return Array.from({ length: Math.min(highest + 1, MAX_CLASSES) }, (_, label) => String(label));
}

/** Twice libuv's four threads, so that none idles. */
const IN_FLIGHT = 8;

/** Milliseconds between two reports of progress. */
const REPORT_MS = 100;

/** What a path holds, as `train` would take it. */
async function openSources(settings: VerifySettings): Promise<Source[]> {
  const { path } = settings;
  let isFolder: boolean;
  try {
    isFolder = (await stat(path)).isDirectory();
  } catch (error) {
    const isMissing = ["ENOENT", "ENOTDIR"].includes(errorCode(error) ?? "");
    const what = isMissing ? "there is no such file or folder" : unreadable(error);
    throw new DataError({ where: path, what }, error);
  }
  if (!isFolder && isShardName(basename(path))) {
    return [await shardsSource("data", dirname(path), [basename(path)], undefined, settings)];
  }
  const shards = isFolder ? await findShards(path) : undefined;
  if (shards !== undefined) {
    const open = async (part: PartName, folder: string): Promise<Source> =>
      shardsSource(part, folder, await listShards(folder), await readManifest(folder), settings);
    const { train, validation } = shards;
    return [
      ...(train === undefined ? [] : [await open(train === path ? "data" : "train", train)]),
      ...(validation === undefined ? [] : [await open("validation", validation)]),
    ];
  }
  // A set of one part comes as both.
  const { train, validation } = await openDatasets(path, { seed: 0, evalOnly: true });
  if (validation === undefined || validation === train) return [picturesSource("data", path, train)];
  return [picturesSource("train", path, train), picturesSource("validation", path, validation)];
}

function picturesSource(part: PartName, path: string, set: Dataset): Source {
  async function* read(): AsyncGenerator<Found | Sample> {
    for (let sample = 0; sample < set.size; sample++) {
      const file = set.name(sample);
      try {
        const picture = await set.read(sample);
        const boxes = picture.kind === "encoded" ? (picture.boxes ?? []) : [];
        yield {
          file,
          record: null,
          offset: null,
          label: set.label(sample),
          picture,
          boxes,
          done: sample + 1,
        };
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

async function shardsSource(
  part: PartName,
  folder: string,
  names: readonly string[],
  manifest: RecordManifest | undefined,
  { keys, labelOffset = 0 }: VerifySettings,
): Promise<Source> {
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
    const what = `unfinished: there is ${PLAN_FILE} but no ${MANIFEST_FILE}; run riffle create-tfrecords again`;
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

function ownCopy(picture: Encoded | Pixels): Encoded | Pixels {
  return picture.kind === "encoded" ? { kind: "encoded", bytes: picture.bytes.slice() } : picture;
}

function contentOf(picture: Encoded | Pixels): Uint8Array {
  return picture.kind === "encoded" ? picture.bytes : picture.data;
}

function remember(seen: Seen, { file, record, offset, label }: Sample, picture: Encoded | Pixels): void {
  if (seen.files.at(-1) !== file) seen.files.push(file);
  seen.file.push(seen.files.length - 1);
  seen.record.push(record ?? -1);
  seen.offset.push(offset ?? -1);
  seen.label.push(label);
  const digest = hash("sha256", contentOf(picture), "buffer");
  seen.hash.push(digest.readUIntBE(0, 6));
  seen.check.push(digest.readUIntBE(6, 6));
}

function at(seen: Seen, sample: number): PicturePlace {
  const [record, offset] = [seen.record[sample] ?? -1, seen.offset[sample] ?? -1];
  return {
    file: seen.files[seen.file[sample] ?? -1] ?? "",
    record: record < 0 ? null : record,
    offset: offset < 0 ? null : offset,
  };
}

/** shard-0003.tfrecords#17, byte 4711 */
function placeOf(seen: Seen, sample: number): string {
  const { file, record, offset } = at(seen, sample);
  return record === null ? file : `${file}#${record}, byte ${offset}`;
}

/** One copy of a picture that comes more than once. */
interface Copy {
  readonly part: number;
  readonly sample: number;
}

/** Groups of the same picture, each in the order of parts and samples. */
function copies(seen: readonly Seen[]): Copy[][] {
  // Sorted numbers find what repeats without a table of a million entries.
  const all = Float64Array.from(seen.flatMap((part) => part.hash)).sort();
  const repeated = new Set<number>();
  for (let i = 1; i < all.length; i++) if (all[i] === all[i - 1]) repeated.add(all[i] as number);
  const groups = new Map<string, Copy[]>();
  seen.forEach(({ hash: hashes, check }, part) => {
    hashes.forEach((value, sample) => {
      if (!repeated.has(value)) return;
      const key = `${value} ${check[sample]}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [{ part, sample }]);
      else group.push({ part, sample });
    });
  });
  return [...groups.values()].filter((group) => group.length > 1);
}

function balanceOf({ label: labels }: Seen, classes: readonly string[] | undefined): ClassBalance {
  const pictures = new Map<number, number>();
  for (const label of labels) pictures.set(label, (pictures.get(label) ?? 0) + 1);
  const sizes = [...pictures].sort(([a, m], [b, n]) => m - n || a - b);
  const size = (entry: readonly [number, number] | undefined): ClassSize | null =>
    entry === undefined ? null : { label: entry[0], name: classes?.[entry[0]] ?? null, pictures: entry[1] };
  return {
    known: classes?.length ?? null,
    seen: pictures.size,
    smallest: size(sizes[0]),
    largest: size(sizes.at(-1)),
  };
}

/** The problem without its place, which is told apart. */
function worded({ problem }: DataError): string {
  const numbers = [
    problem.expected && `expected ${problem.expected}`,
    problem.found && `found ${problem.found}`,
  ].filter(Boolean);
  return problem.what + (numbers.length > 0 ? ` (${numbers.join(", ")})` : "");
}
