/**
 * TensorFlow's sorted tables, the form of LevelDB's: the `.index` of a checkpoint, bytes under byte keys.
 *
 * Every byte of a file belongs to exactly one block, each block has a checksum, and all of it is checked: a table that
 * is read at all is the one that was written.
 *
 *     data blocks, metaindex block (empty), index block   each: entries, restarts, then type and masked CRC32C
 *     48 bytes                                            handles of the last two, zeros, magic number
 *
 * An entry is (shared, unshared, value length) as varints, the key's unshared bytes and the value; every 16th key
 * shares nothing and is listed as a restart. The index block holds for each data block a key at or behind its last
 * one, and its handle (offset, size).
 *
 * Offsets and sizes are in bytes; sizes of blocks leave out the 5 bytes of type and checksum.
 *
 * Source: tensorflow/tsl/lib/io/{format,block,block_builder,table_builder}.cc;
 * github.com/google/leveldb/blob/main/doc/table_format.md.
 */

import { CheckpointError } from "../core/error.js";
import { hex32, maskedCrc32c } from "./crc32c.js";
import { uncompressSnappy } from "./snappy.js";

export interface TableEntry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** The last eight bytes of a table, as TensorFlow and LevelDB write them. */
export const TABLE_MAGIC = Uint8Array.of(0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb);
export const FOOTER_BYTES = 48;

/**
 * All entries, keys in strictly rising order. Values are views of `bytes`, or of an uncompressed block.
 *
 * @throws CheckpointError naming `where` and the byte at which the table is damaged.
 */
export function readTable(bytes: Uint8Array, where: string): TableEntry[] {
  return new TableReader(bytes, where).read();
}

/**
 * The table's bytes, as TensorFlow's writer lays them out: blocks not compressed.
 *
 * @param blockBytes a block is ended when it is this long; 256 KiB in TensorFlow's checkpoints.
 * @throws RangeError when the keys are not in strictly rising order.
 */
export function encodeTable(entries: readonly TableEntry[], blockBytes = 256 * 1024): Uint8Array {
  const pieces: Uint8Array[] = [];
  let length = 0;
  const append = (contents: Uint8Array): Uint8Array => {
    const handle = encodeVarints(length, contents.length);
    const trailer = Buffer.alloc(TRAILER_BYTES);
    trailer.writeUInt32LE(maskedCrc32c(Buffer.concat([contents, trailer.subarray(0, 1)])), 1);
    pieces.push(contents, trailer);
    length += contents.length + TRAILER_BYTES;
    return handle;
  };
  const index = new BlockBuilder(1);
  let block = new BlockBuilder(RESTART_INTERVAL);
  entries.forEach((entry, i) => {
    const next = entries[i + 1]?.key;
    if (next !== undefined && Buffer.compare(entry.key, next) >= 0) {
      throw new RangeError(`keys ${i} and ${i + 1} of the table are not in rising order`);
    }
    block.add(entry);
    if (next !== undefined && block.length < blockBytes) return;
    const key = next === undefined ? shortSuccessor(entry.key) : shortSeparator(entry.key, next);
    index.add({ key, value: append(block.finish()) });
    block = new BlockBuilder(RESTART_INTERVAL);
  });
  const footer = Buffer.alloc(FOOTER_BYTES);
  const handles = [append(new BlockBuilder(RESTART_INTERVAL).finish()), append(index.finish())];
  Buffer.concat(handles).copy(footer);
  footer.set(TABLE_MAGIC, FOOTER_BYTES - TABLE_MAGIC.length);
  return Buffer.concat([...pieces, footer]);
}

/** Block type and checksum. */
const TRAILER_BYTES = 5;
const RESTART_INTERVAL = 16;

const NOT_COMPRESSED = 0;
const SNAPPY = 1;

/** What no checkpoint comes near, so that a small file cannot ask for much memory. A block has 256 KiB in TensorFlow's. */
const MAX_BLOCK_BYTES = 16 * 2 ** 20;
const MAX_KEY_BYTES = 4096;
const MAX_ENTRIES = 2 ** 18;
const MAX_ALL_KEYS_BYTES = 64 * 2 ** 20;

interface Handle {
  readonly offset: number;
  readonly size: number;
}

/** A block's contents and where its first byte lies in the file, for messages. */
interface Block {
  readonly contents: Uint8Array;
  readonly offset: number;
}

