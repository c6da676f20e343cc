/**
 * Writes pickles of data that any Python 3 reads: what pickle.ts reads, and dicts that are made while they are written.
 *
 * Lengths are in bytes.
 *
 * Source: CPython Lib/pickletools.py (instructions of protocol 3).
 */

import { Call, Global, type PickleDict, type PickleValue, Tuple } from "./pickle.js";

/** A dict whose entries are made while they are written, so that half a million need not stand in memory. */
export class EntryStream {
  constructor(readonly entries: Iterable<readonly [PickleValue, Writable]>) {}
}
export type Writable = PickleValue | EntryStream;

/**
 * A pickle of `value`, in pieces, by protocol 3: the oldest that has bytes, so every Python 3 reads it.
 *
 * Objects in `shared` are written where they first appear and fetched after that; all others are written each time.
 */
export function writePickle(value: Writable, shared: ReadonlySet<object> = new Set()): Uint8Array[] {
  return new Writer(shared).write(value);
}

/** Writing recurses, where reading does not. */
const MAX_WRITTEN_DEPTH = 100;
/** Bytes gathered before a piece is put aside. */
const PIECE_BYTES = 2 ** 20;

class Writer {
  readonly #pieces: Uint8Array[] = [];
  #piece = Buffer.alloc(PIECE_BYTES);
  #used = 0;
  readonly #memo = new Map<object, number>();

  constructor(private readonly shared: ReadonlySet<object>) {}

  write(value: Writable): Uint8Array[] {
    this.#bytes([0x80, 3]); // PROTO
    this.#value(value, 0);
    this.#bytes([0x2e]); // STOP
    this.#flush();
    return this.#pieces;
  }

  #value(value: Writable, depth: number): void {
    if (depth > MAX_WRITTEN_DEPTH) throw new RangeError(`a value nested more than ${MAX_WRITTEN_DEPTH} deep`);
    if (typeof value !== "object" || value === null) return this.#scalar(value);
    const known = this.#memo.get(value);
    if (known !== undefined) return this.#indexed(0x68, 0x6a, known); // BINGET
    this.#composite(value, depth + 1);
    if (!this.shared.has(value)) return;
    const index = this.#memo.size;
    this.#memo.set(value, index);
    this.#indexed(0x71, 0x72, index); // BINPUT
  }

  #scalar(value: null | boolean | number | bigint | string): void {
    if (value === null) this.#bytes([0x4e]);
    else if (typeof value === "boolean") this.#bytes([value ? 0x88 : 0x89]);
    else if (typeof value === "string") {
      const text = Buffer.from(value);
      this.#sized(0x58, text); // BINUNICODE
    } else if (typeof value === "number" && !(Number.isSafeInteger(value) && !Object.is(value, -0))) {
      const bytes = Buffer.alloc(9, 0x47); // BINFLOAT
      bytes.writeDoubleBE(value, 1);
      this.#bytes(bytes);
    } else this.#integer(BigInt(value));
  }

  #integer(value: bigint): void {
    if (value >= 0n && value < 256n) return this.#bytes([0x4b, Number(value)]); // BININT1
    if (BigInt.asIntN(32, value) === value) {
      const bytes = Buffer.alloc(5, 0x4a); // BININT
      bytes.writeInt32LE(Number(value), 1);
      return this.#bytes(bytes);
    }
    let length = 8;
    while (BigInt.asIntN(8 * length, value) !== value) length++;
    if (length > 255) throw new RangeError("an integer of more than 255 bytes");
    const hex = BigInt.asUintN(8 * length, value)
      .toString(16)
      .padStart(2 * length, "0");
    this.#bytes([0x8a, length]); // LONG1
    this.#bytes(Buffer.from(hex, "hex").reverse());
  }

  #composite(value: object, depth: number): void {
    if (value instanceof Uint8Array) {
      if (value.length > 255) return this.#sized(0x42, value); // BINBYTES
      this.#bytes([0x43, value.length]); // SHORT_BINBYTES
      return this.#bytes(value);
    }
    if (Array.isArray(value)) {
      this.#bytes([0x5d, 0x28]); // EMPTY_LIST MARK
      for (const item of value as PickleValue[]) this.#value(item, depth);
      return this.#bytes([0x65]); // APPENDS
    }
    if (value instanceof Tuple) {
      this.#bytes([0x28]); // MARK
      for (const item of value.items) this.#value(item, depth);
      return this.#bytes([0x74]); // TUPLE
    }
    if (value instanceof Map || value instanceof EntryStream) {
      this.#bytes([0x7d]); // EMPTY_DICT
      return this.#entries(value instanceof Map ? (value as PickleDict) : value.entries, depth);
    }
    if (value instanceof Global) return this.#bytes(Buffer.from(`c${value.module}\n${value.name}\n`)); // GLOBAL
    if (value instanceof Call) {
      this.#value(value.callee, depth);
      this.#value(new Tuple(value.args), depth);
      this.#bytes([0x52]); // REDUCE
      if (value.entries !== undefined) this.#entries(value.entries, depth);
      if (value.state === undefined) return;
      this.#value(value.state, depth);
      return this.#bytes([0x62]); // BUILD
    }
    throw new TypeError("a value that a pickle of data cannot hold");
  }

  #entries(entries: Iterable<readonly [PickleValue, Writable]>, depth: number): void {
    for (const [key, value] of entries) {
      this.#value(key, depth);
      this.#value(value, depth);
      this.#bytes([0x73]); // SETITEM
    }
  }

  /** The short form takes a byte, the long one four. */
  #indexed(short: number, long: number, index: number): void {
    if (index < 256) return this.#bytes([short, index]);
    const bytes = Buffer.alloc(5, long);
    bytes.writeUInt32LE(index, 1);
    this.#bytes(bytes);
  }

  #sized(code: number, content: Uint8Array): void {
    const head = Buffer.alloc(5, code);
    head.writeUInt32LE(content.length, 1);
    this.#bytes(head);
    this.#bytes(content);
  }

  #bytes(bytes: ArrayLike<number> & { readonly length: number }): void {
    if (bytes.length > PIECE_BYTES - this.#used) this.#flush();
    if (bytes.length > PIECE_BYTES) {
      this.#pieces.push(Uint8Array.from(bytes));
      return;
    }
    this.#piece.set(bytes, this.#used);
    this.#used += bytes.length;
  }

  #flush(): void {
    if (this.#used > 0) this.#pieces.push(this.#piece.subarray(0, this.#used));
    this.#piece = Buffer.alloc(PIECE_BYTES);
    this.#used = 0;
  }
}
