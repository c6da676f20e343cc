/**
 * Where every record of a set of shards lies, and its label, so that any sample is one read away and an epoch can be
 * a permutation of the whole set.
 *
 * Made once by reading every shard with every check, and kept as `.riffle-index` beside the shards, or in the user's
 * cache where that folder cannot be written. It is used while names, sizes and time stamps of the shards are the same;
 * a stale or damaged one is made again, never trusted.
 *
 *     "RIFFLEIX" | u32 version | u32 CRC-32C of what follows | u32 bytes of JSON | u32 0 | JSON, padded to 8 bytes
 *     | f64 offset of each record | u32 length of each payload | i32 label of each
 *
 * All little-endian: 16 bytes per record, 21 MB for ImageNet, in the file and in memory. Offsets and lengths are in
 * bytes.
 */

import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { mkdir, open, realpath, rename, stat, unlink } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, dirname, isAbsolute, join } from "node:path";

import { z } from "zod";

import { errorCode, writeFlushed } from "../../core/durable.js";
import { DataError } from "../../core/error.js";
import { crc32c, hex32 } from "../../formats/crc32c.js";
import { readFully } from "../../formats/npy.js";
import { decodeExample } from "../../formats/tf-example.js";
import { RECORD_OVERHEAD, RecordReader } from "../../formats/tfrecord.js";
import { detectKeys, labelOf, pictureOf, type RecordKeys, type RequestedKeys } from "./record-keys.js";
import {
  compareWithManifest,
  isUnfinished,
  listShards,
  MANIFEST_FILE,
  PLAN_FILE,
  readManifest,
  type RecordManifest,
  type ShardEntry,
} from "./record-manifest.js";

/** A record that fails a check and was left out. */
export interface BadRecord {
  readonly shard: string;
  /** From 0, bad ones counted. */
  readonly record: number;
  readonly offset: number;
  readonly reason: string;
  /** How many records are lost with it; more than 1 where its length is damaged and a manifest tells how many follow. */
  readonly lost: number;
}

export interface IndexedShard {
  readonly name: string;
  readonly bytes: number;
  /** Time of the last change, nanoseconds since 1970 in decimal digits. */
  readonly modified: string;
  /** Good ones. */
  readonly records: number;
  readonly bad: readonly Omit<BadRecord, "shard">[];
}

export interface RecordIndex {
  readonly folder: string;
  /** The file that keeps the index; null where none could be written. */
  readonly file: string | null;
  readonly shards: readonly IndexedShard[];
  readonly keys: RecordKeys;
  readonly manifest: RecordManifest | undefined;
  /** Of the good records, in the order of the shards: where the record's frame begins. */
  readonly offsets: Float64Array;
  /** Of their payloads. */
  readonly lengths: Uint32Array;
  /** As the records have them. */
  readonly labels: Int32Array;
}

export interface IndexProgress {
  /** Being read, or just done. */
  readonly shard: string;
  readonly shardsDone: number;
  readonly shards: number;
  readonly records: number;
  readonly bytes: number;
  readonly totalBytes: number;
}

export interface IndexOptions {
  readonly keys?: RequestedKeys | undefined;
  /** Damaged records to leave out before giving up. */
  readonly skipBadRecords?: number | undefined;
  /** While the index is made: at most ten times a second, and at the end. */
  readonly onProgress?: ((progress: IndexProgress) => void) | undefined;
  /** A sentence for the user: why an index is made again, or kept elsewhere. */
  readonly onNotice?: ((text: string) => void) | undefined;
}

/**
 * The index of a folder of shards, or of one shard.
 *
 * @throws DataError when there are no records, more bad ones than are to be skipped, or shards other than in the
 * manifest.
 */
