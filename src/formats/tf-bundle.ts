/**
 * TensorFlow's V2 checkpoints ("tensor bundles"): named tensors, read one by one and written whole.
 *
 *     PREFIX.index                 a sorted table: "" -> header, tensor's name -> type, shape, shard, place, CRC32C
 *     PREFIX.data-00000-of-00001   the tensors' bytes, row-major, little-endian; larger checkpoints have several shards
 *
 * Opening reads the index alone and holds every entry against the sizes of the shards, so a file that is cut short is
 * found there; a tensor's checksum is verified when it is read. An index without its data lists names and shapes.
 *
 * Offsets and sizes are in bytes, shapes in elements.
 *
 * Source: tensorflow/core/protobuf/tensor_bundle.proto, tensorflow/core/framework/{types,tensor_shape}.proto,
 * tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
 */

import { stat } from "node:fs/promises";

import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { errorCode, exists, replaceFile } from "../core/durable.js";
import { CheckpointError, FormatError, ResourceError } from "../core/error.js";
import { hex32, maskedCrc32c } from "./crc32c.js";
import { ProtobufWalker } from "./protobuf.js";
import { openRegular, readFully, readWhole } from "./read-file.js";
import { encodeTable, FOOTER_BYTES, readTable, TABLE_MAGIC, type TableEntry } from "./sstable.js";

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
interface BundleEntry {
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

/** A checkpoint whose index has been verified. Nothing is kept open. */
export interface TensorBundle {
  readonly prefix: string;
  /** In the order of their names' bytes. */
  readonly entries: ReadonlyMap<string, BundleEntry>;
  /** Data files that are not there: then names and shapes are all there is. */
  readonly missing: readonly string[];
  /**
   * Reads one tensor and verifies its checksum.
   *
   * @throws CheckpointError naming the tensor.
   */
  read(name: string): Promise<BundleTensor>;
}

/** The prefix of a checkpoint's files, from itself or from the name of one of them. */
export function bundlePrefix(path: string): string {
  return path.replace(/\.(index|meta|data-\d{5,}-of-\d{5,})$/, "");
}

/**
 * Opens the checkpoint `prefix`, such as "model/model.ckpt-5".
 *
 * @throws CheckpointError with the reason why it cannot be read.
 */
export async function readBundle(prefix: string): Promise<TensorBundle> {
  const path = `${prefix}.index`;
  if (!(await isThere(path))) throw await noIndex(prefix);
  return openBundle(prefix, await readIndex(path), dataFileAt);
}

/** One of a checkpoint's data files. */
interface BundleShard {
  /** Undefined where it is not there. */
  readonly bytes: number | undefined;
  /** Fills `into` from byte `position` on; what is asked for lies within `bytes`. */
  read(into: Uint8Array, position: number): Promise<void>;
}

/**
 * The checkpoint of an index's bytes, its data files opened by `shardAt`.
 *
 * @throws CheckpointError
 */
export async function openBundle(
  prefix: string,
  index: Uint8Array,
  shardAt: (path: string) => Promise<BundleShard>,
): Promise<TensorBundle> {
  const { shards: count, entries } = parseBundleIndex(index, `${prefix}.index`);
  const paths = Array.from({ length: count }, (_, shard) => dataFile(prefix, shard, count));
  const shards: BundleShard[] = [];
  for (const path of paths) shards.push(await shardAt(path));
  for (const [name, { shard, offset, bytes }] of entries) {
    const size = shards[shard]?.bytes;
    if (size !== undefined && offset + bytes > size) {
      throw problem(`tensor ${quote(name)} lies beyond the end of its file; is the file complete?`, {
        where: paths[shard] as string,
        expected: `at least ${offset + bytes} bytes`,
        found: `${size}`,
      });
    }
  }
  return {
    prefix,
    entries,
    missing: paths.filter((_, i) => shards[i]?.bytes === undefined),
    read: async (name) => {
      const entry = entries.get(name);
      if (entry === undefined) {
        throw problem("the checkpoint has no such tensor", {
          where: `${prefix}.index, tensor ${quote(name)}`,
        });
      }
      const where = `${paths[entry.shard]}, tensor ${quote(name)}`;
      return readTensor(entry, shards[entry.shard] as BundleShard, where);
    },
  };
}

/** Reads every tensor of a type that is read, so that all checksums are verified. @throws CheckpointError */
export async function verifyBundle(bundle: TensorBundle): Promise<void> {
  for (const [name, { dtype, slices }] of bundle.entries) {
    if (isReadable(dtype) && slices === 0) await bundle.read(name);
  }
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
    const entry = parseEntry(value, `${where}, tensor ${quote(name)}`);
    if (entry.shard >= shards) {
      throw problem("the tensor lies in a shard that the checkpoint has not", {
        where: `${where}, tensor ${quote(name)}`,
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

interface WriteBundleOptions {
  /** Replaces a checkpoint of the same name that holds something else; otherwise it is refused. */
  readonly replace?: boolean;
}

/**
 * Writes `prefix.data-00000-of-00001` and then `prefix.index`: with its index a checkpoint is there, without it not.
 *
 * @throws ResourceError when the disk refuses, or another checkpoint stands under the name.
 */
export async function writeBundle(
  prefix: string,
  tensors: ReadonlyMap<string, BundleTensor>,
  { replace = false }: WriteBundleOptions = {},
): Promise<void> {
  const { index, data } = encodeBundle(tensors);
  const [indexPath, dataPath] = [`${prefix}.index`, dataFile(prefix, 0, 1)];
  if (await exists(indexPath)) {
    if ((await sameBytes(indexPath, [index])) && (await sameBytes(dataPath, data))) return;
    if (!replace) {
      throw new ResourceError({
        what: "another checkpoint stands under this name",
        where: indexPath,
        expected: "nothing, or a checkpoint of the same tensors",
        found: "other tensors",
        safe: "It was left as it is",
        hint: "Name another folder",
      });
    }
  }
  await replaceFile(dataPath, data);
  await replaceFile(indexPath, [index]);
}

/** Both files; the data in pieces that share the tensors' memory. */
export function encodeBundle(tensors: ReadonlyMap<string, BundleTensor>): {
  readonly index: Uint8Array;
  readonly data: readonly Uint8Array[];
} {
  const named = [...tensors].map(([name, tensor]) => ({ key: Buffer.from(name), name, tensor }));
  named.sort((a, b) => Buffer.compare(a.key, b.key));
  const data: Uint8Array[] = [];
  let offset = 0;
  const entries: TableEntry[] = [{ key: new Uint8Array(0), value: encodeHeader() }];
  for (const { key, name, tensor } of named) {
    const { dtype, shape, data: values } = tensor;
    if (shape.reduce((product, length) => product * length, 1) !== values.length) {
      throw new RangeError(`tensor ${name}: shape [${shape.join(", ")}] is not ${values.length} elements`);
    }
    if (!isName(name)) throw new RangeError(`a tensor cannot have the name ${quote(name)}`);
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const crc = maskedCrc32c(bytes);
    entries.push({
      key,
      value: encodeEntry({ dtype, shape, shard: 0, offset, bytes: bytes.length, crc, slices: 0 }),
    });
    data.push(bytes);
    offset += bytes.length;
  }
  return { index: encodeTable(entries), data };
}

/** A network of this family needs 30 KB; an index above this is an attack or a mistake. */
const MAX_INDEX_BYTES = 16 * 2 ** 20;
const MAX_NAME_BYTES = 1024;
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

function isReadable(dtype: BundleEntry["dtype"]): dtype is BundleDtype {
  return byDtype.has(dtype);
}

async function readTensor(entry: BundleEntry, file: BundleShard, where: string): Promise<BundleTensor> {
  const { dtype, shape, offset, bytes, crc, slices } = entry;
  if (slices > 0) {
    throw problem("is a partitioned variable, which is not read", {
      where,
      expected: "a variable saved whole",
      found: `${slices} slices`,
      hint: "Save it in TensorFlow without a partitioner",
    });
  }
  const type = byDtype.get(dtype);
  if (type === undefined) {
    throw problem("is of a type that is not read", { where, expected: "numbers or booleans", found: dtype });
  }
  // Before anything is allocated: without its file an entry's size is only a claim.
  if (file.bytes === undefined) {
    throw problem("the checkpoint's data is not there: its index gives names and shapes only", { where });
  }
  const memory = new Uint8Array(bytes);
  try {
    await file.read(memory, offset);
  } catch (cause) {
    throw asProblem(cause, where);
  }
  const found = maskedCrc32c(memory);
  if (found !== crc) {
    throw problem("the tensor is damaged: its checksum does not fit its bytes", {
      where: `${where}, bytes ${offset} to ${offset + bytes}`,
      expected: hex32(crc),
      found: hex32(found),
    });
  }
  return { dtype: type.dtype, shape, data: new type.array(memory.buffer) } as BundleTensor;
}

async function dataFileAt(path: string): Promise<BundleShard> {
  return {
    bytes: await sizeOf(path),
    read: async (into, position) => {
      const { file } = await openRegular(path);
      try {
        await readFully(file, into, position, path);
      } finally {
        await file.close();
      }
    },
  };
}

/** Why there is no index: it may be a checkpoint of the older format, or nothing at all. */
async function noIndex(prefix: string): Promise<CheckpointError> {
  if ((await sizeOf(prefix)) !== undefined && (await endsWithMagic(prefix))) {
    return problem("is a checkpoint of TensorFlow's older V1 format, which is not read", {
      where: prefix,
      expected: "a V2 checkpoint: PREFIX.index and PREFIX.data-00000-of-00001",
      found: "one file",
      hint: "Load it in TensorFlow and save it with tf.compat.v1.train.Saver(write_version=2)",
    });
  }
  return problem("there is no TensorFlow checkpoint of this name", {
    where: prefix,
    expected: `${prefix}.index`,
    found: "nothing",
  });
}

async function endsWithMagic(path: string): Promise<boolean> {
  const { file, size } = await openRegular(path);
  try {
    if (size < FOOTER_BYTES) return false;
    const end = new Uint8Array(TABLE_MAGIC.length);
    await readFully(file, end, size - end.length, path);
    return Buffer.compare(end, TABLE_MAGIC) === 0;
  } finally {
    await file.close();
  }
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
    throw problem(what, { where: `${where}, tensor ${quote(name)}`, expected, found });
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
    throw problem(`the tensor overlaps ${quote(before)}`, {
      where: `${where}, tensor ${quote(name)}`,
      expected: `from byte ${a.offset + a.bytes} on`,
      found: `${b.offset}`,
    });
  }
}

function decodeName(key: Uint8Array, where: string): string {
  let name: string;
  try {
    name = utf8.decode(key);
  } catch (cause) {
    throw problem(
      "a tensor's name is not UTF-8",
      { where, found: Buffer.from(key.subarray(0, 60)).toString("hex") },
      cause,
    );
  }
  if (!isName(name)) throw problem("a tensor's name is not allowed", { where, found: quote(name) });
  return name;
}

/** Names that cannot disturb a terminal, a path or an object. */
function isName(name: string): boolean {
  return (
    name !== "" &&
    Buffer.byteLength(name) <= MAX_NAME_BYTES &&
    !/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(name) &&
    !["__proto__", "constructor", "prototype"].includes(name)
  );
}

/** PREFIX.data-00000-of-00001 */
function dataFile(prefix: string, shard: number, shards: number): string {
  const digits = (value: number): string => String(value).padStart(5, "0");
  return `${prefix}.data-${digits(shard)}-of-${digits(shards)}`;
}

/** Undefined where there is nothing. @throws CheckpointError for what is no regular file. */
async function sizeOf(path: string): Promise<number | undefined> {
  try {
    const found = await stat(path);
    if (!found.isFile()) throw problem("is not a regular file", { where: path });
    return found.size;
  } catch (cause) {
    const code = errorCode(cause);
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw asProblem(cause, path);
  }
}

async function isThere(path: string): Promise<boolean> {
  return (await sizeOf(path)) !== undefined;
}

async function readIndex(path: string): Promise<Uint8Array> {
  try {
    return await readWhole(path, MAX_INDEX_BYTES);
  } catch (cause) {
    throw asProblem(cause, path);
  }
}

async function sameBytes(path: string, pieces: readonly Uint8Array[]): Promise<boolean> {
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  if ((await sizeOf(path)) !== length) return false;
  const { file } = await openRegular(path);
  try {
    let position = 0;
    for (const piece of pieces) {
      const found = new Uint8Array(piece.length);
      await readFully(file, found, position, path);
      if (Buffer.compare(found, piece) !== 0) return false;
      position += piece.length;
    }
    return true;
  } finally {
    await file.close();
  }
}

function problem(
  what: string,
  more: { where: string; expected?: string; found?: string; hint?: string },
  cause?: unknown,
): CheckpointError {
  return new CheckpointError({ what, ...more, safe: "The checkpoint is untouched" }, cause);
}

/** A file that cannot be read, in a checkpoint's words; what is no file's fault is passed on. */
export function asProblem(cause: unknown, where: string): unknown {
  if (cause instanceof FormatError) {
    const { what, expected, found } = cause.problem;
    const numbers = {
      ...(expected === undefined ? {} : { expected }),
      ...(found === undefined ? {} : { found }),
    };
    return problem(`cannot be read: ${what}`, { where, ...numbers }, cause);
  }
  const code = errorCode(cause);
  return code === undefined ? cause : problem(`cannot be read (${code})`, { where }, cause);
}

/** A name for a message: quoted, escaped and short. */
function quote(name: string): string {
  const short = name.length > 100 ? `${name.slice(0, 100)}…` : name;
  return JSON.stringify(short).replace(
    /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu,
    (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`,
  );
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
