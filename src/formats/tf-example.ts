/**
 * tf.train.Example, the message in which TensorFlow keeps one picture with its label: bytes to a Map and back.
 *
 * Read strictly: where protobuf would merge, overwrite or pass over (a key twice, two lists in one feature, an unknown
 * field), the message is refused, since no writer of Examples produces it. Written as TensorFlow's Python writes it
 * deterministically: keys in order, numbers packed.
 *
 * Source: tensorflow/core/example/{example,feature}.proto; protobuf.dev/programming-guides/encoding.
 */

import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { DataError } from "../core/error.js";

/** One named list. What is read of `bytes` are views of the message. */
export type Feature =
  | { readonly kind: "bytes"; readonly values: readonly Uint8Array[] }
  | { readonly kind: "floats"; readonly values: Float32Array }
  | { readonly kind: "ints"; readonly values: readonly bigint[] };

/** @throws RangeError when a key comes twice. */
export function encodeExample(features: Iterable<readonly [string, Feature]>): Uint8Array {
  return Buffer.concat(examplePieces(features));
}

/**
 * The same message in pieces, one behind another: values as long as a picture are the caller's own arrays, since
 * copying them would cost more than all the rest.
 */
export function examplePieces(features: Iterable<readonly [string, Feature]>): Uint8Array[] {
  const entries = [...features].map(([key, feature]) => measure(key, feature));
  entries.sort((a, b) => Buffer.compare(a.key, b.key));
  entries.forEach(({ key }, i) => {
    if (i > 0 && key.equals(entries[i - 1]?.key as Buffer))
      throw new RangeError(`key "${key.toString()}" comes twice`);
  });
  const pieces: Uint8Array[] = [];
  const writer = new BinaryWriter();
  const open = (field: number, length: number) => writer.tag(field, WireType.LengthDelimited).uint32(length);
  open(
    EXAMPLE_FEATURES,
    entries.reduce((sum, { entryLength }) => sum + delimited(entryLength), 0),
  );
  for (const { key, feature, packed, listLength, entryLength } of entries) {
    open(FEATURES_ENTRY, entryLength);
    open(ENTRY_KEY, key.length).raw(key);
    open(ENTRY_VALUE, delimited(listLength));
    open(LISTS.indexOf(feature.kind) + 1, listLength);
    if (feature.kind === "bytes") {
      for (const value of feature.values) {
        open(LIST_VALUE, value.length);
        // finish() gives what was written so far, and begins anew.
        if (value.length < LONG_VALUE) writer.raw(value);
        else pieces.push(writer.finish(), value);
      }
    } else if (packed.length > 0) open(LIST_VALUE, packed.length).raw(packed);
  }
  pieces.push(writer.finish());
  return pieces;
}

/**
 * The features by name. One without a list counts as absent, as in TensorFlow.
 *
 * @throws DataError naming `where` and the byte of the message at which it stops being an Example.
 */
export function decodeExample(bytes: Uint8Array, where = "tf.train.Example"): Map<string, Feature> {
  return new ExampleReader(bytes, where).read();
}

/** Kinds by field number, less one. */
const LISTS = ["bytes", "floats", "ints"] as const;

const EXAMPLE_FEATURES = 1;
const FEATURES_ENTRY = 1;
const ENTRY_KEY = 1;
const ENTRY_VALUE = 2;
const LIST_VALUE = 1;

/** Bytes of a value that is not worth a piece of its own. */
const LONG_VALUE = 512;

/** Longer keys only come from damage. */
const MAX_KEY_BYTES = 1024;

/** A picture's record holds a handful; a bigint takes up to thirty times its byte in the file. */
const MAX_INTEGER_BYTES = 2 ** 20;

/** A feature with the lengths that protobuf wants before the bytes. */
function measure(name: string, feature: Feature) {
  const key = Buffer.from(name);
  const packed = pack(feature);
  let listLength = packed.length === 0 ? 0 : delimited(packed.length);
  if (feature.kind === "bytes") for (const value of feature.values) listLength += delimited(value.length);
  const entryLength = delimited(key.length) + delimited(delimited(listLength));
  return { key, feature, packed, listLength, entryLength };
}

