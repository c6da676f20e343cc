/**
 * Training pictures made smaller once, so that every epoch decodes less: as records on the disk, or as pixels in
 * memory.
 *
 *     resized   a picture whose shorter side is above S is scaled down to it and stored as JPEG of quality 95; others
 *               are stored as they are, byte for byte. Shards of records with a manifest, in a folder named by S, the
 *               set's fingerprint and the times at which its files were written: files that were written anew make a
 *               new cache, even if they have the names and lengths that they had.
 *     decoded   the same pictures without the JPEG: RGB in memory.
 *
 * S is 256 pixels, or the usual evaluation's shorter side where that is larger ({@link cacheSide}). Cached pictures are
 * other pixels than the originals: a crop that covered 300 px of a 500-px photograph covers 205 of 341. So a cache is
 * part of what a run is, its fingerprint differs, and evaluation reads the originals.
 *
 * The folder is made shard by shard under temporary names; a run that was stopped goes on with the next shard. A
 * picture that cannot be read or decoded is passed on as it is, so that training meets it, names it and counts it as
 * it would without the cache. Sizes are in bytes, sides in pixels.
 */

import { createHash } from "node:crypto";
import { readdir, stat, statfs } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, dirname, join } from "node:path";
import { setTimeout } from "node:timers/promises";

import {
  type Assurance,
  exists,
  makeFolder,
  probeFolder,
  recoverFolders,
  replaceFile,
  type WholeFile,
  writeWhole,
} from "../core/durable.js";
import { DataError, errorCode, ResourceError } from "../core/error.js";
import { type Lock, LOCK_FILE, tryLock } from "../core/lock.js";
import { crc32c, hex32 } from "../formats/crc32c.js";
import { userCache } from "../core/user-cache.js";
import { readWhole } from "../formats/read-file.js";
import { encodeExample, type Feature } from "../formats/tf-example.js";
import { frameRecord, RecordReader } from "../formats/tfrecord.js";
import { evaluationSide, type ObjectBox } from "./pictures/augment.js";
import { type Dataset, orDataError, viewOf } from "./dataset.js";
import { openRecords, type RecordDataset } from "./records/record-dataset.js";
import { MANIFEST_FILE, readManifest, type ShardEntry, writeManifest } from "./records/record-manifest.js";
import type { Encoded, Pixels } from "./pictures/render.js";
import { decoded, QUALITY, smaller } from "./smaller-picture.js";

export interface CacheProgress {
  /** Pictures made so far by this process, and to make. */
  readonly done: number;
  readonly total: number;
  readonly imagesPerSecond: number;
  readonly secondsLeft: number;
}

interface CacheOptions {
  /** S, in pixels. */
  readonly shorterSide: number;
  readonly progress?: (progress: CacheProgress) => void;
  /** A sentence for the user: whom this one waits for. */
  readonly onNotice?: ((text: string) => void) | undefined;
  /** Milliseconds to wait for another process that makes the same cache and writes nothing. */
  readonly patience?: number | undefined;
  /** When it aborts, making the cache ends with its reason; the shards made so far stay. */
  readonly signal?: AbortSignal | undefined;
}

/** S for a network's input size: 256 up to 224 px, 342 for 299. */
export function cacheSide(imageSize: number): number {
  return Math.max(256, evaluationSide(imageSize));
}

/** What the cached set's fingerprint will be, without making it. */
export function cachedFingerprint(
  dataset: Dataset,
  kind: "resized" | "decoded",
  shorterSide: number,
): string {
  const rule = `${dataset.fingerprint}\n${kind} ${shorterSide} ${QUALITY} ${VERSION}`;
  return createHash("sha256").update(rule).digest("hex");
}

/**
 * The folder in which a set's resized pictures belong: in `cacheDir`, else in `.riffle-cache` beside the data, else,
 * where that cannot be written, in the user's folder for caches.
 *
 * @throws ResourceError when none can be written.
 */
