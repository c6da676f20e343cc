/**
 * Pictures, labels and boxes into TFRecord shards, as the original's create_tfrecords.py writes them: shuffled rows,
 * ceil(rows / shards) records to a shard. A picture that is left out makes the last shard shorter, as there.
 *
 * Every shard is written under another name, flushed and renamed, so whatever ends the process, a shard under its
 * name is whole, and the same command writes the missing ones to the bytes they would have had. Nothing is deleted.
 *
 * Rows are numbered in the shuffled order unless said otherwise; sizes are in bytes.
 *
 * Source: create_tfrecords.py of TropComplique/shufflenet-v2-tensorflow @ 22e5615; its shuffle is numpy's, ours is
 * Philox's (core/random.ts), so the shards hold the same records in another order.
 */

import { createHash } from "node:crypto";
import { statfs } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";

import { stringify } from "csv-stringify/sync";

import { asResourceError, replaceFile, WholeFile } from "../../core/durable.js";
import { DataError, ResourceError } from "../../core/error.js";
import { permutation } from "../../core/random.js";
import { crc32c, hex32 } from "../../formats/crc32c.js";
import { openRegular } from "../../formats/read-file.js";
import { byName } from "../../core/name-forms.js";
import { readBoxes } from "../imagenet/boxes.js";
import { readMetadata } from "../imagenet/metadata.js";
import { MANIFEST_FILE, PLAN_FORMAT, writeManifest } from "../../data/records/record-manifest.js";
import type { PictureRow, RecordFormats } from "./build-record.js";
import { readLabels } from "./labels.js";
import { RecordBuilders } from "./record-builders.js";
import { type FinishedShard, RecordFolder, type RecordPlan, shardName, SKIPPED_FILE } from "./record-plan.js";
import { type NamesOf, refuseUnknown } from "../../core/nearest-name.js";

export interface CreateSettings {
  /** CSV with the columns path and wordnet_id; just_name, or else the file's name, is the key of the boxes. */
  readonly metadata: string;
  /** JSON: WordNet id to label. */
  readonly labels: string;
  /** A pickled dict of boxes; without it the records have no keys for boxes. */
  readonly boxes?: string | undefined;
  readonly output: string;
  readonly shards: number;
  readonly seed: number;
  /** Decode every picture, and leave out what does not. */
  readonly verify: boolean;
  /** Which pictures become records; {@link usualFormats}. */
  readonly formats?: RecordFormats | undefined;
  /** Threads that read and build; the bytes do not depend on it. */
  readonly jobs?: number | undefined;
}

const createSettings: NamesOf<CreateSettings> = {
  metadata: true,
  labels: true,
  boxes: true,
  output: true,
  shards: true,
  seed: true,
  verify: true,
  formats: true,
  jobs: true,
};

interface CreateHooks {
  /** Called about ten times a second. */
  readonly progress?: (progress: CreateProgress) => void;
  /** Something that is kept but that the user should know. */
  readonly note?: (line: string) => void;
  /** Aborted: stop after the shard being written. */
  readonly signal?: AbortSignal;
}

interface CreateProgress {
  readonly phase: "measuring" | "writing";
  /** Rows, those of finished shards included. */
  readonly done: number;
  readonly total: number;
  /** Rows a second in this call; 0 before the first. */
  readonly rate: number;
}

export interface CreateResult {
  /** Stopped on request before the last shard. */
  readonly stopped: boolean;
  readonly output: string;
  readonly rows: number;
  readonly records: number;
  readonly shards: number;
  /** Of them, those found finished at the start. */
  readonly foundShards: number;
  readonly bytes: number;
  readonly reencoded: number;
  /** In the order of the metadata. */
  readonly skipped: readonly SkippedRow[];
  /** Rows written by this call, and in how many seconds. */
  readonly written: number;
  readonly seconds: number;
}

interface SkippedRow {
  readonly path: string;
  readonly reason: string;
}

/**
 * Writes what is missing of the shards, then skipped.csv, then the manifest.
 *
 * @throws DataError when a file, a label or a picture cannot be read; UsageError, ResourceError when the output is
 * not ours to write or the disk is full. Finished shards stay.
 */
export async function createRecords(
  settings: CreateSettings,
  hooks: CreateHooks = {},
): Promise<CreateResult> {
  refuseUnknown(settings, createSettings, "createRecords");
  const source = await readSource(settings, hooks);
  const plan = await planOf(settings, source);
  const folder = await RecordFolder.open(settings.output, plan, hooks.note ?? (() => {}));
  const builders = new RecordBuilders(settings.jobs ?? availableParallelism(), {
    verify: settings.verify,
    formats: source.formats,
  });
  try {
    return await new Creation(settings, plan, source, folder, builders, hooks).run();
  } catch (error) {
    throw asResourceError(error, settings.output, {
      safe: `Finished shards are whole; there is no ${MANIFEST_FILE} yet`,
      hint: "Free space or check the folder's permissions, then run the same command again: it goes on",
    });
  } finally {
    await builders.close();
    await folder.close();
  }
}

