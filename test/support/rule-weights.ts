/**
 * Weights that follow from the tensors' TensorFlow names alone, so that logits made by TensorFlow can be
 * compared without shipping 28 MB of weights a width.
 *
 * The rule is the one of shared/data/tf-reference/README.md: with z normal,
 *
 *     depthwise z/3      classifier z/sqrt(features)      other weights z * sqrt(2 / fan_in)
 *     gamma 1 + 0.1 z    beta, moving mean, bias 0.1 z    moving variance exp(0.2 z)
 */

import type { ParameterTable } from "../../src/models/initialise.js";
import {
  fillTensor,
  tensorsOf,
  type FlatWeights,
  type ForeignTensor,
} from "../../src/models/tensor-names.js";
import { crc32, RandomState } from "./numpy-random.js";

export function ruleWeights(table: ParameterTable, ruleSeed: number): FlatWeights {
  const weights = {
    parameters: new Float32Array(table.parameterCount),
    statistics: new Float32Array(2 * table.planes.length),
  };
  for (const tensor of tensorsOf(table, "tensorflow")) {
    fillTensor(tensor, ruleTensor(tensor.name, tensor.shape, ruleSeed), weights[tensor.array]);
  }
  return weights;
}

/** One tensor, in TensorFlow's layout. */
export function ruleTensor(name: string, shape: readonly number[], ruleSeed: number): ForeignTensor {
  const random = new RandomState((crc32(name) ^ ruleSeed) >>> 0);
  const size = shape.reduce((a, b) => a * b, 1);
  const rule = ruleFor(name, shape);
  return { shape, data: Float32Array.from({ length: size }, () => rule(random.normal())) };
}

function ruleFor(name: string, shape: readonly number[]): (z: number) => number {
  if (name.endsWith("/depthwise_weights")) return (z) => z / 3;
  if (name === "classifier/weights") return (z) => z / Math.sqrt(shape[0] as number);
  if (name.endsWith("/weights")) {
    const fanIn = shape.slice(0, -1).reduce((a, b) => a * b, 1);
    return (z) => z * Math.sqrt(2 / fanIn);
  }
  if (name.endsWith("/gamma")) return (z) => 1 + 0.1 * z;
  if (name.endsWith("/moving_variance")) return (z) => Math.exp(0.2 * z);
  return (z) => 0.1 * z;
}
