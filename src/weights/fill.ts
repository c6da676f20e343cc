/**
 * Tensors of an open file, copied to their places in our flat arrays; a number that is not finite, or a variance below 0, is
 * refused by name.
 */

import type { ParameterTable } from "../models/initialise.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { fillTensor, type FlatWeights, takeTensor, type WeightTensor } from "../models/tensor-names.js";
import type { VariantName, Width } from "../models/variants.js";
import { compile } from "../program/compile.js";
import { notFinite, refuseNegative } from "../run/checkpoint-tensors.js";
import type { WeightsEntry, WeightsFile } from "./weights-file.js";

/** The table of a network's tensors: the same for every batch and picture size. */
export function layoutOf(variant: VariantName, width: Width, classes: number): ParameterTable {
  return compile(shuffleNetV2({ variant, width, classes }), { batch: 1, imageSize: 32, mode: "infer" });
}

/** Copies a tensor under its name in the file. @throws CheckpointError where it does not fit, or is not finite. */
export async function fillFrom(
  file: WeightsFile,
  [tensor, name]: readonly [WeightTensor, string],
  into: Float32Array,
): Promise<void> {
  const data = await file.read(name);
  if (!data.every(Number.isFinite)) throw notFinite(file.path, name, data);
  if (tensor.canonical.endsWith(".moving_variance")) refuseNegative(file.path, name, data);
  const { shape } = file.tensors.get(name) as WeightsEntry;
  fillTensor(tensor, { shape, data }, into);
}

/** Copies the outputs of a classifier that both have; further ones stay as they were drawn. */
export async function fillOutputs(
  file: WeightsFile,
  [tensor, name]: readonly [WeightTensor, string],
  weights: FlatWeights,
): Promise<void> {
  const { shape } = file.tensors.get(name) as WeightsEntry;
  // Outputs are rows of our weight and bias; where they are columns (TensorFlow), `order` says so.
  const axis = tensor.order.indexOf(0);
  const fits =
    shape.length === tensor.shape.length && shape.every((n, i) => i === axis || n === tensor.shape[i]);
  if (!fits || shape[axis] === tensor.shape[axis]) return fillFrom(file, [tensor, name], weights.parameters);
  const theirs = await file.read(name);
  if (!theirs.every(Number.isFinite)) throw notFinite(file.path, name, theirs);
  const ours = takeTensor(tensor, weights.parameters);
  const [from, into] = [shape[axis] as number, tensor.shape[axis] as number];
  // Elements behind one output, and how often outputs are counted through.
  const behind = shape.slice(axis + 1).reduce((product, n) => product * n, 1);
  const before = shape.slice(0, axis).reduce((product, n) => product * n, 1);
  const kept = Math.min(from, into) * behind;
  for (let i = 0; i < before; i++) {
    ours.set(theirs.subarray(i * from * behind, i * from * behind + kept), i * into * behind);
  }
  fillTensor(tensor, { shape: tensor.shape, data: ours }, weights.parameters);
}