export async function openRecordIndex(path: string, options: IndexOptions): Promise<RecordIndex> {
  const { folder, names, indexName } = await locate(path);
  const manifest = indexName === INDEX_FILE ? await readManifest(folder) : undefined;
  if (indexName === INDEX_FILE && (await isUnfinished(folder))) {
    throw new DataError({
      where: folder,
      what: `unfinished: there is ${PLAN_FILE} but no ${MANIFEST_FILE}`,
      safe: "The shards that are there are whole",
      hint: "Run the same riffle create-tfrecords again; it writes the missing ones",
    });
  }
  const found = await Promise.all(names.map((name) => statShard(folder, name)));
  refuseDifferent(manifest, found, folder);
  if (names.length === 0) {
    const expected = "files named *.tfrecords, *.tfrecord, *.record or *-00000-of-00010";
    throw new DataError({ where: path, what: "holds no shards of TFRecords", expected });
  }
  const requested = requestText(options.keys);
  const places = [join(folder, indexName), await cachePath(folder, indexName)];
  let index: StoredIndex | undefined;
  let file: string | null = null;
  for (const place of places) {
    const loaded = await load(place, found, requested);
    if (typeof loaded === "object") {
      index = loaded;
      file = place;
      break;
    }
    if (loaded !== undefined) options.onNotice?.(`${place}: ${loaded}; making the index again`);
  }
  if (index === undefined) {
    index = await scan(folder, found, manifest, options);
    file = await save(index, requested, places, options.onNotice);
  }
  const limit = new BadRecordLimit(folder, options.skipBadRecords ?? 0);
  for (const shard of index.shards) limit.add(shard.name, shard.bad);
  const counted = index.shards.map((shard) => ({ ...shard, records: recordsIn(shard) }));
  refuseDifferent(manifest, counted, folder);
  if (index.offsets.length === 0) throw new DataError({ where: path, what: "holds no records" });
  return { folder, file, manifest, ...index };
}

/** Good and bad ones, as far as they can be counted. */
export function recordsIn(shard: IndexedShard): number {
  return shard.bad.reduce((total, { lost }) => total + lost, shard.records);
}

/** Stops where more records are bad than were to be skipped. */
class BadRecordLimit {
  #count = 0;
  #first: string | undefined;

  constructor(
    private readonly folder: string,
    private readonly allowed: number,
  ) {}

