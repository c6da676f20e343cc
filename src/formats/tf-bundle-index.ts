/**
 * The index of TensorFlow's V2 checkpoints: for each tensor its type, shape, place and checksum, in a sorted table.
 *
 * Entries are verified among themselves: every tensor's bytes fit its shape, none overlap, every name can be printed.
 *
 * Offsets and sizes are in bytes, shapes in elements.
 *
 * Source: tensorflow/core/protobuf/tensor_bundle.proto, tensorflow/core/framework/{types,tensor_shape}.proto.
 */

import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { CheckpointError, type Problem } from "../core/error.js";
import { isObjectProperty, isPlainName, quoted } from "./plain-name.js";
import { ProtobufWalker } from "./protobuf.js";
import { encodeTable, readTable, type TableEntry } from "./sstable.js";
import { utf8Of } from "./utf8.js";

/** What `data` is, by type; names as safetensors has them. Booleans are bytes, half floats their bits. */
interface BundleData {
  readonly F32: Float32Array;
  readonly F64: Float64Array;
  readonly I8: Int8Array;
  readonly I16: Int16Array;
  readonly I32: Int32Array;
  readonly I64: BigInt64Array;
  readonly U8: Uint8Array;
  readonly U16: Uint16Array;
  readonly U32: Uint32Array;
  readonly U64: BigUint64Array;
  readonly BOOL: Uint8Array;
  readonly F16: Uint16Array;
  readonly BF16: Uint16Array;
}

/** A tensor; `dtype` decides the type of `data`. A scalar has the shape []. */
export type BundleTensor = {
  readonly [K in keyof BundleData]: {
    readonly dtype: K;
    readonly shape: readonly number[];
    readonly data: BundleData[K];
  };
}[keyof BundleData];

type BundleDtype = BundleTensor["dtype"];

/** One tensor as the index describes it. */
export interface BundleEntry {
  /** TensorFlow's name ("DT_STRING") for types that are listed but not read. */
  readonly dtype: BundleDtype | `DT_${string}`;
  readonly shape: readonly number[];
  readonly shard: number;
  readonly offset: number;
  readonly bytes: number;
  /** Masked CRC32C of the bytes. */
  readonly crc: number;
  /** Pieces that a partitioned variable was saved in; 0 for a whole one. */
  readonly slices: number;
}

/**
 * The entries of an index, verified among themselves: every tensor's bytes fit its shape, none overlap.
 *
 * @throws CheckpointError naming `where`, and the byte or the tensor.
 */
export function parseBundleIndex(
  bytes: Uint8Array,
  where: string,
): { readonly shards: number; readonly entries: ReadonlyMap<string, BundleEntry> } {
  const [first, ...rest] = readTable(bytes, where);
  if (first === undefined || first.key.length > 0) {
    throw problem("the index has no header", { where, expected: 'an entry under the name ""' });
  }
  const shards = parseHeader(first.value, where);
  const entries = new Map<string, BundleEntry>();
  for (const { key, value } of rest) {
    // Pieces of partitioned variables; the variable has an entry of its own that counts them.
    if (key[0] === 0) continue;
    const name = decodeName(key, where);
    const entry = parseEntry(value, `${where}, tensor ${quoted(name)}`);
    if (entry.shard >= shards) {
      throw problem("the tensor lies in a shard that the checkpoint has not", {
        where: `${where}, tensor ${quoted(name)}`,
        expected: `0 to ${shards - 1}`,
        found: `${entry.shard}`,
      });
    }
    checkSize(entry, name, where);
    entries.set(name, entry);
  }
  refuseOverlaps(entries, where);
  return { shards, entries };
}

/**
 * The index of entries that stand in the order of their names' bytes.
 *
 * @throws RangeError for a name that could disturb.
 */
export function encodeBundleIndex(entries: readonly (readonly [string, BundleEntry])[]): Uint8Array {
  const table: TableEntry[] = [{ key: new Uint8Array(0), value: encodeHeader() }];
  for (const [name, entry] of entries) {
    if (!isName(name)) throw new RangeError(`a tensor cannot have the name ${quoted(name)}`);
    table.push({ key: Buffer.from(name), value: encodeEntry(entry) });
  }
  return encodeTable(table);
}

/** The array that a tensor of this type is read into; undefined for types that are listed only. */
export function arrayOf(dtype: BundleEntry["dtype"]): TypedArray<BundleDtype> | undefined {
  return byDtype.get(dtype)?.array;
}

export function problem(
  what: string,
  more: Pick<Problem, "where" | "expected" | "found" | "hint">,
  cause?: unknown,
): CheckpointError {
  return new CheckpointError({ what, ...more, safe: "The checkpoint is untouched" }, cause);
}

