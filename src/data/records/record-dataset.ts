/**
 * A data set in TFRecord shards: any sample is one read by its place, its CRCs checked, its Example taken apart.
 *
 * What is read serves as it is: the picture's bytes are a view of the record. Sample numbers follow the shards' names
 * and the records in them. A sample is called `shard-0003.tfrecords#17`: record 17 of that shard, from 0.
 *
 * Offsets are in bytes; boxes are shares of the picture.
 */

import { createHash } from "node:crypto";
import { fstat, read } from "node:fs";
import { basename, join } from "node:path";
import { promisify } from "node:util";

import { addonOrUndefined } from "../../core/addon.js";
import { DataError, RiffleError, UsageError } from "../../core/error.js";
import { decodeExample } from "../../formats/tf-example.js";
import { payloadOf, RECORD_OVERHEAD, unframeRecord } from "../../formats/tfrecord.js";
import { checkedSample, type Dataset, orDataError, type RecordsOrigin } from "../dataset.js";
import { imageInfo } from "../pictures/image-info.js";
import { openRecordIndex, type RecordIndex } from "./record-index.js";
import { MAX_CLASSES, readClasses } from "./record-classes.js";
import { boxesOf, pictureOf } from "./record-keys.js";
import { MANIFEST_FILE } from "./record-manifest.js";
import { type BadRecord, type IndexedShard, type IndexOptions, reasonOf } from "./record-scan.js";
import { ShardFiles } from "./shard-files.js";
import { unreadable } from "../unreadable.js";
import type { Encoded } from "../pictures/render.js";
import type { Scratch } from "../pictures/scratch.js";

export interface RecordOptions extends IndexOptions {
  /** Names by label; a validation set takes those of its training set. */
  readonly classes?: readonly string[] | undefined;
  /** The label of the first class: 1 in files of TensorFlow's slim, which keep 0 for "background". Default 0. */
  readonly labelOffset?: number | undefined;
}

/**
 * Opens a folder of shards, or one shard, making its index where there is none.
 *
 * @throws DataError when a record fails a check (beyond `skipBadRecords`), has a label that is no class, or the
 * records hold no pictures.
 */
export async function openRecords(path: string, options: RecordOptions = {}): Promise<RecordDataset> {
  const { skipBadRecords = 0, labelOffset = 0 } = options;
  for (const [name, value] of Object.entries({
    skip_bad_records: skipBadRecords,
    label_offset: labelOffset,
  })) {
    if (Number.isInteger(value) && value >= 0) continue;
    throw new UsageError({
      what: `--${name} is no count`,
      expected: "a whole number from 0",
      found: `${value}`,
    });
  }
  const index = await openRecordIndex(path, options);
  refuseOtherClasses(index, options.classes);
  const highest = index.labels.reduce((most, label) => Math.max(most, label), -(2 ** 31)) - labelOffset;
  const classes =
    options.classes ??
    index.manifest?.classes ??
    (await readClasses(index.folder)) ??
    Array.from({ length: Math.max(0, Math.min(highest + 1, MAX_CLASSES)) }, (_, label) => String(label));
  const set = new RecordDataset(index, classes, labelOffset, skipBadRecords);
  try {
    set.checkLabels();
    await set.checkPictures();
  } catch (error) {
    await set.close();
    throw error;
  }
  return set;
}

/** @throws DataError when the records were made for other classes than those of the training set. */
function refuseOtherClasses({ manifest, folder }: RecordIndex, classes: readonly string[] | undefined): void {
  const own = manifest?.classes;
  if (own == null || classes === undefined) return;
  const at = Array.from({ length: Math.max(own.length, classes.length) }).findIndex(
    (_, i) => own[i] !== classes[i],
  );
  if (at < 0) return;
  throw DataError.at(
    join(folder, MANIFEST_FILE),
    `other classes than the training set has: label ${at} means something else`,
    { expected: classes[at] ?? `${classes.length} classes`, found: own[at] ?? `${own.length} classes` },
  );
}

/** Where a sample's record is. */
interface Place {
  readonly shard: number;
  readonly path: string;
  /** Its number in the shard, damaged ones counted. */
  readonly record: number;
  readonly offset: number;
  /** Of the payload. */
  readonly length: number;
}

/** What of native/binding/decode.cc this file calls. */
interface Native {
  /** `places` holds descriptor, offset and framed size of each record; resolves to the numbers of those not whole. */
  readRecords(places: Float64Array, into: Uint8Array): Promise<number[]>;
}

function native(): Native | undefined {
  return addonOrUndefined() as Native | undefined;
}

/** More damaged records than were to be skipped; not a DataError, which a loader may pass over. Exit code 3. */
class TooManyBadRecords extends RiffleError {}