  add(shard: string, bad: IndexedShard["bad"]): void {
    for (const { record, offset, reason, lost } of bad) {
      const where = `${join(this.folder, shard)}#${record}, byte ${offset}`;
      this.#count += lost;
      this.#first ??= where;
      if (this.#count <= this.allowed) continue;
      throw new DataError({
        where,
        what: reason,
        safe: "No record of the set was used",
        hint:
          this.allowed === 0
            ? `Make or fetch the shard again, or leave damaged records out: --skip_bad_records ${lost}`
            : `${this.#count} damaged or lost records are more than --skip_bad_records ${this.allowed} allows; ` +
              `the first was ${this.#first}`,
      });
    }
  }
}

/** What the file keeps. */
export type StoredIndex = Omit<RecordIndex, "folder" | "manifest" | "file">;
type FoundShard = Pick<IndexedShard, "name" | "bytes" | "modified">;

const INDEX_FILE = ".riffle-index";

async function locate(path: string) {
  let isFile: boolean;
  try {
    isFile = (await stat(path)).isFile();
  } catch (error) {
    throw new DataError({ where: path, what: "there is no such file or folder" }, error);
  }
  if (isFile)
    return { folder: dirname(path), names: [basename(path)], indexName: `.${basename(path)}.riffle-index` };
  return { folder: path, names: await listShards(path), indexName: INDEX_FILE };
}

async function statShard(folder: string, name: string): Promise<FoundShard> {
  try {
    const { size, mtimeNs } = await stat(join(folder, name), { bigint: true });
    return { name, bytes: Number(size), modified: mtimeNs.toString() };
  } catch (error) {
    throw new DataError({ where: join(folder, name), what: "cannot be read (a broken link?)" }, error);
  }
}

function refuseDifferent(
  manifest: RecordManifest | undefined,
  found: readonly { readonly name: string; readonly bytes: number; readonly records?: number }[],
  folder: string,
): void {
  const [problem] = manifest === undefined ? [] : compareWithManifest(manifest, found, folder);
  if (problem !== undefined) throw problem;
}

// ---- Making it

/** Shards read at a time, so that the disk works while CRCs are computed. */
const AHEAD = 3;

async function scan(
  folder: string,
  found: readonly FoundShard[],
  manifest: RecordManifest | undefined,
  options: IndexOptions,
): Promise<StoredIndex> {
  const keys = await firstKeys(folder, found, options);
  const limit = new BadRecordLimit(folder, options.skipBadRecords ?? 0);
  const meter = new Meter(found, options.onProgress);
  const declared = new Map(manifest?.shards.map((shard) => [shard.name, shard]));
  const stop = { requested: false };
  const running: Promise<Scanned>[] = [];
  const start = (shard: FoundShard) => {
    const scanning = scanShard(folder, shard, keys, declared.get(shard.name), meter, stop);
    // Its failure is reported when its turn comes.
    scanning.catch(() => undefined);
    running.push(scanning);
  };
  found.slice(0, AHEAD).forEach(start);
  const scanned: Scanned[] = [];
  try {
    for (let shard = await running.shift(); shard !== undefined; shard = await running.shift()) {
      // In order, so that which record is reported does not depend on timing.
      limit.add(shard.name, shard.bad);
      scanned.push(shard);
      found
        .slice(scanned.length + running.length)
        .slice(0, 1)
        .forEach(start);
    }
  } finally {
    stop.requested = true;
    await Promise.allSettled(running);
  }
  meter.finish();
  const total = scanned.reduce((sum, { offsets }) => sum + offsets.length, 0);
  const index = {
    offsets: new Float64Array(total),
    lengths: new Uint32Array(total),
    labels: new Int32Array(total),
  };
  let first = 0;
  const shards = scanned.map(({ offsets, lengths, labels, ...shard }) => {
    index.offsets.set(offsets, first);
    index.lengths.set(lengths, first);
    index.labels.set(labels, first);
    first += offsets.length;
    return { ...shard, records: offsets.length };
  });
  return { shards, keys, ...index };
}

interface Scanned extends FoundShard {
  readonly bad: Omit<BadRecord, "shard">[];
  readonly offsets: number[];
  readonly lengths: number[];
  readonly labels: number[];
}

async function scanShard(
  folder: string,
  shard: FoundShard,
  keys: RecordKeys,
  declared: ShardEntry | undefined,
  meter: Meter,
  stop: { readonly requested: boolean },
): Promise<Scanned> {
  const path = join(folder, shard.name);
  const scanned: Scanned = { ...shard, bad: [], offsets: [], lengths: [], labels: [] };
  const leaveOut = (record: number, offset: number, error: DataError, last: boolean) => {
    const lost = last && declared !== undefined ? Math.max(1, declared.records - record) : 1;
    const reason = reasonOf(error) + (last ? "; nothing after it in this shard can be found" : "");
    scanned.bad.push({ record, offset, reason, lost });
  };
  const reader = await openShard(path);
  try {
    for (;;) {
      const found = await reader.next();
      if (stop.requested) return scanned;
      if (found === undefined) {
        refuseOther(declared, scanned, reader.crc, path);
        return scanned;
      }
      const { record, offset } = found;
      if (found.error !== undefined) {
        if (found.foreign) throw found.error;
        leaveOut(record, offset, found.error, found.last);
        continue;
      }
      try {
        const where = `${path}#${record}, byte ${offset}`;
        const example = decodeExample(found.payload, where);
        pictureOf(example, keys, where);
        scanned.labels.push(labelOf(example, keys, where));
        scanned.offsets.push(offset);
        scanned.lengths.push(found.payload.length);
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        leaveOut(record, offset, error, false);
      }
      meter.add(shard.name, found.payload.length + RECORD_OVERHEAD);
    }
  } finally {
    meter.shardDone();
    await reader.close();
  }
}

/** A shard of the right size and number of records may still hold others; where some are damaged, that is said first. */
function refuseOther(declared: ShardEntry | undefined, scanned: Scanned, crc: number, path: string): void {
  if (declared === undefined || scanned.bad.length > 0) return;
  if (declared.bytes !== scanned.bytes || declared.crc32c === hex32(crc)) return;
  throw new DataError({
    where: path,
    what: `other records than ${MANIFEST_FILE} was written for`,
    expected: `CRC ${declared.crc32c}`,
    found: hex32(crc),
    hint: `Fetch or make it again; without ${MANIFEST_FILE} the shards are read as they are`,
  });
}

/** The keys that the first whole Example shows. */
async function firstKeys(
  folder: string,
  found: readonly FoundShard[],
  options: IndexOptions,
): Promise<RecordKeys> {
  const { skipBadRecords = 0 } = options;
  const limit = new BadRecordLimit(folder, skipBadRecords);
  let first: DataError | undefined;
  for (const { name } of found) {
    const path = join(folder, name);
    const reader = await openShard(path);
    try {
      for (let next = await reader.next(); next !== undefined; next = await reader.next()) {
        const { record, offset } = next;
        let { error }: { error?: DataError | undefined } = next;
        if (next.error !== undefined && next.foreign) throw next.error;
        if (next.error === undefined) {
          const where = `${path}#${record}, byte ${offset}`;
          try {
            return detectKeys(decodeExample(next.payload, where), options.keys, where);
          } catch (cause) {
            // Where nothing is to be skipped, the reason itself says more.
            if (!(cause instanceof DataError) || skipBadRecords === 0) throw cause;
            error = cause;
          }
        }
        first ??= error;
        if (error !== undefined) limit.add(name, [{ record, offset, reason: reasonOf(error), lost: 1 }]);
      }
    } finally {
      await reader.close();
    }
  }
  throw new DataError({
    where: folder,
    what: "holds no whole record",
    ...(first === undefined ? {} : { found: first.message }),
  });
}

async function openShard(path: string): Promise<RecordReader> {
  try {
    return await RecordReader.open(path);
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError({ where: path, what: `cannot be read: ${errorCode(error) ?? String(error)}` }, error);
  }
}

/** The problem without its place. */
export function reasonOf({ problem }: DataError): string {
  const numbers = [
    problem.expected && `expected ${problem.expected}`,
    problem.found && `found ${problem.found}`,
  ].filter(Boolean);
  return problem.what + (numbers.length > 0 ? ` (${numbers.join(", ")})` : "");
}

/** Counts what was read and tells it, not too often. */
class Meter {
  #shardsDone = 0;
  #records = 0;
  #bytes = 0;
  #shard = "";
  #told = 0;
  readonly #totalBytes: number;

