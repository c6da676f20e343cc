/**
 * `manifest.json`: what a folder of TFRecord shards holds, written last, so that a missing, extra or shortened shard
 * is noticed. A shard cut between two records is whole by every check of its own; only the counts here tell.
 *
 * Sizes are in bytes.
 */

import { open, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";

import { z } from "zod";

import { replaceFile } from "../../core/durable.js";
import { DataError, errorCode } from "../../core/error.js";
import { plainText } from "../../formats/plain-text.js";
import { byCodePoint } from "../picture-folder.js";
import { type Split, splitOfShard } from "../split-names.js";
import { unreadable } from "../unreadable.js";

export const MANIFEST_FILE = "manifest.json";

/** What `riffle create-tfrecords` begins with; without a manifest beside it the folder is unfinished. */
export const PLAN_FILE = "plan.json";

const MANIFEST_FORMAT = "riffle-records-1";
export const PLAN_FORMAT = "riffle-records-plan-1";

export type RecordManifest = z.infer<typeof schema>;
export type ShardEntry = RecordManifest["shards"][number];

/** Names of shards: ours, and those of TensorFlow's tools. */
export function isShardName(name: string): boolean {
  return /^[^.].*(\.tfrecords?|\.tfrec|\.record|-[0-9]{5}-of-[0-9]{5})$/i.test(name);
}

/**
 * The shards in a folder, by code point; empty where there are none.
 *
 * @throws DataError when it cannot be listed, or holds a shard only in compressed form.
 */
export async function listShards(folder: string): Promise<string[]> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    throw unreadable(folder, error);
  }
  const shards = names.filter(isShardName);
  const packed = names.find((name) => {
    const [, shard = ""] = /^(.+)\.gz$/i.exec(name) ?? [];
    return isShardName(shard) && !shards.includes(shard);
  });
  if (packed !== undefined) {
    const path = join(folder, packed);
    throw DataError.at(path, "compressed with gzip, so records cannot be read by their place", {
      hint: `gunzip --keep ${path}`,
    });
  }
  return shards.sort(byCodePoint);
}

/** Whether shards are, or by what stands beside them should be, in a folder. */
export async function holdsRecords(folder: string): Promise<boolean> {
  return (
    (await listShards(folder)).length > 0 ||
    (await isOfFormat(join(folder, MANIFEST_FILE), MANIFEST_FORMAT)) ||
    (await isUnfinished(folder))
  );
}

/** Whether the folder's shards are still being written, or were when a kill came. */
export async function isUnfinished(folder: string): Promise<boolean> {
  return (
    (await isOfFormat(join(folder, PLAN_FILE), PLAN_FORMAT)) && (await readManifest(folder)) === undefined
  );
}

/** Whether a file begins as ours of that format do; false where there is none. */
async function isOfFormat(path: string, format: string): Promise<boolean> {
  try {
    if (!(await stat(path)).isFile()) return false;
    const file = await open(path);
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(64), 0, 64, 0);
      return buffer.toString("latin1", 0, bytesRead).includes(`"format": "${format}"`);
    } finally {
      await file.close();
    }
  } catch {
    return false;
  }
}

/** Undefined where the folder has none: other writers leave no manifest. Of one part, what it says of its shards. */
export async function readManifest(folder: string, only?: Split): Promise<RecordManifest | undefined> {
  const path = join(folder, MANIFEST_FILE);
  let text: string;
  try {
    const found = await stat(path);
    const { size } = found;
    if (!found.isFile()) throw DataError.at(path, "not a regular file");
    if (size > MAX_BYTES) {
      const numbers = { expected: `at most ${MAX_BYTES} bytes`, found: `${size}` };
      throw DataError.at(path, "too long for a manifest of records", numbers);
    }
    const plain = plainText(await readFile(path));
    if (plain === undefined) throw DataError.at(path, "holds bytes that are no UTF-8 text");
    text = plain;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw unreadable(path, error);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw DataError.at(path, "is no JSON; is it complete?", {}, error);
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const at = issue?.path.length ? ` at ${issue.path.join(".")}` : "";
    throw DataError.at(path, `is no manifest of records${at}: ${issue?.message}`, {
      hint: `A manifest.json of something else may be renamed; the records are read without one`,
    });
  }
  const sum = parsed.data.shards.reduce((total, { records }) => total + records, 0);
  if (sum !== parsed.data.records) {
    const numbers = { expected: `${parsed.data.records} records`, found: `${sum}` };
    throw DataError.at(path, "its shards do not add up to its records", numbers);
  }
  if (only === undefined) return parsed.data;
  const shards = parsed.data.shards.filter(({ name }) => splitOfShard(name) === only);
  return { ...parsed.data, shards, records: shards.reduce((total, { records }) => total + records, 0) };
}

/** Writes the manifest under its final name once it is whole on the disk. */
export async function writeManifest(folder: string, manifest: RecordManifest): Promise<void> {
  const text = `${JSON.stringify(schema.parse(manifest), undefined, 1)}\n`;
  await replaceFile(join(folder, MANIFEST_FILE), [Buffer.from(text)]);
}

/** A shard as found on the disk; `records` where they were counted. */
export interface FoundShard {
  readonly name: string;
  readonly bytes: number;
  readonly records?: number;
}

/** Where the folder differs from its manifest; empty when it does not. */
export function compareWithManifest(
  manifest: RecordManifest,
  found: readonly FoundShard[],
  folder: string,
): DataError[] {
  const declared = new Map(manifest.shards.map((shard) => [shard.name, shard]));
  const present = new Set(found.map(({ name }) => name));
  const problems: DataError[] = [];
  const add = (name: string, what: string, expected?: string, is?: string) =>
    problems.push(
      DataError.at(join(folder, name), what, {
        expected,
        found: is,
        hint: `Fetch or make it again; without ${MANIFEST_FILE} the shards are read as they are`,
      }),
    );
  for (const { name } of manifest.shards) {
    if (!present.has(name)) add(name, `a shard that ${MANIFEST_FILE} lists is missing`);
  }
  for (const { name, bytes, records } of found) {
    const entry = declared.get(name);
    if (entry === undefined) add(name, `an extra shard: ${MANIFEST_FILE} does not list it`);
    else if (entry.bytes !== bytes) {
      add(name, `not the size that ${MANIFEST_FILE} gives`, `${entry.bytes} bytes`, `${bytes}`);
    } else if (records !== undefined && entry.records !== records) {
      add(name, `not as many records as ${MANIFEST_FILE} gives`, `${entry.records}`, `${records}`);
    }
  }
  return problems;
}

/** 1,000 shards and 1,000 classes take 150 KB. */
const MAX_BYTES = 64 * 2 ** 20;

const count = z.int().nonnegative();

const schema = z
  .strictObject({
    format: z.literal(MANIFEST_FORMAT),
    records: count,
    /** By label; null where the writer did not know them. */
    classes: z.array(z.string().min(1).max(1024)).nullable(),
    shards: z.array(
      z.strictObject({
        name: z
          .string()
          .refine(isShardName, "no name of a shard")
          .refine((name) => !/[/\\\p{Cc}]/u.test(name), "a path"),
        records: count,
        bytes: count,
        /** Of the whole file, not masked, 8 hexadecimal digits. */
        crc32c: z.string().regex(/^[0-9a-f]{8}$/),
      }),
    ),
  })
  .refine(
    ({ shards }) => new Set(shards.map(({ name }) => name)).size === shards.length,
    "lists a shard twice",
  );