export async function cacheFolder(
  dataDir: string,
  cacheDir: string | undefined,
  dataset: Dataset,
  shorterSide: number,
): Promise<string> {
  const name = `resized-${shorterSide}-v${VERSION}-${dataset.fingerprint.slice(0, 16)}-${stampOf(dataset)}`;
  if (cacheDir !== undefined) {
    await probeFolder(cacheDir, "--cache_dir");
    return join(cacheDir, name);
  }
  const beside = join(dataDir.toLowerCase().endsWith(".npz") ? dirname(dataDir) : dataDir, ".riffle-cache");
  // A whole one is used where it lies, even if nothing can be written there any more.
  if (await exists(join(beside, name, MANIFEST_FILE))) return join(beside, name);
  const ofUser = userCache();
  try {
    await probeFolder(beside, "--cache_dir");
    return join(beside, name);
  } catch (error) {
    if (!(error instanceof ResourceError) || ofUser === undefined) throw error;
  }
  await probeFolder(ofUser, "--cache_dir");
  return join(ofUser, name);
}

/** Of the times at which its files were written. */
function stampOf(dataset: Dataset): string {
  const hash = createHash("sha256");
  for (let sample = 0; sample < dataset.size; sample++) hash.update(`${dataset.modified?.(sample)}\n`);
  return hash.digest("hex").slice(0, 8);
}

/**
 * The set with its pictures from `folder`, which is made first where it is missing or unfinished. Closing it closes
 * the cache, not `dataset`.
 *
 * @throws UsageError for pixels, which are in memory already; ResourceError when the disk is too small.
 */
export async function resizedCache(
  dataset: Dataset,
  folder: string,
  options: CacheOptions,
): Promise<Dataset> {
  await makeFolder(folder).catch((cause: unknown) => {
    throw new ResourceError(
      { where: folder, what: `no folder can be made for the cache: ${String(cause)}` },
      cause,
    );
  });
  // A whole cache is only read, so it may lie where nothing can be written.
  if ((await readManifest(folder)) === undefined) await makeAlone(dataset, folder, options);
  else await claimFolder(folder, dataset, options.shorterSide);
  const records = await openCache(folder);
  if (records.size !== dataset.size) {
    throw DataError.at(folder, "the cache holds another number of pictures than the data", {
      expected: `${dataset.size}`,
      found: `${records.size}`,
      hint: "Remove this folder, and the next run makes it again",
    });
  }
  // Those that are kept as they are have their EXIF still; those made smaller have none.
  const seen = (source: Encoded): Encoded =>
    dataset.upright === true ? { ...source, upright: true } : source;
  return {
    ...viewOf(dataset, cachedFingerprint(dataset, "resized", options.shorterSide)),
    async read(sample) {
      const source = await records.read(sample);
      return isPlaceholder(source) ? dataset.read(sample) : seen(source);
    },
    bytes: (sample) => records.bytes(sample),
    async readAll(samples, scratch) {
      const sources: (Encoded | Pixels | DataError)[] = [];
      for (const [i, source] of (await records.readAll(samples, scratch)).entries()) {
        const isMissing = !(source instanceof DataError) && isPlaceholder(source);
        if (isMissing) sources.push(await orDataError(dataset.read(samples[i] as number)));
        else sources.push(source instanceof DataError ? source : seen(source));
      }
      return sources;
    },
    close: async () => records.close?.(),
  };
}

/**
 * The set with its pictures as pixels in memory.
 *
 * @throws ResourceError with the numbers when they take more than `memory` bytes.
 */