/** The numbers of a list, one behind another. */
function pack(feature: Feature): Uint8Array {
  if (feature.kind === "bytes") return new Uint8Array(0);
  if (feature.kind === "floats") {
    const { buffer, byteOffset, byteLength } = feature.values;
    return new Uint8Array(buffer, byteOffset, byteLength);
  }
  const writer = new BinaryWriter();
  for (const value of feature.values) writer.int64(value);
  return writer.finish();
}

/** Bytes of a field with its tag (all are below 16, so one byte) and length. */
function delimited(length: number): number {
  let bytes = 2;
  for (let rest = length; rest >= 128; rest = Math.floor(rest / 128)) bytes++;
  return bytes + length;
}

/** One walk over a message, from outside in; nested messages are ranges of the same bytes. */
class ExampleReader {
  readonly #reader: BinaryReader;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly where: string,
  ) {
    this.#reader = new BinaryReader(bytes);
  }

  read(): Map<string, Feature> {
    try {
      return this.#example();
    } catch (error) {
      // BinaryReader throws plain errors for bytes that are no protobuf; anything else is a mistake of ours.
      if (error instanceof RangeError || (error instanceof Error && error.constructor === Error)) {
        throw this.#error(`no whole protobuf message: ${error.message}`);
      }
      throw error;
    }
  }

  #example(): Map<string, Feature> {
    const features = new Map<string, Feature>();
    let seen = false;
    this.#fields(this.bytes.length, "the Example", (field, wire) => {
      if (field === 2 && wire === WireType.LengthDelimited) {
        throw this.#error("a tf.train.SequenceExample, or damaged; tf.train.Example is read");
      }
      if (field !== EXAMPLE_FEATURES) throw this.#error(`the Example has an unknown field ${field}`);
      if (seen) throw this.#error("the Example has its features twice");
      seen = true;
      this.#fields(this.#end(wire, "the features"), "the features", (entryField, entryWire) => {
        if (entryField !== FEATURES_ENTRY)
          throw this.#error(`the features have an unknown field ${entryField}`);
        this.#entry(this.#end(entryWire, "an entry"), features);
      });
    });
    return features;
  }

  #entry(end: number, features: Map<string, Feature>): void {
    let key: string | undefined;
    let feature: Feature | undefined;
    let valued = false;
    this.#fields(end, "an entry", (field, wire) => {
      if (field === ENTRY_KEY && key === undefined) key = this.#key(this.#end(wire, "a key"));
      else if (field === ENTRY_VALUE && !valued) {
        valued = true;
        feature = this.#feature(this.#end(wire, "a feature"));
      } else throw this.#error(`an entry has field ${field}, unknown or twice`);
    });
    if (key === undefined) throw this.#error("an entry has no key");
    if (features.has(key)) throw this.#error(`the key ${JSON.stringify(key)} comes twice`);
    if (feature !== undefined) features.set(key, feature);
  }

  #key(end: number): string {
    const start = this.#reader.pos;
    if (end - start > MAX_KEY_BYTES) throw this.#error(`a key of ${end - start} bytes`);
    this.#reader.pos = end;
    let key: string;
    try {
      key = utf8.decode(this.bytes.subarray(start, end));
    } catch {
      throw this.#error("a key that is not UTF-8");
    }
    // Such a key would otherwise be printed in lists of the keys found.
    if (key === "" || /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(key)) {
      throw this.#error("a key that is empty or holds control characters");
    }
    return key;
  }

  #feature(end: number): Feature | undefined {
    let feature: Feature | undefined;
    this.#fields(end, "a feature", (field, wire) => {
      if (feature !== undefined) throw this.#error("a feature has two lists");
      const kind = LISTS[field - 1];
      if (kind === undefined) throw this.#error(`a feature has an unknown field ${field}`);
      const listEnd = this.#end(wire, "a list");
      if (kind === "bytes") feature = { kind, values: this.#byteList(listEnd) };
      else if (kind === "floats") feature = { kind, values: this.#floatList(listEnd) };
      else feature = { kind, values: this.#intList(listEnd) };
    });
    return feature;
  }

  #byteList(end: number): Uint8Array[] {
    const values: Uint8Array[] = [];
    this.#values(end, (wire) => {
      const valueEnd = this.#end(wire, "a value");
      values.push(this.bytes.subarray(this.#reader.pos, valueEnd));
      this.#reader.pos = valueEnd;
    });
    return values;
  }

  #floatList(end: number): Float32Array {
    // No value takes fewer than four bytes of the list.
    const values = new Float32Array((end - this.#reader.pos) >> 2);
    let count = 0;
    this.#values(end, (wire) => {
      const isPacked = wire === WireType.LengthDelimited;
      if (!isPacked && wire !== WireType.Bit32) throw this.#error(`a float of wire type ${wire}`);
      const stop = isPacked ? this.#end(wire, "packed floats") : this.#reader.pos + 4;
      if (stop > end || (stop - this.#reader.pos) % 4 !== 0) {
        throw this.#error("packed floats whose length is no multiple of 4, or that leave their list");
      }
      while (this.#reader.pos < stop) values[count++] = this.#reader.float();
    });
    return count === values.length ? values : values.slice(0, count);
  }

  #intList(end: number): bigint[] {
    const values: bigint[] = [];
    if (end - this.#reader.pos > MAX_INTEGER_BYTES)
      throw this.#error(`integers of more than ${MAX_INTEGER_BYTES} bytes`);
    this.#values(end, (wire) => {
      const isPacked = wire === WireType.LengthDelimited;
      if (!isPacked && wire !== WireType.Varint) throw this.#error(`an integer of wire type ${wire}`);
      const stop = isPacked ? this.#end(wire, "packed integers") : this.#reader.pos + 1;
      while (this.#reader.pos < stop) values.push(BigInt(this.#reader.int64()));
      if (isPacked && this.#reader.pos !== stop) throw this.#error("packed integers end inside a number");
    });
    return values;
  }

  /** Every field of a list is its value. */
  #values(end: number, value: (wire: WireType) => void): void {
    this.#fields(end, "a list", (field, wire) => {
      if (field !== LIST_VALUE) throw this.#error(`a list has an unknown field ${field}`);
      value(wire);
    });
  }

  /** Calls `field` behind each tag up to `end`; it must stop at the next one. */
  #fields(end: number, name: string, field: (field: number, wire: WireType) => void): void {
    while (this.#reader.pos < end) {
      const [number, wire] = this.#reader.tag();
      field(number, wire);
    }
    if (this.#reader.pos !== end) throw this.#error(`a field leaves ${name}, which ends at byte ${end}`);
  }

  /** Reads a length and gives the byte where the range ends, which lies in the message. */
  #end(wire: WireType, name: string): number {
    if (wire !== WireType.LengthDelimited) throw this.#error(`${name} of wire type ${wire}, expected 2`);
    const start = this.#reader.pos;
    const length = this.#reader.uint32();
    // BinaryReader drops bits beyond 32, so 2^32 + 5 would read as 5.
    const size = this.#reader.pos - start;
    if (size > 5 || (size === 5 && (this.bytes[start + 4] as number) > 0x0f)) {
      throw this.#error(`${name} of 4 GiB or more`);
    }
    const end = this.#reader.pos + length;
    if (end > this.bytes.length) {
      throw this.#error(
        `${name} of ${length} bytes, of which ${this.bytes.length - this.#reader.pos} are there`,
      );
    }
    return end;
  }

  #error(what: string): DataError {
    const at = Math.min(this.#reader.pos, this.bytes.length);
    return new DataError({ where: this.where, what: `no tf.train.Example, at byte ${at} of it: ${what}` });
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