  constructor(
    private readonly shards: readonly FoundShard[],
    private readonly tell: IndexOptions["onProgress"],
  ) {
    this.#totalBytes = shards.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  add(shard: string, bytes: number): void {
    this.#shard = shard;
    this.#records++;
    this.#bytes += bytes;
    if (performance.now() - this.#told >= 100) this.#report();
  }

  shardDone(): void {
    this.#shardsDone++;
  }

  finish(): void {
    this.#report();
  }

  #report(): void {
    this.#told = performance.now();
    this.tell?.({
      shard: this.#shard,
      shardsDone: this.#shardsDone,
      shards: this.shards.length,
      records: this.#records,
      bytes: this.#bytes,
      totalBytes: this.#totalBytes,
    });
  }
}

// ---- Keeping it

const MAGIC = "RIFFLEIX";
const VERSION = 1;
const HEADER_BYTES = 24;
/** The CRC covers everything behind it. */
const CRC_FROM = 16;
const BYTES_PER_RECORD = 16;

const whole = z.int().nonnegative();
const text = z.string().refine((value) => !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(value), "control characters");
const headerSchema = z.strictObject({
  /** `--keys` as given, in a fixed order; null where they were found. */
  requested: text.nullable(),
  keys: z.strictObject({ image: text, label: text, xmin: text, ymin: text, xmax: text, ymax: text }),
  shards: z.array(
    z.strictObject({
      name: z.string(),
      bytes: whole,
      modified: z.string().regex(/^-?[0-9]+$/),
      records: whole,
      bad: z.array(z.strictObject({ record: whole, offset: whole, reason: text, lost: whole })),
    }),
  ),
});

function requestText(keys: RequestedKeys | undefined): string | null {
  if (keys === undefined || keys.size === 0) return null;
  return [...keys]
    .map(([role, key]) => `${role}=${key}`)
    .sort()
    .join(",");
}

/** The index in a file; undefined where there is none, or words for why it cannot be used. */
async function load(
  path: string,
  found: readonly FoundShard[],
  requested: string | null,
): Promise<StoredIndex | string | undefined> {
  let bytes: Uint8Array;
  try {
    // A pipe of that name would be waited for.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = await file.stat();
      if (!stats.isFile()) return "not a regular file";
      const { size } = stats;
      const records = found.reduce((sum, shard) => sum + Math.floor(shard.bytes / RECORD_OVERHEAD), 0);
      if (size > records * BYTES_PER_RECORD + MAX_JSON_BYTES) return "longer than these shards can need";
      bytes = new Uint8Array(size);
      await readFully(file, bytes, 0, path);
    } finally {
      await file.close();
    }
  } catch (error) {
    const code = errorCode(error);
    return code === "ENOENT" || code === "ENOTDIR" ? undefined : `cannot be read (${code ?? String(error)})`;
  }
  const index = parse(bytes);
  if (typeof index === "string") return index;
  const { requested: madeFor, ...stored } = index;
  if (madeFor !== requested) return "made for other keys";
  return difference(stored.shards, found) ?? stored;
}