export async function decodedCache(
  dataset: Dataset,
  options: CacheOptions & { readonly memory: number },
): Promise<Dataset> {
  const { shorterSide, memory } = options;
  const refuse = (bytes: number, word: string): never => {
    throw new ResourceError({
      what: "the decoded pictures do not fit into memory",
      where: "--cache decoded",
      expected: `${word} ${megabytes(bytes)} for ${dataset.size} pictures of shorter side ${shorterSide}`,
      found: `${megabytes(memory)}`,
      safe: "Nothing was trained or written",
      hint: "--cache resized keeps them on the disk",
    });
  };
  const sizeAt = async (sample: number) => sizeOf(await decoded(dataset, sample, shorterSide));
  const estimate = dataset.size * (await trial(dataset.size, dataset.size, sizeAt));
  if (estimate > memory) refuse(estimate, "about");
  const clock = startClock(dataset.size, options);
  const pictures: (Pixels | Encoded | DataError)[] = [];
  let bytes = 0;
  await inOrder(
    dataset.size,
    (sample) => decoded(dataset, sample, shorterSide),
    (picture) => {
      options.signal?.throwIfAborted();
      pictures.push(picture);
      bytes += sizeOf(picture);
      if (bytes > memory) refuse(bytes, "more than");
      clock(pictures.length);
    },
  );
  return {
    ...viewOf(dataset, cachedFingerprint(dataset, "decoded", shorterSide)),
    read(sample) {
      const picture = pictures[sample];
      if (picture === undefined) throw new RangeError(`sample ${sample} of ${pictures.length}`);
      return picture instanceof DataError ? Promise.reject(picture) : Promise.resolve(picture);
    },
    close: () => {
      pictures.length = 0;
      return Promise.resolve();
    },
  };
}

/** Raised when the rule changes, so that an older cache is not taken for a newer. */
const VERSION = 2;

const SHARD_RECORDS = 1024;

/** What stands for a picture that could not be read; no picture is as short. */
const PLACEHOLDER = Uint8Array.of(0);

function isPlaceholder(source: Encoded | Pixels): boolean {
  return source.kind === "encoded" && source.bytes.length <= PLACEHOLDER.length;
}

/** Pictures converted to estimate what all of them take. */
const TRIAL = 32;

const RULE_FILE = "cache.json";

/** What a disk that refuses leaves, and the way on. */
const unwritten: Assurance = {
  safe: "What was made before is kept; the same command goes on from there",
  hint: "Free space on the disk, or name a folder on another with --cache_dir",
};

