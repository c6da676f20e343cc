/**
 * tf.train.Example, the message in which TensorFlow keeps one picture with its label: bytes to a Map and back.
 *
 * Read strictly: where protobuf would merge, overwrite or pass over (a key twice, two lists in one feature, an unknown
 * field), the message is refused, since no writer of Examples produces it. Written as TensorFlow's Python writes it
 * deterministically: keys in order, numbers packed.
 *
 * Source: tensorflow/core/example/{example,feature}.proto; protobuf.dev/programming-guides/encoding.
 */

import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { DataError } from "../core/error.js";
import { isPlainName } from "./plain-name.js";
import { ProtobufWalker } from "./protobuf.js";

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

/** One walk over a message, from outside in. */
class ExampleReader {
  readonly #walker: ProtobufWalker;
  readonly #features = new Map<string, Feature>();

  constructor(bytes: Uint8Array, where: string) {
    this.#walker = new ProtobufWalker(
      bytes,
      (what, at) => new DataError({ where, what: `no tf.train.Example, at byte ${at} of it: ${what}` }),
    );
  }

  read(): Map<string, Feature> {
    const walker = this.#walker;
    walker.whole("the Example", {
      [EXAMPLE_FEATURES]: () =>
        walker.message("the features", { [FEATURES_ENTRY]: () => this.#entry() }, [FEATURES_ENTRY]),
      2: () => walker.fail("a tf.train.SequenceExample, or damaged; tf.train.Example is read"),
    });
    return this.#features;
  }

  #entry(): void {
    const walker = this.#walker;
    let key: string | undefined;
    let feature: Feature | undefined;
    walker.message("an entry", {
      [ENTRY_KEY]: () => (key = this.#key()),
      [ENTRY_VALUE]: () => (feature = this.#feature()),
    });
    if (key === undefined) return walker.fail("an entry has no key");
    if (this.#features.has(key)) walker.fail(`the key ${JSON.stringify(key)} comes twice`);
    if (feature !== undefined) this.#features.set(key, feature);
  }

  #key(): string {
    const key = this.#walker.text("a key", MAX_KEY_BYTES);
    // Such a key would otherwise be printed in lists of the keys found.
    if (!isPlainName(key)) {
      this.#walker.fail("a key that is empty or holds control characters");
    }
    return key;
  }

  #feature(): Feature | undefined {
    const walker = this.#walker;
    let feature: Feature | undefined;
    const list = (read: () => Feature) => (): void => {
      if (feature !== undefined) walker.fail("a feature has two lists");
      feature = read();
    };
    walker.message("a feature", {
      1: list(() => ({ kind: "bytes", values: this.#bytes() })),
      2: list(() => ({ kind: "floats", values: this.#floats() })),
      3: list(() => ({ kind: "ints", values: this.#integers() })),
    });
    return feature;
  }

  #bytes(): Uint8Array[] {
    const values: Uint8Array[] = [];
    this.#list(() => values.push(this.#walker.bytesOf("a value")));
    return values;
  }

  #floats(): Float32Array {
    const walker = this.#walker;
    let values = new Float32Array(0);
    let count = 0;
    this.#list(() => {
      // No value takes fewer than four bytes of the list.
      if (values.length === 0) values = new Float32Array(walker.left >> 2);
      walker.packed("packed floats", WireType.Bit32, () => (values[count++] = walker.float("a float")));
    });
    return count === values.length ? values : values.slice(0, count);
  }

  #integers(): bigint[] {
    const walker = this.#walker;
    const values: bigint[] = [];
    this.#list(() => {
      if (walker.left > MAX_INTEGER_BYTES) walker.fail(`integers of more than ${MAX_INTEGER_BYTES} bytes`);
      walker.packed("packed integers", WireType.Varint, () => values.push(walker.bigint("an integer")));
    });
    return values;
  }

  /** Every field of a list is its value. */
  #list(value: () => void): void {
    this.#walker.message("a list", { [LIST_VALUE]: value }, [LIST_VALUE]);
  }
}