class TableReader {
  #entries = 0;
  #keyBytes = 0;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly where: string,
  ) {}

  read(): TableEntry[] {
    const { metaindex, index } = this.#footer();
    const entries: TableEntry[] = [];
    let reached = 0;
    let last: Uint8Array | undefined;
    for (const { key: bound, value } of this.#entriesOf(this.#block(index))) {
      const { handle, length } = this.#handle(value, index.offset);
      if (length !== value.length) this.fail(index.offset, "a block's handle has bytes behind it");
      if (handle.offset !== reached) {
        this.fail(index.offset, "a data block does not follow the one before it", reached, handle.offset);
      }
      reached = this.#end(handle, metaindex.offset);
      for (const entry of this.#entriesOf(this.#block(handle))) {
        if (last !== undefined && Buffer.compare(last, entry.key) >= 0) {
          this.fail(handle.offset, "the keys of two blocks are not in rising order");
        }
        last = entry.key;
        entries.push(entry);
      }
      if (last === undefined || Buffer.compare(last, bound) > 0) {
        this.fail(handle.offset, "a block holds keys beyond those the index gives it");
      }
    }
    if (reached !== metaindex.offset) {
      this.fail(reached, "bytes between the data and the metaindex", metaindex.offset, reached);
    }
    if ([...this.#entriesOf(this.#block(metaindex))].length > 0) {
      this.fail(metaindex.offset, "the metaindex is not empty, as TensorFlow leaves it");
    }
    return entries;
  }

  fail(offset: number, what: string, expected?: number | string, found?: number | string): never {
    throw new CheckpointError({
      what: `the table is damaged: ${what}`,
      where: `${this.where}, byte ${offset}`,
      expected: expected?.toString(),
      found: found?.toString(),
      safe: "The checkpoint is untouched",
    });
  }

  #footer(): { metaindex: Handle; index: Handle } {
    const start = this.bytes.length - FOOTER_BYTES;
    if (start < 0) this.fail(0, "it is shorter than its footer", FOOTER_BYTES, this.bytes.length);
    const footer = this.bytes.subarray(start);
    const magic = footer.subarray(FOOTER_BYTES - TABLE_MAGIC.length);
    if (Buffer.compare(magic, TABLE_MAGIC) !== 0) {
      this.fail(
        start + FOOTER_BYTES - TABLE_MAGIC.length,
        "its magic number is missing; is the file complete?",
        Buffer.from(TABLE_MAGIC).toString("hex"),
        Buffer.from(magic).toString("hex"),
      );
    }
    const handles = footer.subarray(0, FOOTER_BYTES - TABLE_MAGIC.length);
    const first = this.#handle(handles, start);
    const second = this.#handle(handles.subarray(first.length), start + first.length);
    if (handles.subarray(first.length + second.length).some((byte) => byte !== 0)) {
      this.fail(start, "its footer is not padded with zeros");
    }
    const [metaindex, index] = [first.handle, second.handle];
    const metaindexEnd = this.#end(metaindex, start);
    if (index.offset !== metaindexEnd) {
      this.fail(start, "the index does not follow the metaindex", metaindexEnd, index.offset);
    }
    const indexEnd = this.#end(index, start);
    if (indexEnd !== start) this.fail(start, "bytes between the index and the footer", start, indexEnd);
    return { metaindex, index };
  }

  /** Where the block ends with its trailer, which must lie before `limit`. */
  #end({ offset, size }: Handle, limit: number): number {
    const end = offset + size + TRAILER_BYTES;
    if (end > limit) {
      this.fail(Math.min(offset, this.bytes.length), "a block leaves its place", `at most ${limit}`, end);
    }
    return end;
  }

  /** Checked against its checksum, uncompressed. */
  #block({ offset, size }: Handle): Block {
    const covered = this.bytes.subarray(offset, offset + size + 1);
    const trailer = view(this.bytes).getUint32(offset + size + 1, true);
    const crc = maskedCrc32c(covered);
    if (crc !== trailer) this.fail(offset, "a block's checksum does not fit", hex32(trailer), hex32(crc));
    const type = covered[size];
    const contents = covered.subarray(0, size);
    if (size > MAX_BLOCK_BYTES) this.fail(offset, "a block is too large", `at most ${MAX_BLOCK_BYTES}`, size);
    if (type === NOT_COMPRESSED) return { contents, offset };
    if (type !== SNAPPY) {
      this.fail(offset + size, "a block of another compression", "0 (none) or 1 (Snappy)", `${type}`);
    }
    return {
      contents: uncompressSnappy(contents, { where: this.where, offset, limit: MAX_BLOCK_BYTES }),
      offset,
    };
  }

  *#entriesOf({ contents, offset }: Block): Generator<TableEntry> {
    const restarts = this.#restarts(contents, offset);
    const end = contents.length - 4 * (restarts.length + 1);
    let at = 0;
    let restart = 0;
    let key: Uint8Array = new Uint8Array(0);
    let first = true;
    const number = (): number => {
      const { value, length } = this.#varint(contents, at, offset);
      at += length;
      if (at > end) this.fail(offset, "an entry reaches into the block's restarts");
      return value;
    };
    while (at < end) {
      const isRestart = restarts[restart] === at;
      if (isRestart) restart++;
      const [shared, unshared, valueBytes] = [number(), number(), number()];
      if (shared > (isRestart ? 0 : key.length)) {
        this.fail(offset, "a key shares more than the key before it has", isRestart ? 0 : key.length, shared);
      }
      if (unshared + valueBytes > end - at) {
        this.fail(offset, "an entry leaves its block", `at most ${end - at}`, unshared + valueBytes);
      }
      const next = this.#key(key.subarray(0, shared), contents.subarray(at, at + unshared), offset);
      if (!first && Buffer.compare(key, next) >= 0) this.fail(offset, "the keys are not in rising order");
      first = false;
      key = next;
      at += unshared;
      yield { key, value: contents.subarray(at, at + valueBytes) };
      at += valueBytes;
    }
    // An empty block has one restart at 0.
    if (restart !== restarts.length && end > 0) {
      this.fail(offset, "a restart is not the place of an entry", undefined, restarts[restart]);
    }
  }

  /** Places of the entries whose keys stand whole. */
  #restarts(contents: Uint8Array, offset: number): readonly number[] {
    if (contents.length < 8) this.fail(offset, "a block is too short for its restarts", 8, contents.length);
    const numbers = view(contents);
    const count = numbers.getUint32(contents.length - 4, true);
    const most = contents.length / 4 - 1;
    if (count === 0 || count > most) {
      this.fail(offset, "a block's number of restarts", `1 to ${Math.floor(most)}`, count);
    }
    const start = contents.length - 4 * (count + 1);
    if (count > 1 + start / 3) this.fail(offset, "a block has more restarts than entries");
    return Array.from({ length: count }, (_, i) => numbers.getUint32(start + 4 * i, true));
  }

  #key(shared: Uint8Array, unshared: Uint8Array, offset: number): Uint8Array {
    const length = shared.length + unshared.length;
    this.#entries++;
    this.#keyBytes += length;
    if (length > MAX_KEY_BYTES) this.fail(offset, "a key is too long", `at most ${MAX_KEY_BYTES}`, length);
    if (this.#entries > MAX_ENTRIES || this.#keyBytes > MAX_ALL_KEYS_BYTES) {
      this.fail(offset, `it has more than ${MAX_ENTRIES} entries or ${MAX_ALL_KEYS_BYTES} bytes of keys`);
    }
    const key = new Uint8Array(length);
    key.set(shared);
    key.set(unshared, shared.length);
    return key;
  }

  #handle(bytes: Uint8Array, offset: number): { handle: Handle; length: number } {
    const first = this.#varint(bytes, 0, offset);
    const second = this.#varint(bytes, first.length, offset);
    return { handle: { offset: first.value, size: second.value }, length: first.length + second.length };
  }

  /** `offset` is that of `bytes` in the file. No number of a table that fits a disk takes more than 8 bytes. */
  #varint(bytes: Uint8Array, at: number, offset: number): { value: number; length: number } {
    let value = 0;
    for (let i = 0; i < 8; i++) {
      const byte = bytes[at + i];
      if (byte === undefined) return this.fail(offset, "a number is cut off");
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) {
        // Nor a longer form than it needs, or two different files would be the same table.
        if (byte === 0 && i > 0) return this.fail(offset, "a number in a longer form than it needs");
        if (value > Number.MAX_SAFE_INTEGER) return this.fail(offset, "a number above 2^53");
        return { value, length: i + 1 };
      }
    }
    return this.fail(offset, "a number above 2^53");
  }
}