/** What the rows of the metadata become, in its order. */
interface Source {
  readonly rows: readonly PictureRow[];
  /** By label; null where labels are not 0 .. n-1. */
  readonly classes: string[] | null;
  /** Names of the classes by label, whatever the labels are. */
  readonly names: ReadonlyMap<number, string>;
  readonly formats: RecordFormats;
}

class Creation {
  readonly #order: Uint32Array;
  readonly #started = performance.now();
  readonly #foundShards: number;
  #rowsWritten = 0;
  /** When progress was last reported. */
  #reported = -Infinity;
  /** Settles when the shards handed over so far have their names. */
  #finishing: Promise<void> = Promise.resolve();

  constructor(
    private readonly settings: CreateSettings,
    private readonly plan: RecordPlan,
    private readonly source: Source,
    private readonly folder: RecordFolder,
    private readonly builders: RecordBuilders,
    private readonly hooks: CreateHooks,
  ) {
    this.#order = permutation(plan.rows, settings.seed, 0);
    this.#foundShards = folder.finished.length;
  }

  async run(): Promise<CreateResult> {
    const lost: FinishedShard[] = [];
    for (const shard of this.folder.finished) if (!(await this.folder.holds(shard))) lost.push(shard);
    const foundShards = this.#foundShards - lost.length;
    await this.#refuseFullDisk(lost);

    let stopped = false;
    for (const { shard, rows } of lost) {
      stopped = stopped || (await this.#writeRows(rows[0], rows[1], shard, Infinity)) || this.#stopAsked();
    }
    const last = this.folder.finished.at(-1);
    const firstRow = last?.rows[1] ?? 0;
    if (!stopped && firstRow < this.plan.rows) {
      const shard = this.folder.finished.length;
      stopped = await this.#writeRows(firstRow, this.plan.rows, shard, this.plan.records_per_shard);
    }
    if (!stopped) await this.#writeSummary();
    return { stopped, foundShards, ...this.#totals() };
  }

  /**
   * The rows [first, end) into shards from `shard` on; true when it was stopped in between.
   *
   * A shard ends where the next record begins, so rows that were left out belong to the shard before them.
   */
  async #writeRows(first: number, end: number, shard: number, recordsPerShard: number): Promise<boolean> {
    let writer = await ShardWriter.open(this.folder, shard, first);
    try {
      for await (const { first: start, portion } of this.builders.build(end, this.#rowAt, first)) {
        const skipped = new Map(portion.skipped);
        const reencoded = new Set(portion.reencoded);
        let at = 0;
        for (let i = 0; i < portion.lengths.length;) {
          if (writer.records === recordsPerShard && portion.lengths[i] !== 0) {
            await this.#handOver(writer, start + i);
            if (this.#stopAsked()) {
              await this.#finishing;
              return true;
            }
            writer = await ShardWriter.open(this.folder, writer.shard + 1, start + i);
          }
          // As many rows as the shard still takes, in one write.
          let bytes = 0;
          for (; i < portion.lengths.length; i++) {
            const length = portion.lengths[i] as number;
            if (length === 0) writer.skipped.push([start + i, skipped.get(i) ?? ""]);
            else if (writer.records === recordsPerShard) break;
            else {
              writer.records++;
              if (reencoded.has(i)) writer.reencoded++;
            }
            bytes += length;
          }
          await writer.write(portion.records.subarray(at, at + bytes));
          at += bytes;
        }
        this.#rowsWritten += portion.lengths.length;
        this.#report("writing", start + portion.lengths.length, this.plan.rows);
      }
      if (writer.records === 0) throw nothingUsable(writer.skipped, this.#rowAt, this.settings.metadata);
      await this.#handOver(writer, end);
      await this.#finishing;
      return false;
    } catch (error) {
      await this.#finishing.catch(() => {});
      await writer.discard();
      throw error;
    }
  }

  /** Lets a shard reach the disk while the next one is being written; at most one does so at a time. */
  async #handOver(writer: ShardWriter, endRow: number): Promise<void> {
    await this.#finishing;
    this.#finishing = writer.finish(this.folder, endRow);
    // Reported where it is awaited: before the next shard ends.
    this.#finishing.catch(() => {});
  }

  readonly #rowAt = (row: number): PictureRow => this.source.rows[this.#order[row] as number] as PictureRow;

  /** @throws DataError for a class whose pictures were all left out: training would be shown none of it. */
  #refuseVanished(skipped: CreateResult["skipped"]): void {
    const left = new Map<number, number>();
    for (const { label } of this.source.rows) left.set(label, (left.get(label) ?? 0) + 1);
    const labelOf = new Map(this.source.rows.map(({ path, label }) => [path, label]));
    const first = new Map<number, SkippedRow>();
    for (const row of skipped) {
      const label = labelOf.get(row.path) as number;
      left.set(label, (left.get(label) as number) - 1);
      if (!first.has(label)) first.set(label, row);
    }
    const vanished = [...left].flatMap(([label, count]) => (count === 0 ? [label] : []));
    const [label] = vanished;
    if (label === undefined) return;
    const { path, reason } = first.get(label) as SkippedRow;
    const more = vanished.length > 1 ? `, and ${vanished.length - 1} more classes` : "";
    const isFormat = reason.endsWith("not a JPEG");
    throw DataError.at(
      path,
      `no picture of the class ${JSON.stringify(this.source.names.get(label))} can be used${more}`,
      {
        expected: "a record of every class",
        found: reason,
        safe: `The shards are whole; there is no ${MANIFEST_FILE}`,
        hint: isFormat
          ? "Keep other formats than JPEG: the same command with --formats all, and another --output"
          : "Replace its pictures, or leave the class out of the metadata and the labels, and name another --output",
      },
    );
  }

  async #writeSummary(): Promise<void> {
    const { skipped, records } = this.#totals();
    this.#refuseVanished(skipped);
    const table = stringify([...skipped], { header: true, columns: ["path", "reason"] });
    await replaceFile(join(this.folder.path, SKIPPED_FILE), [Buffer.from(table)]);
    await writeManifest(this.settings.output, {
      format: "riffle-records-1",
      records,
      classes: this.source.classes,
      shards: this.folder.finished.map((shard) => ({
        name: shardName(shard.shard),
        records: shard.records,
        bytes: shard.bytes,
        crc32c: shard.crc32c,
      })),
    });
  }