/** Says whose cache the folder is before anything is put there; one of another set or rule is left alone. */
async function claimFolder(folder: string, dataset: Dataset, shorterSide: number): Promise<void> {
  const path = join(folder, RULE_FILE);
  const rule = { format: "riffle-cache-1", version: VERSION, shorterSide, quality: QUALITY };
  const text = `${JSON.stringify({ ...rule, pictures: dataset.size, source: dataset.fingerprint, written: stampOf(dataset) })}\n`;
  let found: string | undefined;
  try {
    found = Buffer.from(await readWhole(path, 2 ** 16)).toString("utf8");
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
  if (found === text) return;
  const others = (await readdir(folder)).filter((name) => !name.startsWith(LOCK_FILE));
  if (found !== undefined || others.length > 0) {
    throw DataError.at(folder, "not the cache of these pictures", {
      expected: text.trim(),
      found: found === undefined ? "other files" : found.slice(0, 300).trim(),
      safe: "It was left as it is",
      hint: "Name another folder with --cache_dir, or remove this one",
    });
  }
  await replaceFile(path, [Buffer.from(text)], unwritten);
}

/** Makes what is missing while no other process does; waits for one that is at it. */
async function makeAlone(dataset: Dataset, folder: string, options: CacheOptions): Promise<void> {
  const lock = await waitForLock(folder, options);
  try {
    await recoverFolders(folder, (name) => name === RULE_FILE || name === MANIFEST_FILE || SHARD.test(name));
    await claimFolder(folder, dataset, options.shorterSide);
    await noteOutdated(folder, options);
    if ((await readManifest(folder)) === undefined) await makeRecords(dataset, folder, options);
  } finally {
    await lock.release();
  }
}

/** A cache of these very names and lengths, made when the files were others or had other times, is of no use any more. */
async function noteOutdated(folder: string, { onNotice }: CacheOptions): Promise<void> {
  const name = basename(folder);
  const ofSet = name.replace(/-[0-9a-f]{8}$/, "-");
  if (ofSet === name) return;
  for (const other of await readdir(dirname(folder))) {
    if (other === name || !other.startsWith(ofSet)) continue;
    onNotice?.(
      `the pictures were written anew since the cache ${join(dirname(folder), other)} was made, so another is made; it can be removed`,
    );
  }
}

/** @throws ResourceError when who has it has written nothing for `patience` milliseconds. */
async function waitForLock(
  folder: string,
  { onNotice, signal, patience = PATIENCE_MS }: CacheOptions,
): Promise<Lock> {
  let seen: string | undefined;
  for (let idle = 0; ; idle += POLL_MS) {
    const lock = await tryLock(folder, "making a cache");
    if ("release" in lock) {
      if (lock.warning !== undefined) onNotice?.(lock.warning);
      return lock;
    }
    if (seen === undefined) onNotice?.(`${lock.words}, has the cache ${folder}; waiting for it`);
    const now = await progressIn(folder);
    if (now !== seen) idle = 0;
    seen = now;
    if (idle >= patience) {
      throw new ResourceError({
        what: `the cache is being made by another process, which has written nothing for ${patience / 1000} seconds`,
        where: folder,
        found: lock.words,
        safe: "Nothing was written",
        hint:
          "Stop that process and run the same command again, or name another folder with --cache_dir" +
          (lock.file === undefined ? "" : `; if there is no such process any more, remove ${lock.file}`),
      });
    }
    await setTimeout(POLL_MS);
    signal?.throwIfAborted();
  }
}

/** Changes whenever the process that makes the cache has written something. */
async function progressIn(folder: string): Promise<string> {
  const seen: string[] = [];
  for (const name of (await readdir(folder)).sort()) {
    const size = await stat(join(folder, name)).then(
      (found) => found.size,
      () => 0,
    );
    seen.push(`${name} ${size}`);
  }
  return seen.join("\n");
}

const POLL_MS = 500;

/** A shard that is decoded from very large pictures on a slow disk grows every few seconds. */
const PATIENCE_MS = 10 * 60_000;

const SHARD = /^shard-\d{5}\.tfrecords$/;

/** Whatever is wrong with a cache, the pictures that it was made from are still there. */
async function openCache(folder: string): Promise<RecordDataset> {
  try {
    return await openRecords(folder);
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    throw new DataError(
      {
        ...error.problem,
        safe: "The pictures it was made from are untouched",
        hint: `Remove ${folder}, and the next run makes it again`,
      },
      error,
    );
  }
}

async function makeRecords(dataset: Dataset, folder: string, options: CacheOptions): Promise<void> {
  const starts = Array.from({ length: Math.ceil(dataset.size / SHARD_RECORDS) }, (_, i) => i * SHARD_RECORDS);
  const shards: (ShardEntry | undefined)[] = [];
  for (const start of starts) shards.push(await wholeShard(folder, start, dataset.size));
  const missing = starts.filter((_, i) => shards[i] === undefined);
  const total = missing.reduce((sum, start) => sum + shardLength(start, dataset.size), 0);
  await refuseFullDisk(dataset, folder, total, options.shorterSide);
  const clock = startClock(total, options);
  let done = 0;
  for (const start of missing) {
    shards[start / SHARD_RECORDS] = await writeShard(dataset, folder, start, options, () => clock(++done));
  }
  await writeManifest(folder, {
    format: "riffle-records-1",
    records: dataset.size,
    classes: [...dataset.classes],
    shards: shards as ShardEntry[],
  });
}

function shardName(start: number): string {
  return `shard-${String(start / SHARD_RECORDS).padStart(5, "0")}.tfrecords`;
}

function shardLength(start: number, size: number): number {
  return Math.min(SHARD_RECORDS, size - start);
}

async function writeShard(
  dataset: Dataset,
  folder: string,
  start: number,
  { shorterSide, signal }: CacheOptions,
  made: () => void,
): Promise<ShardEntry> {
  const name = shardName(start);
  const records = shardLength(start, dataset.size);
  let crc = 0;
  const fill = async (file: WholeFile): Promise<number> => {
    await inOrder(
      records,
      async (i) => recordOf(await smaller(dataset, start + i, shorterSide), dataset.label(start + i)),
      async (record) => {
        signal?.throwIfAborted();
        await file.write(record);
        crc = crc32c(record, crc);
        made();
      },
    );
    return file.bytes;
  };
  const bytes = await writeWhole(join(folder, name), fill, unwritten);
  return { name, records, bytes, crc32c: hex32(crc) };
}

/** The entry of a shard that stands there already and is whole. */
async function wholeShard(folder: string, start: number, size: number): Promise<ShardEntry | undefined> {
  const name = shardName(start);
  const path = join(folder, name);
  if (!(await exists(path))) return undefined;
  const reader = await RecordReader.open(path);
  let records = 0;
  let crc = 0;
  try {
    for await (const { payload } of reader) {
      records++;
      crc = crc32c(frameRecord(payload), crc);
    }
  } catch (error) {
    if (error instanceof DataError) return undefined; // made again
    throw error;
  } finally {
    await reader.close();
  }
  return records === shardLength(start, size)
    ? { name, records, bytes: reader.bytes, crc32c: hex32(crc) }
    : undefined;
}

async function refuseFullDisk(
  dataset: Dataset,
  folder: string,
  pictures: number,
  shorterSide: number,
): Promise<void> {
  const sizeAt = async (sample: number) =>
    ((await smaller(dataset, sample, shorterSide))?.bytes.length ?? 0) + 100;
  const needed = Math.ceil(1.1 * pictures * (await trial(dataset.size, pictures, sizeAt)));
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize >= needed) return;
  throw new ResourceError({
    what: "too little room on the disk for the cache",
    where: folder,
    expected: `about ${megabytes(needed)} free for ${pictures} pictures`,
    found: megabytes(bavail * bsize),
    safe: "Nothing was trained",
    hint: "Free space, name a folder on another disk with --cache_dir, or leave --cache out",
  });
}