class BlockBuilder {
  readonly #pieces: Uint8Array[] = [];
  readonly #restarts: number[] = [0];
  #sinceRestart = 0;
  #last: Uint8Array = new Uint8Array(0);
  #written = 0;

  constructor(private readonly interval: number) {}

  /** With its restarts. */
  get length(): number {
    return this.#written + 4 * (this.#restarts.length + 1);
  }

  add({ key, value }: TableEntry): void {
    let shared = 0;
    if (this.#sinceRestart < this.interval) shared = commonPrefix(this.#last, key);
    else {
      this.#restarts.push(this.#written);
      this.#sinceRestart = 0;
    }
    const numbers = encodeVarints(shared, key.length - shared, value.length);
    this.#pieces.push(numbers, key.subarray(shared), value);
    this.#written += numbers.length + key.length - shared + value.length;
    this.#last = key;
    this.#sinceRestart++;
  }

  finish(): Uint8Array {
    const restarts = Buffer.alloc(4 * (this.#restarts.length + 1));
    [...this.#restarts, this.#restarts.length].forEach((value, i) => restarts.writeUInt32LE(value, 4 * i));
    return Buffer.concat([...this.#pieces, restarts]);
  }
}

/** A short key that is at least `key`, as TensorFlow chooses it: its first byte below 255, plus one. */
function shortSuccessor(key: Uint8Array): Uint8Array {
  const at = key.findIndex((byte) => byte !== 0xff);
  if (at < 0) return key;
  const short = Uint8Array.from(key.subarray(0, at + 1));
  short[at] = (short[at] as number) + 1;
  return short;
}

/** A short key that is at least `key` and below `next`. */
function shortSeparator(key: Uint8Array, next: Uint8Array): Uint8Array {
  const at = commonPrefix(key, next);
  const byte = key[at];
  if (byte === undefined || byte === 0xff || byte + 1 >= (next[at] as number)) return key;
  const short = Uint8Array.from(key.subarray(0, at + 1));
  short[at] = byte + 1;
  return short;
}

function commonPrefix(a: Uint8Array, b: Uint8Array): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}

function encodeVarints(...values: readonly number[]): Uint8Array {
  const bytes: number[] = [];
  for (let value of values) {
    for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push((value % 0x80) | 0x80);
    bytes.push(value);
  }
  return Uint8Array.from(bytes);
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
