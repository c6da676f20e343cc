/**
 * The one door for weights: whatever a file or folder of them is, one call opens it, and has it closed.
 *
 * It is recognised by what stands in it, never by its name: PyTorch zip and legacy, safetensors, TensorFlow checkpoints, our own
 * checkpoints and runs, whose checksums are verified first. What goes wrong behind the door is worded as a checkpoint's.
 *
 * From here weights are matched (match.ts), filled in (fill.ts), described (describe.ts), and leave as a run or a file
 * (import-weights.ts) or as what training begins with (initialise-from.ts).
 */

import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import { closing } from "../core/closing.js";
import { exists } from "../core/durable.js";
import { CheckpointError } from "../core/error.js";
import { openRegular, readFully } from "../formats/read-file.js";
import { openSafetensors } from "../formats/safetensors.js";
import { TABLE_MAGIC } from "../formats/sstable.js";
import { bundlePrefix, readBundle, type TensorBundle } from "../formats/tf-bundle.js";
import { latestCheckpoint, prefixesIn } from "../formats/tf-checkpoint-state.js";
import { isTorchCheckpoint, openTorchCheckpoint } from "../formats/torch-checkpoint.js";
import { stepOf, sumsFile } from "../run/checkpoint.js";
import { asCheckpointError } from "../run/checkpoint-error.js";
import { weightsFile } from "../run/checkpoint-tensors.js";
import { readCheckpoint } from "../run/find-checkpoint.js";

/** A file of weights while it is open. */
export interface WeightsFile {
  readonly path: string;
  /** What it is, in words: "PyTorch checkpoint (zip)". */
  readonly form: string;
  /** A checkpoint of ours, which holds weights as trained under their plain names. */
  readonly isOwn: boolean;
  /** In the order of the file. */
  readonly tensors: ReadonlyMap<string, WeightsEntry>;
  /** Text that the file carries beside its tensors. */
  readonly metadata: ReadonlyMap<string, string>;
  /** Reads one tensor as f32. @throws CheckpointError, FormatError; CheckpointError for types that are no numbers */
  read(name: string): Promise<Float32Array>;
}

export interface WeightsEntry {
  /** As the file's own system calls it. */
  readonly dtype: string;
  readonly shape: readonly number[];
}

/**
 * Opens `path` for one use.
 *
 * @throws CheckpointError with the reason why it is not read; and what `use` throws.
 */
export async function useWeights<T>(path: string, use: (file: WeightsFile) => Promise<T>): Promise<T> {
  try {
    return await closing(async (atEnd) => use(await openWeights(path, atEnd)));
  } catch (error) {
    throw asCheckpointError(error, path);
  }
}

/** A TensorFlow checkpoint that is open already. */
export function ofBundle(path: string, bundle: TensorBundle): WeightsFile {
  return {
    path,
    form: "TensorFlow checkpoint",
    isOwn: false,
    tensors: bundle.entries,
    metadata: new Map(),
    read: async (name) => toFloat32(path, name, (await bundle.read(name)).data),
  };
}

type AtEnd = (step: () => unknown) => void;

async function openWeights(path: string, atEnd: AtEnd): Promise<WeightsFile> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) {
    const prefix = bundlePrefix(path);
    if (await exists(`${prefix}.index`)) return ofBundle(path, await readBundle(prefix));
    throw new CheckpointError({ what: "there is no such file or folder", where: path });
  }
  if (found.isDirectory()) return openFolder(path, atEnd);
  if (basename(path) === weightsFile && (await exists(join(dirname(path), sumsFile)))) {
    return openOwn(path, atEnd);
  }
  const { head, tail } = await endsOf(path);
  if (isTorchCheckpoint(head)) return openTorch(path);
  if (tail.equals(TABLE_MAGIC) || /\.data-\d{5,}-of-\d{5,}$/.test(path)) {
    return ofBundle(path, await readBundle(bundlePrefix(path)));
  }
  if (head[8] === OPENING_BRACE) return openTensors(path, path, atEnd);
  throw new CheckpointError({
    what: "is no file of weights that is read",
    where: path,
    expected: "a PyTorch checkpoint, safetensors, a TensorFlow checkpoint, or a folder of one or of a run",
    found: `a file that begins with the bytes ${head.subarray(0, 8).toString("hex") || "of nothing"}`,
  });
}

/** The first byte behind the length in a safetensors file. */
const OPENING_BRACE = 0x7b;

async function endsOf(path: string): Promise<{ head: Buffer; tail: Buffer }> {
  const { file, size } = await openRegular(path);
  try {
    const head = Buffer.alloc(Math.min(size, 512));
    const tail = Buffer.alloc(Math.min(size, TABLE_MAGIC.length));
    await readFully(file, head, 0, path);
    await readFully(file, tail, size - tail.length, path);
    return { head, tail };
  } finally {
    await file.close();
  }
}

/** A run of ours or a checkpoint in it, weights lying in a folder, or a folder of TensorFlow's. */
async function openFolder(path: string, atEnd: AtEnd): Promise<WeightsFile> {
  const names = await readdir(path);
  if (names.some((name) => name === sumsFile || name === "best" || stepOf(name) !== undefined)) {
    return openOwn(path, atEnd);
  }
  if (names.includes(weightsFile)) return openTensors(path, join(path, weightsFile), atEnd);
  if (names.includes("checkpoint") || (await prefixesIn(path)).length > 0) {
    return ofBundle(path, (await latestCheckpoint(path)).bundle);
  }
  throw new CheckpointError({
    what: "holds no weights",
    where: path,
    expected: "best/ or weights.safetensors of a run, or a TensorFlow checkpoint",
    found: "none of them",
  });
}

async function openOwn(path: string, atEnd: AtEnd): Promise<WeightsFile> {
  // best/ of a run in progress may be replaced before it is open.
  const open = await readCheckpoint(path, (found) => openTensors(path, join(found.path, weightsFile), atEnd));
  return { ...open, isOwn: true };
}

async function openTensors(path: string, file: string, atEnd: AtEnd): Promise<WeightsFile> {
  const opened = await openSafetensors(file);
  atEnd(() => opened.close());
  const { tensors, metadata } = opened;
  const form = metadata.get("format") === "riffle" ? "Riffle weights (safetensors)" : "safetensors";
  return { path, form, isOwn: false, tensors, metadata, read: (name) => opened.readFloat32(name) };
}

async function openTorch(path: string): Promise<WeightsFile> {
  const { container, tensors } = await openTorchCheckpoint(path);
  return {
    path,
    form: `PyTorch checkpoint (${container})`,
    isOwn: false,
    tensors,
    metadata: new Map(),
    // A promise also of what throws, as the other forms give one.
    read: (name) => Promise.resolve(name).then(() => toFloat32(path, name, tensors.get(name)?.read())),
  };
}

/** Weights are floats; whole numbers in their place are another file than was meant. */
function toFloat32(path: string, name: string, data: unknown): Float32Array {
  if (data instanceof Float32Array) return data;
  if (data instanceof Float64Array) return Float32Array.from(data);
  throw new CheckpointError({
    what: "the tensor is no floating-point weight",
    where: `${path}, tensor ${name}`,
    expected: "float32, float64, float16 or bfloat16",
    found: data === undefined ? "no such tensor" : (data as object).constructor.name,
  });
}
