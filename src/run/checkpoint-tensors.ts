/**
 * The tensors of a checkpoint: their names, and the flat arrays that they are read into and written from.
 *
 * `NAME` the weights, `NAME` of a batch norm also as `….moving_mean` and `….moving_variance`, `momentum/NAME`,
 * `averages/NAME`. A tensor of another shape, one that is not finite, or a variance below 0 is refused by name.
 */

import type { TrainingState, Weights } from "../backends/backend.js";
import { CheckpointError } from "../core/error.js";
import { encodeSafetensors, type Float32Tensor, type SafetensorsFile } from "../formats/safetensors.js";
import type { ParameterTable } from "../models/initialise.js";
import { tensorsOf } from "../models/tensor-names.js";
import { untouched } from "./checkpoint-error.js";
import type { CheckpointState, ModelDescription } from "./checkpoint-state.js";

export const weightsFile = "weights.safetensors";

/** What is to be saved: whole training, or one set of weights. */
export type Saved =
  | { readonly kind: "training"; readonly state: TrainingState }
  | { readonly kind: "weights"; readonly weights: Weights };

/** All of training, as it was saved, into the arrays given. @throws CheckpointError when the network is another. */
export async function readTraining(
  file: SafetensorsFile,
  where: string,
  layout: ParameterTable,
  state: TrainingState = {
    parameters: new Float32Array(layout.parameterCount),
    statistics: new Float32Array(2 * layout.planes.length),
    momentum: new Float32Array(layout.parameterCount),
    averages: new Float32Array(layout.parameterCount),
  },
): Promise<TrainingState> {
  await fill(file, where, slotsOf(layout, { kind: "training", state }));
  return state;
}

/** The weights to use a network with: the averages where they were kept. @throws CheckpointError */
export async function readWeights(
  file: SafetensorsFile,
  where: string,
  { kind, settings }: Pick<CheckpointState, "kind" | "settings">,
  layout: ParameterTable,
): Promise<Weights> {
  const weights = {
    parameters: new Float32Array(layout.parameterCount),
    statistics: new Float32Array(2 * layout.planes.length),
  };
  const averaged = kind === "training" && Number(settings["average_decay"]) > 0;
  const slots = slotsOf(layout, { kind: "weights", weights }).map((slot) =>
    averaged && !isStatistic(slot.name) ? { ...slot, name: `averages/${slot.name}` } : slot,
  );
  await fill(file, where, slots);
  return weights;
}

/**
 * As one file that says what network it is; `--init_from` and other programs read it.
 *
 * @returns its bytes, in pieces
 */
export function encodeTensors(layout: ParameterTable, saved: Saved, model: ModelDescription): Uint8Array[] {
  return encodeSafetensors(slotsOf(layout, saved), metadataOf(model));
}

/** Every tensor's name and shape, and the memory it is read into or written from. */
function slotsOf(layout: ParameterTable, saved: Saved): Float32Tensor[] {
  const weights = saved.kind === "training" ? saved.state : saved.weights;
  const slots = tensorsOf(layout, "canonical").map(({ name, shape, array, offset, size }) => ({
    name,
    shape,
    data: weights[array].subarray(offset, offset + size),
  }));
  if (saved.kind === "weights") return slots;
  return [
    ...slots,
    ...parameterSlots(layout, saved.state.momentum, "momentum/"),
    ...parameterSlots(layout, saved.state.averages, "averages/"),
  ];
}

function parameterSlots(layout: ParameterTable, values: Float32Array, prefix: string): Float32Tensor[] {
  return layout.parameters.map(({ name, shape, offset, size }) => ({
    name: `${prefix}${name}`,
    shape,
    data: values.subarray(offset, offset + size),
  }));
}

function isStatistic(name: string): boolean {
  return /\.moving_(mean|variance)$/.test(name);
}

/** So that the weights file alone says what network it is. */
function metadataOf(model: ModelDescription): Map<string, string> {
  return new Map([
    ["format", "riffle"],
    ["network", `shufflenet-v2 ${model.width.toFixed(1)}x (${model.variant})`],
    ["image_size", String(model.image_size)],
    ["eval_resize", String(model.eval_resize)],
    ["pipeline", model.pipeline],
    ["class_names", JSON.stringify(model.class_names)],
    ...(model.exif_orientation === undefined ? [] : [["exif_orientation", model.exif_orientation] as const]),
  ]);
}

/** Reads every slot from the file. */
async function fill(file: SafetensorsFile, path: string, slots: readonly Float32Tensor[]): Promise<void> {
  for (const { name, shape, data } of slots) {
    const entry = file.tensors.get(name);
    if (entry === undefined || !sameShape(entry.shape, shape)) {
      throw otherNetwork(path, name, shape, entry?.shape);
    }
    data.set(await file.readFloat32(name));
    if (!data.every(Number.isFinite)) throw notFinite(path, name, data);
    if (name.endsWith(".moving_variance")) refuseNegative(path, name, data);
  }
}

export function otherNetwork(
  path: string,
  name: string,
  shape: readonly number[],
  found: readonly number[] | undefined,
): CheckpointError {
  return new CheckpointError({
    what: "the weights are of another network",
    where: `${path}, tensor ${name}`,
    expected: `[${shape.join(", ")}]`,
    found: found === undefined ? "no such tensor" : `[${found.join(", ")}]`,
    ...untouched,
    hint: "Give the --width and --variant that the weights were trained with",
  });
}

export function notFinite(path: string, name: string, data: Float32Array): CheckpointError {
  const index = data.findIndex((value) => !Number.isFinite(value));
  return new CheckpointError({
    what: "the weights are not finite",
    where: `${path}, tensor ${name}, element ${index}`,
    expected: "finite numbers",
    found: `${data[index]}`,
    ...untouched,
  });
}

/** A variance below 0 has no root, and batch norm with it no value: the file was damaged, or never was of this network. */
export function refuseNegative(path: string, name: string, variances: Float32Array): void {
  const index = variances.findIndex((value) => value < 0);
  if (index < 0) return;
  throw new CheckpointError({
    what: "a moving variance is below 0",
    where: `${path}, tensor ${name}, element ${index}`,
    expected: "0 or more",
    found: `${variances[index]}`,
    ...untouched,
  });
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((length, axis) => length === b[axis]);
}
