/**
 * The memory of a run that writes shards: `plan.json` says which run a folder belongs to, `shards.jsonl` which rows
 * each finished shard holds. So a run that was ended at any point is finished by running it again, to the same bytes.
 *
 * A shard's line is written before the shard gets its name. A line without its shard names the rows to write again;
 * a shard without its line is written over. Every other file in the folder is left alone, except `.writing-PID-NAME`,
 * which are the unfinished files of a process; those of a process that is gone are removed.
 *
 * Rows are numbered in the shuffled order, from 0; sizes are in bytes.
 */

import { type FileHandle, open, readdir, readFile, rename, stat, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { z } from "zod";

import { errorCode, exists, probeFolder, writeFlushed } from "../../core/durable.js";
import { DataError, ResourceError, UsageError } from "../../core/error.js";
import { PLAN_FILE, PLAN_FORMAT } from "../../data/records/record-manifest.js";

export const SHARD_LOG = "shards.jsonl";

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
  readonly path: string;
  /** By number, without gaps. */
  readonly finished: FinishedShard[];
  readonly #log: FileHandle;

  private constructor(path: string, finished: FinishedShard[], log: FileHandle) {
    this.path = path;
    this.finished = finished;
    this.#log = log;
  }

  /**
   * Takes the folder for this plan: a new one, an empty one, or one that the same plan has begun.
   *
   * @throws ResourceError, UsageError when it is something else, or another process writes in it.
   */
  static async open(path: string, plan: RecordPlan): Promise<RecordFolder> {
    const text = `${JSON.stringify(plan, undefined, 1)}\n`;
    const begun = await refuseForeign(path, text);
    await provePlace(path);
    await holdFolder(path);
    try {
      if (!begun) await writeWhole(path, PLAN_FILE, text);
      const finished = await readLog(path);
      // Written anew, so that a line torn by a kill does not stay.
      await writeWhole(path, SHARD_LOG, finished.map(lineOf).join(""));
      return new RecordFolder(path, finished, await open(join(path, SHARD_LOG), "a"));
    } catch (error) {
      await unlink(join(path, writingName(""))).catch(() => {});
      throw error;
    }
  }

  /** Where a file is written until it is whole. */
  temporary(name: string): string {
    return join(this.path, writingName(name));
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

  /** Gives the temporary file its name, and notes its rows unless they are known already. */
  async finish(shard: FinishedShard): Promise<void> {
    const known = this.finished[shard.shard];
    if (known === undefined) {
      await this.#log.appendFile(lineOf(shard));
      this.finished.push(shard);
    } else if (known.crc32c !== shard.crc32c) {
      throw new DataError({
        where: join(this.path, shardName(shard.shard)),
        what: "the pictures of this shard are not those it was first written from",
        expected: `CRC ${known.crc32c}`,
        found: shard.crc32c,
        safe: "No other shard was touched",
        hint: "Put the pictures back, or write all of them into another folder with --output",
      });
    }
    const name = shardName(shard.shard);
    await rename(this.temporary(name), join(this.path, name));
  }

  /** Writes a further file of the run, whole or not at all. */
  async write(name: string, text: string): Promise<void> {
    await writeWhole(this.path, name, text);
  }

  /** Flushes what is left, and lets others write here. */
  async close(): Promise<void> {
    await this.#log.sync();
    await this.#log.close();
    await flushFolder(this.path);
    await unlink(this.temporary("")).catch(() => {});
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
  const held = (await readdir(path)).filter((name) => !WRITING.test(name));
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
  const found = await readFile(join(path, PLAN_FILE), "utf8");
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

/** `.writing-PID` holds the folder, `.writing-PID-NAME` becomes NAME; `.probe-PID` is core/durable.ts's, for a moment. */
const WRITING = /^\.(?:writing|probe)-(\d+)(?:-.+)?$/;

function writingName(name: string): string {
  return `.writing-${process.pid}${name === "" ? "" : `-${name}`}`;
}

/** One writer at a time. Ours is created before others are looked for, so of two neither overlooks the other. */
async function holdFolder(path: string): Promise<void> {
  const own = join(path, writingName(""));
  await writeFile(own, "");
  for (const name of await readdir(path)) {
    const [, pid] = WRITING.exec(name) ?? [];
    if (pid === undefined || (Number(pid) === process.pid && name === writingName(""))) continue;
    if (Number(pid) !== process.pid && isAlive(Number(pid))) {
      await unlink(own);
      throw new ResourceError({
        where: path,
        what: "another process writes in this folder",
        found: `process ${pid}`,
        safe: "Nothing was changed",
        hint: `Wait for it, or remove ${name} if process ${pid} is none of Riffle's`,
      });
    }
    await unlink(join(path, name));
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it lives, under another user.
    return errorCode(error) === "EPERM";
  }
}

/** The shards in order, up to the first line that is torn or out of order. */
async function readLog(path: string): Promise<FinishedShard[]> {
  let text: string;
  try {
    text = await readFile(join(path, SHARD_LOG), "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return [];
    throw error;
  }
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

async function writeWhole(path: string, name: string, text: string): Promise<void> {
  const temporary = join(path, writingName(name));
  await writeFlushed(temporary, [Buffer.from(text)]);
  await rename(temporary, join(path, name));
}

async function flushFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
