/**
 * Walks protobuf messages strictly, so that every format made of them is as hard to fool as the others.
 *
 * Where protobuf merges, overwrites or passes over, this refuses: a field that the format's table does not name, a second
 * value of one that is not repeated, another wire type, a length that leaves the message around it, groups, and nesting
 * deeper than {@link MAX_DEPTH}. The library decodes varints and tags; nothing is copied.
 *
 * Offsets and lengths are in bytes of what was given to walk.
 *
 * Source: protobuf.dev/programming-guides/encoding.
 */

import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

import { utf8Of } from "./utf8.js";

/** What is done at each field of a message, by its number below 32; each call reads the one value behind the tag. */
export type Fields = Readonly<Record<number, () => void>>;

const MAX_DEPTH = 16;

/** One walk from outside in; nested messages are ranges of the same bytes. */
export class ProtobufWalker {
  readonly #reader: BinaryReader;
  /** Where the message ends that is being walked. */
  #end: number;
  #wire = WireType.Varint;
  #depth = 0;

  /** @param refuse words an error about the byte `at`. */
  constructor(
    private readonly bytes: Uint8Array,
    private readonly refuse: (what: string, at: number) => Error,
  ) {
    this.#reader = new BinaryReader(bytes);
    this.#end = bytes.length;
  }

  /** How the value behind the last tag lies. */
  get wire(): WireType {
    return this.#wire;
  }

  /** Bytes that the message in progress still has. */
  get left(): number {
    return this.#end - this.#reader.pos;
  }

  /** Walks all of the bytes; fields in `repeated` may come more than once. */
  whole(name: string, fields: Fields, repeated: readonly number[] = []): void {
    try {
      this.#walk(name, fields, repeated);
    } catch (error) {
      // BinaryReader throws plain errors for bytes that are no protobuf; anything else is a refusal, or a mistake of ours.
      if (error instanceof RangeError || (error instanceof Error && error.constructor === Error)) {
        this.fail(`no whole protobuf message: ${error.message}`);
      }
      throw error;
    }
  }

  /** The message behind the tag. */
  message(name: string, fields: Fields, repeated: readonly number[] = []): void {
    if (this.#depth === MAX_DEPTH) this.fail(`messages are nested more than ${MAX_DEPTH} deep`);
    const around = this.#end;
    this.#end = this.#lengthDelimited(name);
    this.#depth++;
    this.#walk(name, fields, repeated);
    this.#depth--;
    this.#end = around;
  }

  /** A view. */
  bytesOf(name: string): Uint8Array {
    const end = this.#lengthDelimited(name);
    const found = this.bytes.subarray(this.#reader.pos, end);
    this.#reader.pos = end;
    return found;
  }

  text(name: string, longest = Infinity): string {
    const found = this.bytesOf(name);
    if (found.length > longest) this.fail(`${name} of ${found.length} bytes`);
    return utf8Of(found) ?? this.fail(`${name} that is not UTF-8`);
  }

  /** A signed whole number. */
  bigint(name: string): bigint {
    this.#expect(WireType.Varint, name);
    return BigInt(this.#reader.int64());
  }

  /** One that a double holds exactly. */
  integer(name: string): number {
    const value = this.bigint(name);
    if (!Number.isSafeInteger(Number(value))) this.fail(`${name} of ${value}`);
    return Number(value);
  }

  /** From 0 to 2^53 - 1. */
  count(name: string): number {
    const value = this.integer(name);
    if (value < 0) this.fail(`${name} of ${value}`);
    return value;
  }

  float(name: string): number {
    this.#expect(WireType.Bit32, name);
    return this.#reader.float();
  }

  double(name: string): number {
    this.#expect(WireType.Bit64, name);
    return this.#reader.double();
  }

  fixed32(name: string): number {
    this.#expect(WireType.Bit32, name);
    return this.#reader.fixed32();
  }

  /** A repeated number, alone or many of them packed; `read` takes one. */
  packed(name: string, wire: WireType, read: () => void): void {
    if (this.#wire !== WireType.LengthDelimited) return read();
    const around = this.#end;
    this.#end = this.#lengthDelimited(name);
    this.#wire = wire;
    while (this.left > 0) read();
    if (this.left < 0) this.fail(`${name} end inside a number`);
    this.#end = around;
  }

  /** Passes over a value whatever it is. */
  skip(name: string): void {
    if (this.#wire === WireType.LengthDelimited) this.#reader.pos = this.#lengthDelimited(name);
    else if (this.#wire === WireType.Varint) this.#reader.int64();
    else if (this.#wire === WireType.Bit32) this.#reader.fixed32();
    else if (this.#wire === WireType.Bit64) this.#reader.fixed64();
    else this.#expect(WireType.LengthDelimited, name);
  }

  /** Refuses what stands where the walk is. */
  fail(what: string): never {
    throw this.refuse(what, Math.min(this.#reader.pos, this.bytes.length));
  }

  #walk(name: string, fields: Fields, repeated: readonly number[]): void {
    let seen = 0;
    while (this.left > 0) {
      const [field, wire] = this.#reader.tag();
      const read = fields[field];
      if (read === undefined) this.fail(`${name} with an unknown field ${field}`);
      if ((seen & (1 << field)) !== 0 && !repeated.includes(field))
        this.fail(`${name} with field ${field} twice`);
      seen |= 1 << field;
      this.#wire = wire;
      read();
    }
    if (this.left < 0) this.fail(`a field leaves ${name}, which ends at byte ${this.#end}`);
  }

  #expect(wire: WireType, name: string): void {
    if (this.#wire !== wire) this.fail(`${name} of wire type ${this.#wire}, expected ${wire}`);
  }

  /** Reads a length and gives the byte where its range ends, which lies in the message in progress. */
  #lengthDelimited(name: string): number {
    this.#expect(WireType.LengthDelimited, name);
    const start = this.#reader.pos;
    const length = this.#reader.uint32();
    // BinaryReader drops bits beyond 32, so 2^32 + 5 would read as 5.
    const size = this.#reader.pos - start;
    if (size > 5 || (size === 5 && (this.bytes[start + 4] as number) > 0x0f))
      this.fail(`${name} of 4 GiB or more`);
    if (length > this.left)
      this.fail(`${name} of ${length} bytes, of which ${Math.max(0, this.left)} are there`);
    return this.#reader.pos + length;
  }
}