const MAX_SHARDS = 4096;
/** TensorShape::MaxDimensions. */
const MAX_DIMENSIONS = 254;

type TypedArray<D extends BundleDtype> = new (buffer: ArrayBuffer) => BundleData[D];

/** By the number in types.proto: our name, bytes of an element, the array it is read into. */
const types: ReadonlyMap<number, { readonly dtype: BundleDtype; readonly array: TypedArray<BundleDtype> }> =
  new Map([
    [1, { dtype: "F32", array: Float32Array }],
    [2, { dtype: "F64", array: Float64Array }],
    [3, { dtype: "I32", array: Int32Array }],
    [4, { dtype: "U8", array: Uint8Array }],
    [5, { dtype: "I16", array: Int16Array }],
    [6, { dtype: "I8", array: Int8Array }],
    [9, { dtype: "I64", array: BigInt64Array }],
    [10, { dtype: "BOOL", array: Uint8Array }],
    [14, { dtype: "BF16", array: Uint16Array }],
    [17, { dtype: "U16", array: Uint16Array }],
    [19, { dtype: "F16", array: Uint16Array }],
    [22, { dtype: "U32", array: Uint32Array }],
    [23, { dtype: "U64", array: BigUint64Array }],
  ]);

/** Types that are listed only. */
const otherTypes: ReadonlyMap<number, `DT_${string}`> = new Map([
  [7, "DT_STRING"],
  [8, "DT_COMPLEX64"],
  [11, "DT_QINT8"],
  [12, "DT_QUINT8"],
  [13, "DT_QINT32"],
  [15, "DT_QINT16"],
  [16, "DT_QUINT16"],
  [18, "DT_COMPLEX128"],
  [20, "DT_RESOURCE"],
  [21, "DT_VARIANT"],
]);

const byDtype = new Map([...types].map(([number, type]) => [type.dtype as string, { number, ...type }]));

/** Array types have it; the map's common type of constructors does not. */
function elementBytes(dtype: string): number | undefined {
  const type = byDtype.get(dtype);
  return type === undefined ? undefined : new type.array(new ArrayBuffer(0)).BYTES_PER_ELEMENT;
}

/** BundleHeaderProto; returns num_shards. */
function parseHeader(value: Uint8Array, where: string): number {
  let shards = 1;
  let bigEndian = false;
  let minConsumer = 0;
  const walker = walkerOf(value, `${where}, header`);
  walker.whole("the header", {
    1: () => {
      if (walker.wire === WireType.LengthDelimited) {
        throw problem("is a table of TensorFlow's older V1 format, which is not read", {
          where,
          hint: "Load it in TensorFlow and save it with tf.compat.v1.train.Saver(write_version=2)",
        });
      }
      shards = walker.count("a number of data files");
    },
    2: () => (bigEndian = walker.count("an endianness") !== 0),
    3: () =>
      walker.message("the version", {
        1: () => walker.skip("a producer"),
        2: () => (minConsumer = walker.count("a version")),
        3: () => walker.skip("a bad consumer"),
      }),
  });
  if (bigEndian) {
    throw problem("the checkpoint was written on a big-endian machine, which is not read", {
      where,
      expected: "endianness LITTLE",
      found: "BIG",
    });
  }
  if (minConsumer > BUNDLE_VERSION) {
    throw problem("the checkpoint is of a newer format", {
      where,
      expected: `version ${BUNDLE_VERSION}`,
      found: `one that needs version ${minConsumer}`,
    });
  }
  if (shards < 1 || shards > MAX_SHARDS) {
    throw problem("the checkpoint's number of data files is impossible", {
      where: `${where}, header`,
      expected: `1 to ${MAX_SHARDS}`,
      found: `${shards}`,
    });
  }
  return shards;
}

/** kTensorBundleVersion. */
const BUNDLE_VERSION = 1;

function encodeHeader(): Uint8Array {
  const version = new BinaryWriter().tag(1, WireType.Varint).int32(BUNDLE_VERSION).finish();
  const header = new BinaryWriter().tag(1, WireType.Varint).int32(1);
  return header.tag(3, WireType.LengthDelimited).bytes(version).finish();
}