  #totals(): Omit<CreateResult, "stopped" | "foundShards"> {
    const { finished } = this.folder;
    const sum = (of: (shard: FinishedShard) => number): number =>
      finished.reduce((total, shard) => total + of(shard), 0);
    const skipped = finished
      .flatMap((shard) => shard.skipped)
      .map(([row, reason]) => ({ row: this.#order[row] as number, reason }))
      .sort((a, b) => a.row - b.row)
      .map(({ row, reason }) => ({ path: this.source.rows[row]?.path ?? "", reason }));
    return {
      output: this.settings.output,
      rows: this.plan.rows,
      records: sum((shard) => shard.records),
      shards: finished.length,
      bytes: sum((shard) => shard.bytes),
      reencoded: sum((shard) => shard.reencoded),
      skipped,
      written: this.#rowsWritten,
      seconds: this.#seconds(),
    };
  }

  /** The need is known from the files' sizes, so a disk too small is found before hours have gone. */
  async #refuseFullDisk(lost: readonly FinishedShard[]): Promise<void> {
    const start = this.folder.finished.at(-1)?.rows[1] ?? 0;
    const ranges = [...lost.map(({ rows }) => rows), [start, this.plan.rows] as const];
    const paths = ranges.flatMap(([first, end]) =>
      Array.from({ length: end - first }, (_, i) => this.#rowAt(first + i).path),
    );
    const measured = await this.builders.measure(paths, (done) =>
      this.#report("measuring", done, paths.length),
    );
    const needed = Math.ceil((measured + paths.length * RECORD_FRAME) * 1.02);
    const { bavail, bsize } = await statfs(this.settings.output);
    const free = bavail * bsize;
    if (free >= needed) return;
    throw new ResourceError({
      where: this.settings.output,
      what: "too little room on the disk for the shards",
      expected: `${needed} bytes free`,
      found: `${free}`,
      safe: "No shard was begun",
      hint: "Free space, or name a folder on another disk with --output",
    });
  }

  #stopAsked(): boolean {
    return this.hooks.signal?.aborted === true;
  }

  #seconds(): number {
    return (performance.now() - this.#started) / 1000;
  }

  #report(phase: CreateProgress["phase"], done: number, total: number): void {
    const now = performance.now();
    if (done < total && now < this.#reported + REPORT_MS) return;
    this.#reported = now;
    this.hooks.progress?.({ phase, done, total, rate: this.#rowsWritten / this.#seconds() });
  }
}

/** Milliseconds between two reports of progress. */
const REPORT_MS = 100;

/** Bytes that framing, keys, label and a box or two add to a picture; measured 110 to 200. */
const RECORD_FRAME = 256;

/** A shard while it is written. */
class ShardWriter {
  records = 0;
  reencoded = 0;
  readonly skipped: [row: number, reason: string][] = [];
  #crc = 0;

  private constructor(
    readonly shard: number,
    private readonly firstRow: number,
    private readonly file: WholeFile,
  ) {}

  static async open(folder: RecordFolder, shard: number, firstRow: number): Promise<ShardWriter> {
    return new ShardWriter(shard, firstRow, await WholeFile.begin(join(folder.path, shardName(shard))));
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#crc = crc32c(bytes, this.#crc);
    await this.file.write(bytes);
  }

  /** Brings it to the disk and gives it its name. */
  async finish(folder: RecordFolder, endRow: number): Promise<void> {
    const { shard, records, reencoded, skipped } = this;
    const rows: FinishedShard["rows"] = [this.firstRow, endRow];
    try {
      await this.file.flush();
      const crc32c = hex32(this.#crc);
      await folder.finish(
        { shard, rows, records, bytes: this.file.bytes, crc32c, reencoded, skipped },
        this.file,
      );
    } catch (error) {
      await this.discard();
      throw error;
    }
  }

  discard(): Promise<void> {
    return this.file.discard();
  }
}

async function planOf(
  settings: CreateSettings,
  { rows: { length: rows }, formats }: Source,
): Promise<RecordPlan> {
  return {
    format: PLAN_FORMAT,
    rows,
    shards: settings.shards,
    records_per_shard: Math.ceil(rows / settings.shards),
    seed: settings.seed,
    verify: settings.verify,
    metadata_sha256: await fileHash(settings.metadata),
    labels_sha256: await fileHash(settings.labels),
    boxes_sha256: settings.boxes === undefined ? null : await fileHash(settings.boxes),
    // Absent in what earlier versions began, which left other formats out.
    ...(formats === "all" ? { formats } : {}),
  };
}

async function fileHash(path: string): Promise<string> {
  const hash = createHash("sha256");
  const { file } = await openRegular(path);
  for await (const piece of file.createReadStream({ highWaterMark: 2 ** 20 })) hash.update(piece as Buffer);
  return hash.digest("hex");
}

/** Labels and boxes to every row, so that a class without a label is found before anything is written. */
async function readSource(settings: CreateSettings, { note }: CreateHooks): Promise<Source> {
  const labels = await readLabels(settings.labels);
  const boxes = settings.boxes === undefined ? undefined : await readBoxes(settings.boxes);
  const metadata = await readMetadata(settings.metadata);
  const labelOf = byName(labels);
  const boxesOf = byName(boxes ?? []);
  const seen = new Map<string, number>();
  let repeated = 0;
  const rows = metadata.map(({ path, wordnetId, justName }): PictureRow => {
    const label = labelOf(wordnetId);
    if (label === undefined) {
      throw DataError.at(settings.labels, `no label for the class ${JSON.stringify(wordnetId)}`, {
        expected: `a label for every wordnet_id in ${settings.metadata}, such as that of ${path}`,
        found: `${labels.size} classes`,
        safe: "Nothing was written",
      });
    }
    const before = seen.get(path);
    if (before !== undefined && before !== label) {
      throw DataError.at(settings.metadata, `${path} is listed twice, under two classes`, {
        expected: "one class for a picture",
        found: `labels ${before} and ${label}`,
        safe: "Nothing was written",
      });
    }
    if (before !== undefined) repeated++;
    seen.set(path, label);
    return { path, label, boxes: boxes && (boxesOf(justName) ?? noBoxes) };
  });
  if (repeated > 0)
    note?.(`${repeated} rows of ${settings.metadata} repeat a picture; each becomes a record`);
  const names = new Map([...labels].map(([name, label]) => [label, name]));
  return {
    rows,
    classes: classesOf(labels),
    names,
    formats: settings.formats ?? usualFormats([...labels.keys()]),
  };
}

/** JPEGs alone where all classes are WordNet ids, so that ImageNet's records are the published ones; else all. */
export function usualFormats(classes: readonly string[]): RecordFormats {
  return classes.every((name) => /^n\d{8}$/.test(name)) ? "jpeg" : "all";
}

const noBoxes = new Float32Array(0);

/** Names by label, where every label from 0 has exactly one. */
function classesOf(labels: ReadonlyMap<string, number>): string[] | null {
  const classes = [...labels].sort(([, a], [, b]) => a - b);
  return classes.every(([, label], i) => label === i) ? classes.map(([name]) => name) : null;
}

function nothingUsable(
  skipped: readonly (readonly [number, string])[],
  rowAt: (row: number) => PictureRow,
  metadata: string,
): DataError {
  const [first] = skipped;
  return DataError.at(metadata, `none of its ${skipped.length} pictures can be used`, {
    found: first && `${rowAt(first[0]).path}: ${first[1]}`,
    safe: "No shard was written",
  });
}
