/**
 * TensorFlow's V2 checkpoints ("tensor bundles"): named tensors, read one by one and written whole.
 *
 *     PREFIX.index                 a sorted table: "" -> header, tensor's name -> type, shape, shard, place, CRC32C
 *     PREFIX.data-00000-of-00001   the tensors' bytes, row-major, little-endian; larger checkpoints have several shards
 *
 * Opening reads the index alone and holds every entry against the sizes of the shards, so a file that is cut short is
 * found there; a tensor's checksum is verified when it is read. An index without its data lists names and shapes.
 *
 * Offsets and sizes are in bytes, shapes in elements. What the index says of a tensor: tf-bundle-index.ts.
 *
 * Source: tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
 */

import { stat } from "node:fs/promises";

import { exists, replaceFile } from "../core/durable.js";
import { CheckpointError, errorCode, FormatError, isOfThePath, ResourceError } from "../core/error.js";
import { hex32, maskedCrc32c } from "./crc32c.js";
import { quoted } from "./plain-name.js";
import { openRegular, readFully, readWhole } from "./read-file.js";
import { FOOTER_BYTES, TABLE_MAGIC } from "./sstable.js";
import {
  arrayOf,
  type BundleEntry,
  type BundleTensor,
  encodeBundleIndex,
  parseBundleIndex,
  problem,
} from "./tf-bundle-index.js";

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
      throw problem(`tensor ${quoted(name)} lies beyond the end of its file; is the file complete?`, {
        where: paths[shard],
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
          where: `${prefix}.index, tensor ${quoted(name)}`,
        });
      }
      const where = `${paths[entry.shard]}, tensor ${quoted(name)}`;
      return readTensor(entry, shards[entry.shard] as BundleShard, where);
    },
  };
}

/** Reads every tensor of a type that is read, so that all checksums are verified. @throws CheckpointError */
export async function verifyBundle(bundle: TensorBundle): Promise<void> {
  for (const [name, { dtype, slices }] of bundle.entries) {
    if (arrayOf(dtype) !== undefined && slices === 0) await bundle.read(name);
  }
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
  const inOrder = [...tensors].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const data: Uint8Array[] = [];
  const entries: [string, BundleEntry][] = [];
  let offset = 0;
  for (const [name, { dtype, shape, data: values }] of inOrder) {
    if (shape.reduce((product, length) => product * length, 1) !== values.length) {
      throw new RangeError(`tensor ${name}: shape [${shape.join(", ")}] is not ${values.length} elements`);
    }
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const crc = maskedCrc32c(bytes);
    entries.push([name, { dtype, shape, shard: 0, offset, bytes: bytes.length, crc, slices: 0 }]);
    data.push(bytes);
    offset += bytes.length;
  }
  return { index: encodeBundleIndex(entries), data };
}

/** A network of this family needs 30 KB; an index above this is an attack or a mistake. */
const MAX_INDEX_BYTES = 16 * 2 ** 20;

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
  const array = arrayOf(dtype);
  if (array === undefined) {
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
  return { dtype, shape, data: new array(memory.buffer) } as BundleTensor;
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

/** A file that cannot be read, in a checkpoint's words; the machine's errors and ours are passed on. */
export function asProblem(cause: unknown, where: string): unknown {
  if (cause instanceof FormatError) {
    const { what, expected, found } = cause.problem;
    return problem(`cannot be read: ${what}`, { where, expected, found }, cause);
  }
  // A disk that fails says nothing of the checkpoint.
  return isOfThePath(cause) ? problem(`cannot be read (${errorCode(cause)})`, { where }, cause) : cause;
}
