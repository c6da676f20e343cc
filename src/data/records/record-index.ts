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
import { open, realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import { z } from "zod";

import { makeFolder, replaceFile } from "../../core/durable.js";
import { DataError, errorCode, ResourceError } from "../../core/error.js";
import { userCache } from "../../core/user-cache.js";
import { crc32c } from "../../formats/crc32c.js";
import { readFully } from "../../formats/read-file.js";
import { RECORD_OVERHEAD } from "../../formats/tfrecord.js";
import { type Split, splitOfShard } from "../split-names.js";
import type { RequestedKeys } from "./record-keys.js";
import {
  compareWithManifest,
  isUnfinished,
  listShards,
  MANIFEST_FILE,
  PLAN_FILE,
  readManifest,
  type RecordManifest,
} from "./record-manifest.js";
import {
  BadRecordLimit,
  type ShardFile,
  type IndexOptions,
  recordsIn,
  type ScannedRecords,
  scanShards,
} from "./record-scan.js";

export interface RecordIndex extends ScannedRecords {
  readonly folder: string;
  /** The file that keeps the index; null where none could be written. */
  readonly file: string | null;
  readonly manifest: RecordManifest | undefined;
}

/**
 * The index of a folder of shards, or of one shard.
 *
 * @throws DataError when there are no records, more bad ones than are to be skipped, or shards other than in the
 * manifest.
 */
export async function openRecordIndex(path: string, options: IndexOptions): Promise<RecordIndex> {
  const { folder, names, indexName, isFolder } = await locate(path, options.only);
  const manifest = isFolder ? await readManifest(folder, options.only) : undefined;
  if (isFolder && (await isUnfinished(folder))) {
    throw DataError.at(folder, `unfinished: there is ${PLAN_FILE} but no ${MANIFEST_FILE}`, {
      safe: "The shards that are there are whole",
      hint: "Run the same npx riffle-vision create-tfrecords again; it writes the missing ones",
    });
  }
  const found = await Promise.all(names.map((name) => statShard(folder, name)));
  refuseDifferent(manifest, found, folder);
  if (names.length === 0) {
    const expected = "files named *.tfrecords, *.tfrecord, *.tfrec, *.record or *-00000-of-00010";
    throw DataError.at(path, "holds no shards of TFRecords", { expected });
  }
  const requested = requestText(options.keys);
  const inCache = await cachePath(folder, indexName);
  const places = [join(folder, indexName), ...(inCache === undefined ? [] : [inCache])];
  let index: ScannedRecords | undefined;
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
    index = await scanShards(folder, found, manifest, options);
    file = await save(index, requested, places, options.onNotice);
  }
  const limit = new BadRecordLimit(folder, options.skipBadRecords ?? 0);
  for (const shard of index.shards) limit.add(shard.name, shard.bad);
  const counted = index.shards.map((shard) => ({ ...shard, records: recordsIn(shard) }));
  refuseDifferent(manifest, counted, folder);
  if (index.offsets.length === 0) throw DataError.at(path, "holds no records");
  return { folder, file, manifest, ...index };
}

const INDEX_FILE = ".riffle-index";

async function locate(path: string, only: Split | undefined) {
  let isFile: boolean;
  try {
    isFile = (await stat(path)).isFile();
  } catch (error) {
    throw DataError.at(path, "there is no such file or folder", {}, error);
  }
  if (isFile)
    return {
      folder: dirname(path),
      names: [basename(path)],
      indexName: `.${basename(path)}.riffle-index`,
      isFolder: false,
    };
  const names = (await listShards(path)).filter((name) => only === undefined || splitOfShard(name) === only);
  return {
    folder: path,
    names,
    indexName: only === undefined ? INDEX_FILE : `.${only}.riffle-index`,
    isFolder: true,
  };
}

async function statShard(folder: string, name: string): Promise<ShardFile> {
  try {
    const { size, mtimeNs } = await stat(join(folder, name), { bigint: true });
    return { name, bytes: Number(size), modified: mtimeNs.toString() };
  } catch (error) {
    throw DataError.at(join(folder, name), "cannot be read (a broken link?)", {}, error);
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
  found: readonly ShardFile[],
  requested: string | null,
): Promise<ScannedRecords | string | undefined> {
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
function parse(bytes: Uint8Array): (ScannedRecords & { readonly requested: string | null }) | string {
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
function liesWithin({ shards, offsets, lengths }: ScannedRecords): boolean {
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
function difference(before: readonly ShardFile[], now: readonly ShardFile[]): string | undefined {
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
  index: ScannedRecords,
  requested: string | null,
  places: readonly string[],
  notice: IndexOptions["onNotice"],
): Promise<string | null> {
  const pieces = indexPieces(index, requested);
  const reasons: string[] = [];
  for (const [i, place] of places.entries()) {
    try {
      if (i > 0) await makeFolder(dirname(place));
      await replaceFile(place, pieces);
      if (i > 0)
        notice?.(`the shards' folder cannot be written (${reasons.join()}), so their index is ${place}`);
      return place;
    } catch (error) {
      reasons.push(errorCode(error instanceof ResourceError ? error.cause : error) ?? String(error));
    }
  }
  notice?.(
    `the index of the records cannot be kept (${reasons.join(", ")}) and is made again at the next start`,
  );
  return null;
}

/** The file, in pieces. */
export function indexPieces(index: ScannedRecords, requested: string | null): Uint8Array[] {
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
async function cachePath(folder: string, indexName: string): Promise<string | undefined> {
  const cache = userCache();
  if (cache === undefined) return undefined;
  const hash = createHash("sha256")
    .update(join(await realpath(folder), indexName))
    .digest("hex");
  return join(cache, `records-${hash.slice(0, 32)}.riffle-index`);
}