function recordOf(picture: Encoded | undefined, label: number): Uint8Array {
  const side = (name: keyof ObjectBox): [string, Feature] => [
    name,
    { kind: "floats", values: Float32Array.from(picture?.boxes ?? [], (box) => box[name]) },
  ];
  return frameRecord(
    encodeExample([
      ["image", { kind: "bytes", values: [picture?.bytes ?? PLACEHOLDER] }],
      ["label", { kind: "ints", values: [BigInt(label)] }],
      ...(["xmin", "ymin", "xmax", "ymax"] as const).map(side),
    ]),
  );
}

/** Makes `count` things, a few at a time, and hands them on in order. */
async function inOrder<T>(
  count: number,
  make: (index: number) => Promise<T>,
  take: (made: T) => void | Promise<void>,
): Promise<void> {
  const atOnce = 2 * availableParallelism();
  const waiting: Promise<T>[] = [];
  try {
    for (let index = 0; index < count || waiting.length > 0;) {
      while (index < count && waiting.length < atOnce) waiting.push(make(index++));
      await take(await (waiting.shift() as Promise<T>));
    }
  } finally {
    // What is left after a failure ends unheard.
    await Promise.allSettled(waiting);
  }
}

/** The mean size of up to `most` pictures of 0 .. size - 1, evenly apart, and no more than {@link TRIAL}. */
async function trial(
  size: number,
  most: number,
  sizeAt: (sample: number) => Promise<number>,
): Promise<number> {
  const count = Math.min(size, most, TRIAL);
  const samples = Array.from({ length: count }, (_, i) => Math.floor((i * size) / count));
  const sizes = await Promise.all(samples.map(sizeAt));
  return sizes.reduce((sum, bytes) => sum + bytes, 0) / Math.max(1, count);
}

function sizeOf(picture: Pixels | Encoded | DataError): number {
  if (picture instanceof DataError) return 0;
  return picture.kind === "pixels" ? picture.data.length : picture.bytes.length;
}

/** Reports at most ten times a second. */
function startClock(total: number, { progress }: CacheOptions): (done: number) => void {
  const started = performance.now();
  let last = -Infinity;
  return (done) => {
    const now = performance.now();
    if (done < total && now - last < 100) return;
    last = now;
    const imagesPerSecond = done / Math.max((now - started) / 1000, 1e-3);
    progress?.({ done, total, imagesPerSecond, secondsLeft: (total - done) / imagesPerSecond });
  };
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6).toLocaleString("en-US")} MB`;
}