/** BundleEntryProto. Zeros are left out, as protobuf does. */
function encodeEntry({ dtype, shape, offset, bytes, crc }: BundleEntry): Uint8Array {
  const dimensions = new BinaryWriter();
  for (const length of shape) {
    const dimension = new BinaryWriter();
    if (length !== 0) dimension.tag(1, WireType.Varint).int64(length);
    dimensions.tag(2, WireType.LengthDelimited).bytes(dimension.finish());
  }
  const entry = new BinaryWriter().tag(1, WireType.Varint).int32(byDtype.get(dtype)?.number ?? 0);
  entry.tag(2, WireType.LengthDelimited).bytes(dimensions.finish());
  if (offset > 0) entry.tag(4, WireType.Varint).int64(offset);
  if (bytes > 0) entry.tag(5, WireType.Varint).int64(bytes);
  if (crc !== 0) entry.tag(6, WireType.Bit32).fixed32(crc);
  return entry.finish();
}

/** BundleEntryProto. */
function parseEntry(value: Uint8Array, where: string): BundleEntry {
  let dtype: BundleEntry["dtype"] | undefined;
  let slices = 0;
  const shape: number[] = [];
  const numbers = { shard: 0, offset: 0, bytes: 0, crc: 0 };
  const walker = walkerOf(value, where);
  /** Its name says nothing. */
  const dimension = (): void => {
    let length = 0;
    walker.message("a dimension", {
      1: () => (length = walker.count("a length")),
      2: () => walker.skip("a name"),
    });
    if (shape.length === MAX_DIMENSIONS) walker.fail(`more than ${MAX_DIMENSIONS} dimensions`);
    shape.push(length);
  };
  walker.whole(
    "the entry",
    {
      1: () => {
        const number = walker.count("a type");
        dtype =
          types.get(number)?.dtype ?? otherTypes.get(number) ?? walker.fail(`an unknown type ${number}`);
      },
      2: () => walker.message("the shape", { 2: dimension }, [2]),
      3: () => (numbers.shard = walker.count("a data file")),
      4: () => (numbers.offset = walker.count("an offset")),
      5: () => (numbers.bytes = walker.count("a size")),
      6: () => (numbers.crc = walker.fixed32("a checksum")),
      7: () => {
        walker.bytesOf("a slice");
        slices++;
      },
    },
    [7],
  );
  if (dtype === undefined) return walker.fail("no type");
  return { dtype, shape, ...numbers, slices };
}

function walkerOf(bytes: Uint8Array, where: string): ProtobufWalker {
  return new ProtobufWalker(bytes, (what, at) =>
    problem(`cannot be read, at byte ${at} of it: ${what}`, { where }),
  );
}

function checkSize({ dtype, shape, offset, bytes, slices }: BundleEntry, name: string, where: string): void {
  const fail = (what: string, expected: string, found: string): never => {
    throw problem(what, { where: `${where}, tensor ${quoted(name)}`, expected, found });
  };
  if (!Number.isSafeInteger(offset + bytes))
    fail("the tensor's place is impossible", "below 2^53", `${offset}`);
  const size = elementBytes(dtype);
  if (size === undefined || slices > 0) return;
  let needed = size;
  // A length of 0 makes the product 0, whatever the others are, but never less than what it was.
  for (const length of shape) {
    needed *= length;
    if (!Number.isSafeInteger(needed))
      fail("the tensor is too large", "below 2^53 bytes", `[${shape.join(", ")}]`);
  }
  if (needed !== bytes) {
    fail(
      "the tensor's size does not fit its shape",
      `${needed} bytes for [${shape.join(", ")}] ${dtype}`,
      `${bytes}`,
    );
  }
}

/** No byte belongs to two tensors. */
function refuseOverlaps(entries: ReadonlyMap<string, BundleEntry>, where: string): void {
  const inOrder = [...entries].filter(([, { bytes, slices }]) => bytes > 0 && slices === 0);
  inOrder.sort(([, a], [, b]) => a.shard - b.shard || a.offset - b.offset);
  for (let i = 1; i < inOrder.length; i++) {
    const [[before, a], [name, b]] = [inOrder[i - 1]!, inOrder[i]!];
    if (a.shard !== b.shard || a.offset + a.bytes <= b.offset) continue;
    throw problem(`the tensor overlaps ${quoted(before)}`, {
      where: `${where}, tensor ${quoted(name)}`,
      expected: `from byte ${a.offset + a.bytes} on`,
      found: `${b.offset}`,
    });
  }
}

function decodeName(key: Uint8Array, where: string): string {
  const name = utf8Of(key);
  if (name === undefined) {
    const found = Buffer.from(key.subarray(0, 60)).toString("hex");
    throw problem("a tensor's name is not UTF-8", { where, found });
  }
  if (!isName(name)) throw problem("a tensor's name is not allowed", { where, found: quoted(name) });
  return name;
}

function isName(name: string): boolean {
  return isPlainName(name) && !isObjectProperty(name);
}
