/**
 * The memory of a run that writes shards: `plan.json` says which run a folder belongs to, `shards.jsonl` which rows
 * each finished shard holds. So a run that was ended at any point is finished by running it again, to the same bytes.
 *
 * A shard's line is written before the shard gets its name. A line without its shard names the rows to write again;
 * a shard without its line is written over. Every other file in the folder is left alone, except what a kill left
 * unfinished under names of our own.
 *
 * Rows are numbered in the shuffled order, from 0; sizes are in bytes.
 */

import { type FileHandle, open, readdir, stat, unlink } from "node:fs/promises";
import { join } from "node:path";

import { z } from "zod";

import {
  exists,
  isTemporary,
  probeFolder,
  recoverFolders,
  replaceFile,
  type WholeFile,
} from "../../core/durable.js";
import { DataError, errorCode, ResourceError, UsageError } from "../../core/error.js";
import { type Lock, LOCK_FILE, tryLock } from "../../core/lock.js";
import { readWhole } from "../../formats/read-file.js";
import { MANIFEST_FILE, PLAN_FILE, PLAN_FORMAT } from "../../data/records/record-manifest.js";

export const SHARD_LOG = "shards.jsonl";
export const SKIPPED_FILE = "skipped.csv";

/** Everything that decides the bytes of the shards, but for the pictures themselves. */
export interface RecordPlan {
  readonly format: typeof PLAN_FORMAT;
  /** Rows of the metadata. */
  readonly rows: number;
  /** As asked for; fewer may be written. */
  readonly shards: number;
  readonly records_per_shard: number;
  readonly seed: number;
  /** Pictures that do not decode are left out. */
  readonly verify: boolean;
  /** Of the files, in hexadecimal. */
  readonly metadata_sha256: string;
  readonly labels_sha256: string;
  readonly boxes_sha256: string | null;
  /** Other formats than JPEG are kept; absent where they are left out. */
  readonly formats?: "all";
}

export type FinishedShard = z.infer<typeof shardSchema>;

const whole = z.int().nonnegative();

const shardSchema = z.strictObject({
  shard: whole,
  /** The first row and the one behind the last; skipped ones are among them. */
  rows: z.tuple([whole, whole]),
  records: whole,
  bytes: whole,
  /** Of the whole file, 8 hexadecimal digits. */
  crc32c: z.string().regex(/^[0-9a-f]{8}$/),
  /** Grayscale pictures made colour. */
  reencoded: whole,
  skipped: z.array(z.tuple([whole, z.string()])),
});

/** A folder that belongs to one run, held by this process. */
export class RecordFolder {
  private constructor(
    readonly path: string,
    /** By number, without gaps. */
    readonly finished: FinishedShard[],
    private readonly log: FileHandle,
    private readonly lock: Lock,
  ) {}

