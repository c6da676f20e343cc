/**
 * TensorFlow's numbers for the `tensorflow` variant, as the tests of every backend read them.
 *
 * The files and what they hold are described in shared/data/tf-reference/README.md.
 */

import type { NpyArray } from "../../src/formats/npy.js";
import type { ParameterTable } from "../../src/models/initialise.js";
import type { FlatWeights, ForeignTensor } from "../../src/models/tensor-names.js";
import { fillTensors } from "./fill-tensors.js";
import { readNpz } from "./read-npz.js";
import type { TrainingArrays } from "../../src/backends/backend.js";
import { sharedPath } from "./shared.js";

/** An archive of numbers; names as NumPy has them. */
export interface Arrays {
  /** Throws when the array is missing or holds text. */
  numbers(name: string): ForeignTensor;
  has(name: string): boolean;
  readonly names: readonly string[];
}

export async function readArrays(file: string): Promise<Arrays> {
  const arrays = await readNpz(sharedPath("tf-reference", file));
  return {
    numbers: (name) => toNumbers(name, arrays.get(name)),
    has: (name) => arrays.has(name),
    names: [...arrays.keys()],
  };
}

/** An array of names. */
export async function readText(file: string, name: string): Promise<readonly string[]> {
  const array = (await readNpz(sharedPath("tf-reference", file), [name])).get(name);
  if (array?.dtype !== "text") throw new Error(`"${name}" of ${file} is not text`);
  return array.data;
}

/** Weights from arrays under TensorFlow's names, each with a prefix. */
export function readWeights(table: ParameterTable, arrays: Arrays, prefix: string, into: FlatWeights): void {
  const read = (name: string): ForeignTensor | undefined =>
    arrays.has(prefix + name) ? arrays.numbers(prefix + name) : undefined;
  fillTensors(table, "tensorflow", read, into);
}

/** Zeroed arrays of the right lengths. */
export function emptyState(table: ParameterTable): TrainingArrays {
  const flat = () => new Float32Array(table.parameterCount);
  return {
    parameters: flat(),
    momentum: flat(),
    averages: flat(),
    gradients: flat(),
    statistics: new Float32Array(2 * table.planes.length),
  };
}

/** Large arrays are stored thinned: every (size // 1024)-th element in C order. */
export function thin(values: ArrayLike<number>): number[] {
  const all = Array.from(values);
  if (all.length <= 2048) return all;
  const step = Math.floor(all.length / 1024);
  return all.filter((_, i) => i % step === 0);
}

function toNumbers(name: string, array: NpyArray | undefined): ForeignTensor {
  if (array === undefined) throw new Error(`no array "${name}" in the archive`);
  if (array.dtype === "text") throw new Error(`"${name}" is text`);
  if (array.dtype === "i8" || array.dtype === "u8") {
    return { shape: array.shape, data: Array.from(array.data, Number) };
  }
  return { shape: array.shape, data: array.data };
}
