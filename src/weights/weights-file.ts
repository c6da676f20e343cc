/** A file of weights while it is open, whatever its form: what is asked of it, and the forms that are read from bytes in memory. */

import { CheckpointError } from "../core/error.js";
import { readSafetensors, type SafetensorsFile } from "../formats/safetensors.js";
import { isTorchCheckpoint, parseTorchCheckpoint } from "../formats/torch-checkpoint.js";
import type { TorchCheckpoint } from "../formats/torch-tensors.js";
import { asCheckpointError } from "../run/checkpoint-error.js";
import { type ClassNames, namesInMetadata, namesInPickle } from "./class-names.js";

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
  /**
   * Objects of Python beside the tensors that mean nothing here, each by its place, "args.path", and its class or function.
   * They were never made; a tensor that one of them would make is not among `tensors`.
   */
  readonly objects: ReadonlyMap<string, string>;
  /** Names of classes in the file or beside it, the surest first; which of them fit is for the outputs to say. */
  readonly classNames: readonly ClassNames[];
  /** What was passed over in opening it: a sentence each. */
  readonly notices: readonly string[];
  /** Reads one tensor as f32. @throws CheckpointError, FormatError; CheckpointError for types that are no numbers */
  read(name: string): Promise<Float32Array>;
}

export interface WeightsEntry {
  /** As the file's own system calls it. */
  readonly dtype: string;
  readonly shape: readonly number[];
}

/**
 * A file whose bytes are all in memory: safetensors, or PyTorch's. open.ts has more forms, of files on a disk.
 *
 * @throws CheckpointError with the reason why it is not read
 */
export function weightsIn(bytes: Uint8Array, path: string): WeightsFile {
  try {
    if (isTorchCheckpoint(bytes.subarray(0, 512))) return ofTorch(path, parseTorchCheckpoint(bytes, path));
    if (bytes[8] === OPENING_BRACE) return ofSafetensors(path, readSafetensors(bytes, path));
  } catch (error) {
    throw asCheckpointError(error, path);
  }
  throw new CheckpointError({
    what: "is no file of weights that is read here",
    where: path,
    expected: "safetensors, or a PyTorch checkpoint",
    found: bytes.length === 0 ? "an empty file" : "a file that begins otherwise",
  });
}

/** The first byte behind the length in a safetensors file. */
const OPENING_BRACE = 0x7b;

export function ofSafetensors(path: string, opened: SafetensorsFile): WeightsFile {
  const { tensors, metadata } = opened;
  const form = metadata.get("format") === "riffle" ? "Riffle weights (safetensors)" : "safetensors";
  const classNames = namesInMetadata(metadata);
  return {
    ...plainFile,
    path,
    form,
    tensors,
    metadata,
    classNames,
    read: (name) => opened.readFloat32(name),
  };
}

export function ofTorch(path: string, checkpoint: TorchCheckpoint): WeightsFile {
  const { container, tensors, objects, value, trailing } = checkpoint;
  return {
    ...plainFile,
    path,
    form: `PyTorch checkpoint (${container})`,
    tensors,
    objects,
    classNames: namesInPickle(value),
    notices: trailing === 0 ? [] : [`${trailing} bytes behind the end of what was saved were passed over`],
    // A promise also of what throws, as the other forms give one.
    read: (name) => Promise.resolve(name).then(() => toFloat32(path, name, tensors.get(name)?.read())),
  };
}

/** What most files have not. */
export const plainFile = {
  isOwn: false,
  metadata: new Map<string, string>(),
  objects: new Map<string, string>(),
  classNames: [],
  notices: [],
} as const satisfies Partial<WeightsFile>;

/** Weights are floats; whole numbers in their place are another file than was meant. */
export function toFloat32(path: string, name: string, data: unknown): Float32Array {
  if (data instanceof Float32Array) return data;
  if (data instanceof Float64Array) return Float32Array.from(data);
  throw new CheckpointError({
    what: "the tensor is no floating-point weight",
    where: `${path}, tensor ${name}`,
    expected: "float32, float64, float16 or bfloat16",
    found: data === undefined ? "no such tensor" : (data as object).constructor.name,
  });
}
