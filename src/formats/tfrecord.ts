/**
 * TFRecord files: framing, and reading a shard from its start with every check, so that damage is named by record
 * and byte and never reaches a decoder.
 *
 *     u64 length | u32 masked CRC-32C of those 8 bytes | payload | u32 masked CRC-32C of the payload
 *
 * All little-endian. A length is believed once its CRC is right and the file has that many bytes left; only then
 * is memory taken for it. After a damaged length the next record cannot be found, so the shard ends there.
 *
 * Offsets and lengths are in bytes; records count from 0.
 *
 * Source: tensorflow/core/lib/io/record_writer.h, "Format of a single record".
 */

import { FormatError } from "../core/error.js";
import { crc32c, hex32, maskedCrc32c } from "./crc32c.js";
import { openRegular, type ReadableFile } from "./read-file.js";

/** What framing adds to a payload. */
export const RECORD_OVERHEAD = 16;

/** Longer payloads are refused: twice the largest picture file that is read. */
const MAX_RECORD_BYTES = 256 * 2 ** 20;

/** A whole record. The payload is a view that holds until the next record is asked for. */
export interface TfRecord {
  readonly record: number;
  /** Where its length field begins. */
  readonly offset: number;
  readonly payload: Uint8Array;
  readonly error?: undefined;
}

/** A record that fails a check. */
export interface DamagedRecord {
  readonly record: number;
  readonly offset: number;
  readonly error: FormatError;
  /** True where what follows cannot be found: only a payload's own CRC leaves the next record in place. */
  readonly last: boolean;
  /** True where the file is empty or of another kind, so that no record was ever in it. */
  readonly foreign: boolean;
}

/** What is read from: a FileHandle is one. */
interface RecordFile extends ReadableFile {
  close(): Promise<void>;
}

/** The record as it stands in a file. */
export function frameRecord(payload: Uint8Array): Uint8Array {
  const framed = new Uint8Array(payload.length + RECORD_OVERHEAD);
  frameRecordInto(framed, 0, [payload]);
  return framed;
}

/** Writes a record whose payload is these pieces one behind another, and gives the place behind it. */
export function frameRecordInto(out: Uint8Array, offset: number, payload: readonly Uint8Array[]): number {
  const view = new DataView(out.buffer, out.byteOffset, out.byteLength);
  const start = offset + HEADER_BYTES;
  let end = start;
  for (const piece of payload) {
    out.set(piece, end);
    end += piece.length;
  }
  view.setBigUint64(offset, BigInt(end - start), true);
  view.setUint32(offset + 8, maskedCrc32c(out.subarray(offset, offset + 8)), true);
  view.setUint32(end, maskedCrc32c(out.subarray(start, end)), true);
  return end + 4;
}

/**
 * The payload of one record read by its place: all of `framed`, which begins at `offset` in the file.
 *
 * @throws FormatError naming the check that fails.
 */
export function unframeRecord(framed: Uint8Array, path: string, record: number, offset: number): Uint8Array {
  const place = { path, record, offset };
  const length = checkHeader(framed, place, framed.length - HEADER_BYTES);
  if (length + RECORD_OVERHEAD !== framed.length) {
    const numbers = { expected: `${framed.length - RECORD_OVERHEAD}`, found: `${length}` };
    throw problem(place, 0, "its length is another than when the shard was indexed", numbers);
  }
  return checkPayload(framed, length, place);
}

/** The payload of a record whose frame has been checked. */
export function payloadOf(framed: Uint8Array): Uint8Array {
  return framed.subarray(HEADER_BYTES, framed.length - (RECORD_OVERHEAD - HEADER_BYTES));
}

/** Reads a shard from its start. Records come whole or with the reason why not; iterating throws that reason. */
export class RecordReader implements AsyncIterable<TfRecord> {
  /** Of the file, when it was opened. */
  readonly bytes: number;
  /** CRC-32C, not masked, of the records given so far, with their frames: of the file once all were whole. */
  crc = 0;

