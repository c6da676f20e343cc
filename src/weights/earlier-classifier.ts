/**
 * The classifier that a file of weights came with, where training makes another in its place: what it told apart says which
 * directions among the features mean something.
 */

import { fillTensor } from "../models/tensor-names.js";
import type { VariantName } from "../models/variants.js";
import { recognise } from "./match.js";
import type { WeightsFile } from "./weights-file.js";

/**
 * @param features of the network that begins with these weights
 * @returns its weights, [outputs, features]; undefined where the file has none that reads such features
 * @throws CheckpointError where the file is no such network
 */
export async function earlierClassifier(
  file: WeightsFile,
  variant: VariantName,
  features: number,
): Promise<Float32Array | undefined> {
  const recognised = recognise(file, { variant, weights: file.isOwn ? "raw" : undefined });
  const [tensor, name] = recognised.found.find(([each]) => each.canonical === "classifier.weight") ?? [];
  const outputs = recognised.classes ?? 0;
  if (tensor === undefined || name === undefined || recognised.unfit !== undefined) return undefined;
  const ownShape = [outputs, features];
  const shape = tensor.order.map((axis) => ownShape[axis] as number);
  if (outputs === 0 || file.tensors.get(name)?.shape.join() !== shape.join()) return undefined;
  const weight = new Float32Array(outputs * features);
  const data = await file.read(name);
  fillTensor({ ...tensor, ownShape, shape, size: weight.length, offset: 0 }, { shape, data }, weight);
  return weight.every(Number.isFinite) ? weight : undefined;
}