const MAX_JSON_BYTES = 64 * 2 ** 20;

/** The contents of an index file, or words for what is wrong with it. */
function parse(bytes: Uint8Array): (StoredIndex & { readonly requested: string | null }) | string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER_BYTES || String.fromCharCode(...bytes.subarray(0, 8)) !== MAGIC)
    return "no index";
  if (view.getUint32(8, true) !== VERSION) return `of version ${view.getUint32(8, true)}, not ${VERSION}`;
  if (view.getUint32(12, true) !== crc32c(bytes.subarray(CRC_FROM))) return "damaged (wrong CRC)";
  const jsonBytes = view.getUint32(16, true);
  const count = (bytes.length - HEADER_BYTES - jsonBytes) / BYTES_PER_RECORD;
  if (jsonBytes % 8 !== 0 || count < 0 || !Number.isInteger(count)) return "damaged (its lengths disagree)";
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset + HEADER_BYTES, jsonBytes).toString());
  } catch {
    return "damaged (its header is no JSON)";
  }
  const header = headerSchema.safeParse(json);
  if (!header.success) return "damaged (its header is not ours)";
  const start = bytes.byteOffset + HEADER_BYTES + jsonBytes;
  const stored = {
    ...header.data,
    offsets: new Float64Array(bytes.buffer, start, count),
    lengths: new Uint32Array(bytes.buffer, start + 8 * count, count),
    labels: new Int32Array(bytes.buffer, start + 12 * count, count),
  };
  return liesWithin(stored) ? stored : "damaged (its records do not lie in the shards)";
}