  readonly #path: string;
  readonly #file: RecordFile;
  /** The file's bytes from `#start` on, of which `#held` are read. */
  #buffer = new Uint8Array(0);
  #start = 0;
  #held = 0;
  #offset = 0;
  #record = 0;
  #ended = false;

  /** Reads `bytes` bytes of an open file, which `path` names in errors. */
  constructor(path: string, file: RecordFile, bytes: number) {
    this.#path = path;
    this.#file = file;
    this.bytes = bytes;
  }

  /** @throws FormatError when it is no regular file. */
  static async open(path: string): Promise<RecordReader> {
    const { file, size } = await openRegular(path);
    return new RecordReader(path, file, size);
  }

  /** The next record, damaged or not; undefined after the last. */
  async next(): Promise<TfRecord | DamagedRecord | undefined> {
    if (this.#ended || (this.#offset === this.bytes && this.bytes > 0)) return undefined;
    const place = { path: this.#path, record: this.#record++, offset: this.#offset };
    const { record, offset } = place;
    let length: number;
    try {
      if (this.bytes === 0) {
        throw new FormatError(this.#path, 0, "an empty file: 0 bytes, no record; was it ever written?");
      }
      const header = await this.#take(offset, Math.min(HEADER_BYTES, this.bytes - offset));
      length = checkHeader(header, place, this.bytes - offset - HEADER_BYTES);
    } catch (error) {
      this.#ended = true;
      if (!(error instanceof FormatError)) throw error;
      const kind = record > 0 ? undefined : this.bytes === 0 ? error : await this.#otherKind();
      return { record, offset, error: kind ?? error, last: true, foreign: kind !== undefined };
    }
    const framed = await this.#take(offset, length + RECORD_OVERHEAD);
    this.#offset += framed.length;
    this.crc = crc32c(framed, this.crc);
    try {
      return { record, offset, payload: checkPayload(framed, length, place) };
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      return { record, offset, error, last: false, foreign: false };
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TfRecord> {
    for (;;) {
      const found = await this.next();
      if (found === undefined) return;
      if (found.error !== undefined) throw found.error;
      yield found;
    }
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  /** A view of `length` bytes at `offset`, which must lie in the file and not before what was last taken. */
  async #take(offset: number, length: number): Promise<Uint8Array> {
    const kept = this.#start + this.#held - offset;
    if (kept < length) {
      // What is there already moves to the front; as much as fits is read behind it.
      const capacity = Math.max(length, Math.min(CHUNK_BYTES, this.bytes - offset));
      const from = offset - this.#start;
      if (this.#buffer.length >= capacity) this.#buffer.copyWithin(0, from, this.#held);
      else {
        const larger = new Uint8Array(capacity);
        larger.set(this.#buffer.subarray(from, this.#held));
        this.#buffer = larger;
      }
      this.#start = offset;
      this.#held = kept;
      while (this.#held < length) await this.#readMore();
    }
    return this.#buffer.subarray(offset - this.#start, offset - this.#start + length);
  }

  async #readMore(): Promise<void> {
    const position = this.#start + this.#held;
    const room = Math.min(this.#buffer.length - this.#held, this.bytes - position);
    const { bytesRead } = await this.#file.read(this.#buffer, this.#held, room, position);
    if (bytesRead === 0) {
      throw new FormatError(this.#path, position, "became shorter while it was read", {
        expected: `${this.bytes} bytes`,
        found: `${position}`,
      });
    }
    this.#held += bytesRead;
  }

  /** What the file is instead, when its first bytes tell. */
  async #otherKind(): Promise<FormatError | undefined> {
    const start = await this.#take(0, Math.min(this.bytes, 512));
    const [what, hint] = kindOf(start, this.#path) ?? [];
    if (what === undefined) return undefined;
    return new FormatError(this.#path, 0, what, { hint });
  }
}

const HEADER_BYTES = 12;

/** Larger reads gain nothing; a record longer than this gets a buffer of its own length. */
const CHUNK_BYTES = 2 ** 20;

interface Place {
  readonly path: string;
  readonly record: number;
  readonly offset: number;
}

/** The length in `header`, checked by its CRC and against the `left` bytes that follow the header. */
function checkHeader(header: Uint8Array, place: Place, left: number): number {
  if (header.length < HEADER_BYTES) {
    const numbers = { expected: `${HEADER_BYTES} bytes`, found: `${header.length}` };
    throw problem(place, 0, "the file ends inside its length", numbers);
  }
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  checkCrc(header.subarray(0, 8), view.getUint32(8, true), place, 8, "length");
  // Inexact from 2^53 on, which is larger than any file.
  const length = view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true);
  if (length + 4 > left) {
    const numbers = {
      expected: `${view.getBigUint64(0, true) + 4n} bytes more`,
      found: `${Math.max(0, left)}`,
    };
    throw problem(
      place,
      HEADER_BYTES,
      "cut short: the file ends inside its payload or the CRC of it",
      numbers,
    );
  }
  if (length > MAX_RECORD_BYTES) {
    const numbers = { expected: `at most ${MAX_RECORD_BYTES} bytes`, found: `${length}` };
    throw problem(place, 0, "longer than any picture that is read", numbers);
  }
  return length;
}

/** The payload of `length` bytes in a whole record. */
function checkPayload(framed: Uint8Array, length: number, place: Place): Uint8Array {
  const payload = framed.subarray(HEADER_BYTES, HEADER_BYTES + length);
  const view = new DataView(framed.buffer, framed.byteOffset, framed.byteLength);
  checkCrc(payload, view.getUint32(HEADER_BYTES + length, true), place, HEADER_BYTES + length, "data");
  return payload;
}

function checkCrc(bytes: Uint8Array, stored: number, place: Place, at: number, of: "length" | "data"): void {
  const computed = maskedCrc32c(bytes);
  if (stored === computed) return;
  const numbers = { expected: `0x${hex32(computed)} for its bytes`, found: `0x${hex32(stored)}` };
  throw problem(place, at, `wrong ${of} CRC`, numbers);
}

/** `shard#17, byte 4711: record 17: wrong data CRC (expected ..., found ...)`; `at` counts from the record. */
function problem(
  { path, record, offset }: Place,
  at: number,
  what: string,
  numbers: { readonly expected: string; readonly found: string },
): FormatError {
  return new FormatError(`${path}#${record}`, offset + at, `record ${record}: ${what}`, numbers);
}

/** Files that are handed over for TFRecords, and what to do; asked only where the first record is none. */
function kindOf(start: Uint8Array, path: string): readonly [what: string, hint?: string] | undefined {
  const text = String.fromCharCode(...start);
  const [a = 0, b = 0] = start;
  if (text.startsWith("\x1f\x8b")) {
    return [
      "compressed with gzip, so records cannot be read by their place",
      `mv ${path} ${path}.gz && gunzip --keep ${path}.gz, or write the records uncompressed`,
    ];
  }
  // RFC 1950: method 8, and the first two bytes are a multiple of 31.
  if ((a & 0x0f) === 8 && a >> 4 <= 7 && (a * 256 + b) % 31 === 0) {
    return [
      "compressed with zlib, so records cannot be read by their place",
      'Write the records again without compression_type="ZLIB"',
    ];
  }
  for (const [magic, name] of MAGIC) if (text.startsWith(magic)) return [`${name}, not a file of TFRecords`];
  if (start.every((byte) => byte === 0)) {
    return ["begins with zeros, not with a record; was it ever written?"];
  }
  if (/^[\t\n\r\x20-\x7e]+$/.test(text)) return ["text, not a file of TFRecords"];
  return undefined;
}

const MAGIC: readonly (readonly [string, string])[] = [
  ["\x89PNG", "a PNG"],
  ["\xff\xd8\xff", "a JPEG"],
  ["GIF8", "a GIF"],
  ["RIFF", "a RIFF file (WebP or sound)"],
  ["PK\x03\x04", "a zip archive"],
  ["\x93NUMPY", "a NumPy array"],
  ["BZh", "compressed with bzip2"],
  ["\xfd7zXZ", "compressed with xz"],
  ["\x28\xb5\x2f\xfd", "compressed with zstd"],
];
