/**
 * Reads every record of a set of shards once, with every check, and tells where each lies and its label.
 *
 * A record that fails a check is left out, up to the number that may be; which is reported first does not depend on
 * timing. Offsets and lengths are in bytes.
 */

import { join } from "node:path";

import { DataError, describe } from "../../core/error.js";
import { hex32 } from "../../formats/crc32c.js";
import { decodeExample } from "../../formats/tf-example.js";
import { RECORD_OVERHEAD, RecordReader } from "../../formats/tfrecord.js";
import { detectKeys, labelOf, pictureOf, type RecordKeys, type RequestedKeys } from "./record-keys.js";
import type { Split } from "../split-names.js";
import { unreadable } from "../unreadable.js";
import { MANIFEST_FILE, type RecordManifest, type ShardEntry } from "./record-manifest.js";

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

/** What is told of the good records, in the order of the shards. */
export interface ScannedRecords {
  readonly shards: readonly IndexedShard[];
  readonly keys: RecordKeys;
  /** Where the record's frame begins. */
  readonly offsets: Float64Array;
  /** Of their payloads. */
  readonly lengths: Uint32Array;
  /** As the records have them. */
  readonly labels: Int32Array;
}

export type ShardFile = Pick<IndexedShard, "name" | "bytes" | "modified">;

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
  /** Of a folder, the shards of one part by their names; those whose names say none are never among them. */
  readonly only?: Split | undefined;
  readonly keys?: RequestedKeys | undefined;
  /** Damaged records to leave out before giving up. */
  readonly skipBadRecords?: number | undefined;
  /** While the index is made: at most ten times a second, and at the end. */
  readonly onProgress?: ((progress: IndexProgress) => void) | undefined;
  /** A sentence for the user: why an index is made again, or kept elsewhere. */
  readonly onNotice?: ((text: string) => void) | undefined;
}

/** Good and bad ones, as far as they can be counted. */
export function recordsIn(shard: IndexedShard): number {
  return shard.bad.reduce((total, { lost }) => total + lost, shard.records);
}

/** Stops where more records are bad than were to be skipped. */
export class BadRecordLimit {
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
      throw DataError.at(where, reason, {
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

/** Shards read at a time, so that the disk works while CRCs are computed. */
const AHEAD = 3;

export async function scanShards(
  folder: string,
  found: readonly ShardFile[],
  manifest: RecordManifest | undefined,
  options: IndexOptions,
): Promise<ScannedRecords> {
  const keys = await firstKeys(folder, found, options);
  const limit = new BadRecordLimit(folder, options.skipBadRecords ?? 0);
  const meter = new Meter(found, options.onProgress);
  const declared = new Map(manifest?.shards.map((shard) => [shard.name, shard]));
  const stop = { requested: false };
  const running: Promise<Scanned>[] = [];
  const start = (shard: ShardFile) => {
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
  meter.report();
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

interface Scanned extends ShardFile {
  readonly bad: Omit<BadRecord, "shard">[];
  readonly offsets: number[];
  readonly lengths: number[];
  readonly labels: number[];
}

async function scanShard(
  folder: string,
  shard: ShardFile,
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
  throw DataError.at(path, `other records than ${MANIFEST_FILE} was written for`, {
    expected: `CRC ${declared.crc32c}`,
    found: hex32(crc),
    hint: `Fetch or make it again; without ${MANIFEST_FILE} the shards are read as they are`,
  });
}

/** The keys that the first whole Example shows. */
async function firstKeys(
  folder: string,
  found: readonly ShardFile[],
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
  throw DataError.at(folder, "holds no whole record", { found: first?.message });
}

function openShard(path: string): Promise<RecordReader> {
  return RecordReader.open(path).catch((error: unknown) => {
    throw unreadable(path, error);
  });
}

/** The problem without its place. */
export function reasonOf({ problem }: DataError): string {
  const { what, expected, found } = problem;
  return describe({ what, expected, found });
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
    private readonly shards: readonly ShardFile[],
    private readonly tell: IndexOptions["onProgress"],
  ) {
    this.#totalBytes = shards.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  add(shard: string, bytes: number): void {
    this.#shard = shard;
    this.#records++;
    this.#bytes += bytes;
    if (performance.now() - this.#told >= 100) this.report();
  }

  shardDone(): void {
    this.#shardsDone++;
  }

  report(): void {
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
