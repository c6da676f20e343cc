/**
 * What each tensor is called elsewhere, and how it lies there: name maps and transposes.
 *
 * One table row per tensor and scheme, so reading, writing and the slots of an optimizer (which share a
 * weight's shape) all follow the same map.
 *
 * Ours lie as PyTorch's do: [out, in, kh, kw], depthwise [c, 1, 3, 3], linear [classes, features].
 * Flat positions and sizes are in elements.
 *
 * Sources: TropComplique/shufflenet-v2-tensorflow @ 22e56159 (variable scopes), torchvision's
 * shufflenetv2.py and megvii-model/ShuffleNet-Series @ a96672fd (module names).
 */

import { CheckpointError, ShapeError } from "../core/error.js";
import type { ParameterEntry, ParameterTable } from "./initialise.js";
import type { Role } from "./layers.js";

export const schemes = ["canonical", "tensorflow", "torchvision", "megvii"] as const;
/** Whose names and layouts. */
export type Scheme = (typeof schemes)[number];

/** One tensor of a network under another name. */
export interface WeightTensor {
  /** Our name: "<layer>.weight", "<layer>.moving_mean", ... */
  readonly canonical: string;
  readonly name: string;
  /** As the scheme has it. */
  readonly shape: readonly number[];
  /** The scheme's axis i is our axis order[i]. */
  readonly order: readonly number[];
  /** Which flat array of ours it lies in, where, and in which shape. */
  readonly array: "parameters" | "statistics";
  readonly offset: number;
  readonly size: number;
  readonly ownShape: readonly number[];
}

export interface ForeignTensor {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
}

/** The two flat arrays, as a backend has them. */
export interface FlatWeights {
  readonly parameters: Float32Array;
  /** [2 * planes]: moving means, then moving variances. */
  readonly statistics: Float32Array;
}

/** Every trained tensor, and each batch norm's moving statistics after its beta. */
export function tensorsOf(table: ParameterTable, scheme: Scheme): WeightTensor[] {
  return table.parameters.flatMap((parameter) => {
    const { layer, tensor } = splitName(parameter.name);
    const describe = (name: string, place: Pick<WeightTensor, "array" | "offset">): WeightTensor => {
      const order =
        scheme === "tensorflow" ? tensorflowOrder[parameter.role] : parameter.shape.map((_, i) => i);
      return {
        canonical: `${layer}.${name}`,
        name: foreignName(scheme, layer, name, parameter.role),
        shape: order.map((axis) => parameter.shape[axis] as number),
        order,
        ...place,
        size: parameter.size,
        ownShape: parameter.shape,
      };
    };
    const own = describe(tensor, { array: "parameters", offset: parameter.offset });
    return parameter.role === "beta" ? [own, ...movingStatistics(table, parameter, describe)] : [own];
  });
}

/** Copies a tensor of the scheme's layout into our flat array. */
export function fillTensor(tensor: WeightTensor, foreign: ForeignTensor, into: Float32Array): void {
  const fits =
    foreign.shape.length === tensor.shape.length && tensor.shape.every((n, i) => n === foreign.shape[i]);
  if (!fits || foreign.data.length !== tensor.size) {
    throw new CheckpointError({
      what: "the tensor does not fit this network",
      where: tensor.name,
      expected: `shape [${tensor.shape.join(", ")}]`,
      found: `[${foreign.shape.join(", ")}] with ${foreign.data.length} values`,
      hint: "is it a checkpoint of another width, variant or number of classes?",
    });
  }
  if (isOwnOrder(tensor)) {
    into.set(foreign.data, tensor.offset);
    return;
  }
  const positions = ownPositions(tensor);
  for (let i = 0; i < positions.length; i++) {
    into[tensor.offset + (positions[i] as number)] = foreign.data[i] as number;
  }
}

/** A tensor from our flat array, in the scheme's layout. */
export function takeTensor(tensor: WeightTensor, from: Float32Array): Float32Array {
  if (isOwnOrder(tensor)) return from.slice(tensor.offset, tensor.offset + tensor.size);
  const positions = ownPositions(tensor);
  const taken = new Float32Array(positions.length);
  for (let i = 0; i < positions.length; i++)
    taken[i] = from[tensor.offset + (positions[i] as number)] as number;
  return taken;
}

/** Whether the scheme has the elements as they lie in ours. */
function isOwnOrder({ order }: WeightTensor): boolean {
  return order.every((axis, i) => axis === i);
}

/** Both arrays as named tensors of the scheme. */
export function exportWeights(
  table: ParameterTable,
  scheme: Scheme,
  weights: FlatWeights,
): Map<string, { readonly shape: readonly number[]; readonly data: Float32Array }> {
  return new Map(
    tensorsOf(table, scheme).map((tensor) => [
      tensor.name,
      { shape: tensor.shape, data: takeTensor(tensor, weights[tensor.array]) },
    ]),
  );
}

/** Axes in TensorFlow's order: HWIO, [3, 3, c, 1], [features, classes]. */
const tensorflowOrder: Readonly<Record<Role, readonly number[]>> = {
  convolution: [2, 3, 1, 0],
  depthwise: [2, 3, 0, 1],
  linear: [1, 0],
  gamma: [0],
  beta: [0],
  bias: [0],
};