/** Every record behind the one before and inside its shard. */
function liesWithin({ shards, offsets, lengths }: StoredIndex): boolean {
  let i = 0;
  for (const { records, bytes } of shards) {
    let end = 0;
    const last = i + records;
    if (last > offsets.length) return false;
    for (; i < last; i++) {
      const offset = offsets[i] as number;
      if (!(Number.isInteger(offset) && offset >= end)) return false;
      end = offset + (lengths[i] as number) + RECORD_OVERHEAD;
    }
    if (end > bytes) return false;
  }
  return i === offsets.length;
}

/** Words for the first shard that is not as it was. */
function difference(before: readonly FoundShard[], now: readonly FoundShard[]): string | undefined {
  const known = new Map(before.map((shard) => [shard.name, shard]));
  for (const { name, bytes, modified } of now) {
    const shard = known.get(name);
    if (shard === undefined) return `out of date (${name} is new)`;
    if (shard.bytes !== bytes) return `out of date (${name} had ${shard.bytes} bytes and has ${bytes})`;
    if (shard.modified !== modified) return `out of date (${name} was changed)`;
    known.delete(name);
  }
  const [gone] = known.keys();
  if (gone !== undefined) return `out of date (${gone} is gone)`;
  return before.every(({ name }, i) => name === now[i]?.name) ? undefined : "out of date (another order)";
}

async function save(
  index: StoredIndex,
  requested: string | null,
  places: readonly string[],
  notice: IndexOptions["onNotice"],
): Promise<string | null> {
  const pieces = indexPieces(index, requested);
  const reasons: string[] = [];
  for (const [i, place] of places.entries()) {
    const temporary = join(dirname(place), `.saving-${process.pid}-${basename(place)}`);
    try {
      if (i > 0) await makeFolders(dirname(place));
      await writeFlushed(temporary, pieces);
      await rename(temporary, place);
      if (i > 0)
        notice?.(`the shards' folder cannot be written (${reasons.join()}), so their index is ${place}`);
      return place;
    } catch (error) {
      await unlink(temporary).catch(() => undefined);
      reasons.push(errorCode(error) ?? String(error));
    }
  }
  notice?.(
    `the index of the records cannot be kept (${reasons.join(", ")}) and is made again at the next start`,
  );
  return null;
}

/** The file, in pieces. */
export function indexPieces(index: StoredIndex, requested: string | null): Uint8Array[] {
  const { offsets, lengths, labels, keys, shards } = index;
  const json = Buffer.from(JSON.stringify({ requested, keys, shards }));
  const padded = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, " ")]);
  const header = Buffer.alloc(HEADER_BYTES);
  header.write(MAGIC, "latin1");
  header.writeUInt32LE(VERSION, 8);
  header.writeUInt32LE(padded.length, 16);
  const pieces = [header.subarray(CRC_FROM), padded, ...[offsets, lengths, labels].map(asBytes)];
  header.writeUInt32LE(
    pieces.reduce((crc, piece) => crc32c(piece, crc), 0),
    12,
  );
  return [header.subarray(0, CRC_FROM), ...pieces];
}

function asBytes({ buffer, byteOffset, byteLength }: Float64Array | Uint32Array | Int32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** In the user's cache, under a name that follows the folder's real path. */
async function cachePath(folder: string, indexName: string): Promise<string> {
  const given = process.env["XDG_CACHE_HOME"] ?? "";
  const base = isAbsolute(given) ? given : join(homedir(), ".cache");
  const hash = createHash("sha256")
    .update(join(await realpath(folder), indexName))
    .digest("hex");
  return join(base, "riffle", `records-${hash.slice(0, 32)}.riffle-index`);
}

/** One by one: the recursive form of Node 20 may never return (see core/durable.ts). */
async function makeFolders(folder: string): Promise<void> {
  for (const path of [dirname(folder), folder]) {
    await mkdir(path).catch((error: unknown) => {
      if (errorCode(error) !== "EEXIST") throw error;
    });
  }
}