  /**
   * Takes the folder for this plan: a new one, an empty one, or one that the same plan has begun.
   *
   * @throws ResourceError, UsageError when it is something else, or another process writes in it.
   */
  static async open(path: string, plan: RecordPlan, note: (line: string) => void): Promise<RecordFolder> {
    const text = `${JSON.stringify(plan, undefined, 1)}\n`;
    await refuseForeign(path, text);
    await provePlace(path);
    const lock = await holdFolder(path, note);
    try {
      await clearLeftovers(path);
      // Looked at again: another process may have begun here until it had to let go.
      const begun = await refuseForeign(path, text);
      if (!begun) await replaceFile(join(path, PLAN_FILE), [Buffer.from(text)]);
      const finished = await readLog(path);
      // Written anew, so that a line torn by a kill does not stay.
      await replaceFile(join(path, SHARD_LOG), [Buffer.from(finished.map(lineOf).join(""))]);
      return new RecordFolder(path, finished, await open(join(path, SHARD_LOG), "a"), lock);
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  /** Whether the finished shard stands there with its size. */
  async holds(shard: FinishedShard): Promise<boolean> {
    try {
      return (await stat(join(this.path, shardName(shard.shard)))).size === shard.bytes;
    } catch (error) {
      if (errorCode(error) === "ENOENT") return false;
      throw error;
    }
  }

  /** Gives the file of a shard its name, and notes its rows unless they are known already. */
  async finish(shard: FinishedShard, file: WholeFile): Promise<void> {
    const known = this.finished[shard.shard];
    if (known !== undefined && known.crc32c !== shard.crc32c) {
      throw DataError.at(file.path, "the pictures of this shard are not those it was first written from", {
        expected: `CRC ${known.crc32c}`,
        found: shard.crc32c,
        safe: "No other shard was touched",
        hint: "Put the pictures back, or write all of them into another folder with --output",
      });
    }
    if (known === undefined) {
      await this.log.appendFile(lineOf(shard));
      this.finished.push(shard);
    }
    await file.commit();
  }

  /** Lets others write here. What a failed flush may cost is written again by the next run. */
  async close(): Promise<void> {
    await this.log.sync().catch(() => undefined);
    await this.log.close().catch(() => undefined);
    await this.lock.release();
  }
}

/** shard-0017.tfrecords */
export function shardName(shard: number): string {
  return `shard-${String(shard).padStart(4, "0")}.tfrecords`;
}

function lineOf(shard: FinishedShard): string {
  return `${JSON.stringify(shard)}\n`;
}

/** True when the folder holds this plan already, false when it is new or empty. */
async function refuseForeign(path: string, plan: string): Promise<boolean> {
  if (!(await exists(path))) return false;
  const safe = "It was not touched";
  if (!(await stat(path)).isDirectory()) {
    throw new ResourceError({
      where: path,
      what: "the output is a file",
      expected: "a folder, or a name for a new one",
      safe,
      hint: "Name another with --output",
    });
  }
  const held = (await readdir(path)).filter((name) => !isPassing(name));
  if (held.length === 0) return false;
  if (!held.includes(PLAN_FILE)) {
    throw new UsageError({
      where: path,
      what: "the output folder holds files of something else",
      expected: "an empty folder, a new one, or one that the same command has begun",
      found: `${held.length} files, among them ${held.sort()[0]}`,
      safe,
      hint: "Name another folder with --output, or move these files away",
    });
  }
  const found = await readText(join(path, PLAN_FILE), MAX_PLAN_BYTES);
  if (found === plan) return true;
  throw new UsageError({
    where: path,
    what: "the output folder holds shards of another run",
    ...difference(found, plan),
    safe,
    hint: "Give the settings and files that it was begun with to finish it, or name another folder with --output",
  });
}

/** The first line in which two plans differ. */
function difference(found: string, plan: string): { readonly expected?: string; readonly found?: string } {
  const [theirs, ours] = [found, plan].map((text) => text.split("\n").map((line) => line.trim()));
  const line = ours?.findIndex((text, i) => text !== theirs?.[i]) ?? -1;
  const [expected, other] = [ours, theirs].map((lines) => lines?.[line]?.replace(/,$/, "").slice(0, 100));
  return { ...(expected ? { expected } : {}), ...(other ? { found: other } : {}) };
}

/** Makes the folder, and proves that it can be written. */
async function provePlace(path: string): Promise<void> {
  try {
    await probeFolder(path);
  } catch (error) {
    if (!(error instanceof ResourceError)) throw error;
    throw new ResourceError(
      { ...error.problem, safe: "Nothing was read or written", hint: "Name another folder with --output" },
      error,
    );
  }
}

/** Names that stand here only while this or an earlier version of Riffle writes, or that a kill left. */
function isPassing(name: string): boolean {
  return name.startsWith(LOCK_FILE) || isTemporary(name) || OLD_WRITING.test(name);
}

/** What Riffle 0.1.0 wrote under until it was whole. */
const OLD_WRITING = /^\.(?:writing|probe)-\d+(?:-.+)?$/;

const MAX_PLAN_BYTES = 2 ** 16;
/** A line a shard, with its skipped rows. */
const MAX_LOG_BYTES = 2 ** 29;

async function readText(path: string, most: number): Promise<string> {
  return Buffer.from(await readWhole(path, most)).toString("utf8");
}

/** One writer at a time. */
async function holdFolder(path: string, note: (line: string) => void): Promise<Lock> {
  const lock = await tryLock(path, "writing shards");
  if ("release" in lock) {
    if (lock.warning !== undefined) note(lock.warning);
    return lock;
  }
  throw new ResourceError({
    where: path,
    what: "another process writes in this folder",
    found: lock.words,
    safe: "Nothing was changed",
    hint:
      "Wait for it, or name another folder with --output" +
      (lock.file === undefined ? "" : `; if no process writes there any more, remove ${lock.file}`),
  });
}

/** What a kill left; whoever has the lock is alone here. */
async function clearLeftovers(path: string): Promise<void> {
  const ours = new Set([PLAN_FILE, SHARD_LOG, SKIPPED_FILE, MANIFEST_FILE]);
  await recoverFolders(path, (name) => ours.has(name) || /^shard-\d{4,}\.tfrecords$/.test(name));
  for (const name of await readdir(path)) if (OLD_WRITING.test(name)) await unlink(join(path, name));
}

/** The shards in order, up to the first line that is torn or out of order. */
async function readLog(path: string): Promise<FinishedShard[]> {
  if (!(await exists(join(path, SHARD_LOG)))) return [];
  const text = await readText(join(path, SHARD_LOG), MAX_LOG_BYTES);
  const finished: FinishedShard[] = [];
  for (const line of text.split("\n")) {
    const entry = parseLine(line);
    const follows = entry?.shard === finished.length && entry.rows[0] === (finished.at(-1)?.rows[1] ?? 0);
    if (entry === undefined || !follows) break;
    finished.push(entry);
  }
  return finished;
}

function parseLine(line: string): FinishedShard | undefined {
  try {
    return shardSchema.parse(JSON.parse(line));
  } catch {
    return undefined;
  }
}