function movingStatistics(
  table: ParameterTable,
  beta: ParameterEntry,
  describe: (name: string, place: Pick<WeightTensor, "array" | "offset">) => WeightTensor,
): WeightTensor[] {
  const planes = table.planes.length;
  const firstPlane = beta.plane as number;
  return [
    describe("moving_mean", { array: "statistics", offset: firstPlane }),
    describe("moving_variance", { array: "statistics", offset: planes + firstPlane }),
  ];
}

function splitName(name: string): { layer: string; tensor: string } {
  const dot = name.lastIndexOf(".");
  return { layer: name.slice(0, dot), tensor: name.slice(dot + 1) };
}

function foreignName(scheme: Scheme, layer: string, tensor: string, role: Role): string {
  switch (scheme) {
    case "canonical":
      return `${layer}.${tensor}`;
    case "tensorflow":
      return tensorflowName(layer, tensor, role);
    case "torchvision":
    case "megvii":
      return torchName(scheme, layer, tensor);
  }
}

/** For example ShuffleNetV2/Stage2/unit_1/second_branch/depthwise/batch_norm/gamma. */
function tensorflowName(layer: string, tensor: string, role: Role): string {
  if (layer === "classifier") return `classifier/${tensor === "bias" ? "biases" : "weights"}`;
  const unit = parseUnit(layer);
  const scope =
    unit === undefined
      ? capital(layer)
      : `Stage${unit.stage}/unit_${unit.unit}/${unit.branch === "side" ? "second_branch/" : ""}` +
        { before: "conv1x1_before", depthwise: "depthwise", after: "conv1x1_after" }[unit.part];
  const weights = role === "depthwise" ? "depthwise_weights" : "weights";
  return `ShuffleNetV2/${scope}/${tensor === "weight" ? weights : `batch_norm/${tensor}`}`;
}

/** For example stage2.0.branch1.1.running_mean; a batch norm is the module after its convolution. */
function torchName(scheme: "torchvision" | "megvii", layer: string, tensor: string): string {
  const outer = torchOuterModules[scheme];
  if (layer === "classifier") return `${outer.classifier}.${tensor}`;
  const unit = parseUnit(layer);
  const isNorm = tensor !== "weight";
  const name = isNorm ? (torchNormTensors[tensor] ?? tensor) : tensor;
  if (unit === undefined) {
    const module = layer === "conv1" ? outer.conv1 : outer.conv5;
    return `${module}.${isNorm ? 1 : 0}.${name}`;
  }
  // Modules of a branch in order: conv, norm, relu, depthwise, norm, conv, norm (the side branch begins at depthwise).
  const places =
    unit.branch === "main" ? { before: 0, depthwise: 3, after: 5 } : { before: -1, depthwise: 0, after: 2 };
  const place = places[unit.part] + (isNorm ? 1 : 0);
  return `${outer.unit(unit.stage, unit.unit)}.${outer[unit.branch]}.${place}.${name}`;
}

const torchNormTensors: Readonly<Record<string, string>> = {
  gamma: "weight",
  beta: "bias",
  moving_mean: "running_mean",
  moving_variance: "running_var",
};

const torchOuterModules = {
  torchvision: {
    conv1: "conv1",
    conv5: "conv5",
    classifier: "fc",
    main: "branch2",
    side: "branch1",
    unit: (stage: number, unit: number) => `stage${stage}.${unit - 1}`,
  },
  megvii: {
    conv1: "first_conv",
    conv5: "conv_last",
    classifier: "classifier.0",
    main: "branch_main",
    side: "branch_proj",
    // One list of units; stages 2 and 3 have 4 and 8 of them.
    unit: (stage: number, unit: number) => `features.${({ 2: 0, 3: 4, 4: 12 }[stage] ?? NaN) + unit - 1}`,
  },
} as const;

interface Unit {
  readonly stage: number;
  readonly unit: number;
  readonly branch: "main" | "side";
  readonly part: "before" | "depthwise" | "after";
}

/** Undefined for conv1 and conv5. */
function parseUnit(layer: string): Unit | undefined {
  if (layer === "conv1" || layer === "conv5") return undefined;
  const match = /^stage(\d+)\.unit(\d+)\.(main|side)\.(before|depthwise|after)$/.exec(layer);
  if (match === null) throw new ShapeError(`layer "${layer}" has no name outside this program`);
  return {
    stage: Number(match[1]),
    unit: Number(match[2]),
    branch: match[3] as Unit["branch"],
    part: match[4] as Unit["part"],
  };
}

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** For each element in the scheme's order: where it lies in ours, from the tensor's beginning. */
function ownPositions({ ownShape, order, shape, size }: WeightTensor): Int32Array {
  const ownStrides = ownShape.map((_, axis) => ownShape.slice(axis + 1).reduce((a, b) => a * b, 1));
  const strides = order.map((axis) => ownStrides[axis] as number);
  const positions = new Int32Array(size);
  for (let i = 0; i < size; i++) {
    let rest = i;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const length = shape[axis] as number;
      positions[i] = (positions[i] as number) + (rest % length) * (strides[axis] as number);
      rest = Math.floor(rest / length);
    }
  }
  return positions;
}