export class RecordDataset implements Dataset {
  readonly size: number;
  readonly fingerprint: string;
  readonly records: RecordsOrigin & { readonly badRecords: BadRecord[] };

  /** Sample number of each shard's first record, and the size behind the last. */
  readonly #firsts: Uint32Array;
  readonly #files: ShardFiles;
  readonly #damaged = new Set<number>();

  constructor(
    private readonly index: RecordIndex,
    readonly classes: readonly string[],
    private readonly labelOffset: number,
    private readonly skipBadRecords: number,
  ) {
    this.size = index.offsets.length;
    const badRecords = index.shards.flatMap(({ name, bad }) =>
      bad.map((record) => ({ shard: name, ...record })),
    );
    this.records = { folder: index.folder, shards: index.shards.length, index: index.file, badRecords };
    const shards = new Map(index.shards.map((shard) => [join(index.folder, shard.name), shard]));
    this.#files = new ShardFiles((path, file) => refuseChanged(shards.get(path) as IndexedShard, path, file));
    this.#firsts = new Uint32Array(index.shards.length + 1);
    index.shards.forEach(({ records }, i) => (this.#firsts[i + 1] = (this.#firsts[i] as number) + records));
    const hash = createHash("sha256").update(JSON.stringify([classes, labelOffset]));
    for (const { name, bytes, records } of index.shards) hash.update(`\n${name}\t${bytes}\t${records}`);
    for (const { buffer, byteOffset, byteLength } of [index.labels, index.lengths]) {
      hash.update(new Uint8Array(buffer, byteOffset, byteLength));
    }
    this.fingerprint = hash.digest("hex");
  }

  label(sample: number): number {
    return (this.index.labels[checkedSample(this, sample)] as number) - this.labelOffset;
  }

  name(sample: number): string {
    const { path, record } = this.#place(sample);
    return `${path}#${record}`;
  }

  key(sample: number): string {
    const { path, record } = this.#place(sample);
    return `${basename(path)}#${record}`;
  }

  bytes(sample: number): number {
    return this.index.lengths[checkedSample(this, sample)] as number;
  }

  modified(sample: number): string {
    return (this.index.shards[this.#place(sample).shard] as IndexedShard).modified;
  }

  async read(sample: number): Promise<Encoded> {
    const place = this.#place(sample);
    const { path, record, offset, length } = place;
    try {
      const framed = await this.#readAt(place, Buffer.allocUnsafeSlow(length + RECORD_OVERHEAD));
      return this.#takeApart(unframeRecord(framed, path, record, offset), place);
    } catch (error) {
      if (error instanceof DataError) this.#countDamaged(sample, error);
      throw error;
    }
  }

  /**
   * Native code reads the records and checks their CRCs. Whatever is wrong with one, in its file, its frame or its
   * Example, is left to {@link read}, which meets it again and says what it is; so are all where there is no addon.
   */
  async readAll(samples: readonly number[], scratch: Scratch): Promise<(Encoded | DataError)[]> {
    const places = samples.map((sample) => this.#place(sample));
    const payloads = await this.#readWhole(places, scratch);
    const results: (Encoded | DataError)[] = [];
    for (const [i, sample] of samples.entries()) {
      const payload = payloads[i];
      try {
        if (payload !== undefined) {
          results.push(this.#takeApart(payload, places[i] as Place));
          continue;
        }
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
      }
      results.push(await orDataError(this.read(sample)));
    }
    return results;
  }

  /** Closes the shards; a later read opens them again. */
  close(): Promise<void> {
    return this.#files.close();
  }

  /** @throws DataError for the first record whose label is no class. */
  checkLabels(): void {
    const sample = this.index.labels.findIndex(
      (_, i) => !(this.label(i) >= 0 && this.label(i) < this.classes.length),
    );
    if (sample < 0) return;
    const { path, record, offset } = this.#place(sample);
    const label = this.index.labels[sample] as number;
    const last = this.labelOffset + this.classes.length - 1;
    throw DataError.at(`${path}#${record}, byte ${offset}`, "the record's label is no class", {
      expected: `${this.labelOffset} .. ${last}`,
      found: `${label}`,
      hint:
        label === last + 1
          ? `Are the classes counted from ${this.labelOffset + 1}? --label_offset ${this.labelOffset + 1}`
          : "Are these the classes that the records were made with?",
    });
  }

  /** @throws DataError when none of the first records holds a picture: raw pixels or a path, say. */
  async checkPictures(): Promise<void> {
    let first: DataError | undefined;
    for (let sample = 0; sample < Math.min(this.size, 3); sample++) {
      try {
        const { bytes } = await this.read(sample);
        imageInfo(bytes, `${this.name(sample)}, "${this.index.keys.image}"`);
        return;
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        first ??= error;
      }
    }
    if (first !== undefined) throw first;
  }

  #place(sample: number): Place {
    checkedSample(this, sample);
    let low = 0;
    // The last shard that begins at or before the sample; empty shards begin where the next does.
    for (let high = this.#firsts.length - 1; high - low > 1;) {
      const middle = (low + high) >> 1;
      if ((this.#firsts[middle] as number) <= sample) low = middle;
      else high = middle;
    }
    const { name, bad } = this.index.shards[low] as RecordIndex["shards"][number];
    let record = sample - (this.#firsts[low] as number);
    for (const left of bad) if (left.record <= record) record++;
    return {
      shard: low,
      path: join(this.index.folder, name),
      record,
      offset: this.index.offsets[sample] as number,
      length: this.index.lengths[sample] as number,
    };
  }

  /** Payloads in `scratch`; undefined for each record that is not whole. */
  async #readWhole(places: readonly Place[], scratch: Scratch): Promise<(Uint8Array | undefined)[]> {
    const addon = native();
    if (addon === undefined) return places.map(() => undefined);
    const sizes = places.map(({ length }) => length + RECORD_OVERHEAD);
    const bytes = scratch.take(sizes.reduce((sum, size) => sum + size, 0));
    const paths = places.map(({ path }) => path);
    const read = (files: readonly number[]): Promise<number[]> =>
      addon.readRecords(
        Float64Array.from(
          places.flatMap(({ offset }, i) => [files[i] as number, offset, sizes[i] as number]),
        ),
        bytes,
      );
    const found = await orDataError(this.#files.use(paths, read));
    if (found instanceof DataError) return places.map(() => undefined);
    const damaged = new Set(found);
    let end = 0;
    return sizes.map((size, i) => {
      const framed = bytes.subarray(end, (end += size));
      return damaged.has(i) ? undefined : payloadOf(framed);
    });
  }

  #takeApart(payload: Uint8Array, { path, record, offset }: Place): Encoded {
    const where = `${path}#${record}, byte ${offset}`;
    const example = decodeExample(payload, where);
    const bytes = pictureOf(example, this.index.keys, where);
    const boxes = boxesOf(example, this.index.keys, where);
    return { kind: "encoded", bytes, boxes };
  }

  /** Fills `bytes` from the shard. */
  #readAt({ path, offset }: Place, bytes: Buffer): Promise<Uint8Array> {
    const { length } = bytes;
    return this.#files.use([path], async ([file]) => {
      for (let done = 0; done < length;) {
        const got = await readInto(file as number, bytes, done, offset + done, path);
        if (got === 0) {
          throw DataError.at(`${path}, byte ${offset + done}`, "became shorter since it was opened", {
            expected: `${offset + length} bytes`,
            found: `${offset + done}`,
          });
        }
        done += got;
      }
      return bytes;
    });
  }

  #countDamaged(sample: number, error: DataError): void {
    if (this.#damaged.has(sample)) return;
    this.#damaged.add(sample);
    const { shard, record, offset } = this.#place(sample);
    const { name } = this.index.shards[shard] as RecordIndex["shards"][number];
    this.records.badRecords.push({ shard: name, record, offset, reason: reasonOf(error), lost: 1 });
    const lost = this.records.badRecords.reduce((sum, bad) => sum + bad.lost, 0);
    if (this.skipBadRecords === 0 || lost <= this.skipBadRecords) return;
    throw new TooManyBadRecords(
      3,
      {
        ...error.problem,
        hint: `${lost} damaged records are more than --skip_bad_records ${this.skipBadRecords} allows`,
      },
      error,
    );
  }
}

const statFile = promisify(fstat) as (
  file: number,
  o: { bigint: true },
) => Promise<{ size: bigint; mtimeNs: bigint }>;

async function refuseChanged({ bytes, modified }: IndexedShard, path: string, file: number): Promise<void> {
  const found = await statFile(file, { bigint: true });
  if (Number(found.size) === bytes && found.mtimeNs.toString() === modified) return;
  throw DataError.at(path, "was changed since it was indexed, moments ago; is something writing to it?", {
    expected: `${bytes} bytes`,
    found: `${found.size}`,
  });
}

// Plain callbacks: a FileHandle's read costs the main thread several times as much.
function readInto(file: number, into: Buffer, done: number, position: number, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    read(file, into, done, into.length - done, position, (error, bytesRead) => {
      if (error === null) resolve(bytesRead);
      else reject(unreadable(`${path}, byte ${position}`, error));
    });
  });
}
