/**
 * Starting weights, each a pure function of (seed, place in the parameter table, place in the tensor).
 *
 * So a run can be repeated, and growing one tensor (another number of classes) leaves all others alone.
 *
 * A "fan" is how many products meet in one output (in) or how many outputs one input reaches (out).
 */

import { Draws, streams } from "../core/random.js";
import type { Role } from "./layers.js";

export const initialisationVersions = [
  "he_uniform",
  "he_normal",
  "xavier_uniform",
  "xavier_normal",
  "torch",
  "megvii",
] as const;
export type InitialisationVersion = (typeof initialisationVersions)[number];

/** What a program tells about its trained tensors; `Program` is one. */
export interface ParameterTable {
  readonly parameters: readonly ParameterEntry[];
  /** Elements of the flat parameter array. */
  readonly parameterCount: number;
  readonly planes: { readonly length: number };
}

export interface ParameterEntry {
  readonly name: string;
  /** [out, in, kh, kw], depthwise [channels, 1, 3, 3], linear [classes, features], else [n]. */
  readonly shape: readonly number[];
  readonly offset: number;
  readonly size: number;
  readonly role: Role;
  /** The plane of a gamma's or beta's first element; its others follow. */
  readonly plane?: number;
}

interface InitialisationOptions {
  readonly version: InitialisationVersion;
  readonly seed: number;
}

/** The flat parameter array at the start of training, written over zeros where they are given. */
export function initialise(
  table: ParameterTable,
  options: InitialisationOptions,
  values: Float32Array = new Float32Array(table.parameterCount),
): Float32Array {
  table.parameters.forEach((parameter, place) => {
    const draws = new Draws(options.seed, streams.initialise, 0, place);
    const draw = distribution(table, parameter, options.version, draws);
    for (let i = 0; i < parameter.size; i++) values[parameter.offset + i] = draw();
  });
  return values;
}

/** [2 * planes]: moving means 0, moving variances 1. */
export function initialStatistics(table: ParameterTable): Float32Array {
  const planes = table.planes.length;
  return new Float32Array(2 * planes).fill(1, planes);
}

function distribution(
  table: ParameterTable,
  parameter: ParameterEntry,
  version: InitialisationVersion,
  draws: Draws,
): () => number {
  switch (parameter.role) {
    case "gamma":
      return () => 1;
    case "beta":
      // network.py, _initialize_weights: BatchNorm biases 0.0001.
      return () => (version === "megvii" ? 1e-4 : 0);
    case "bias":
      return biasDistribution(table, version, draws);
    case "convolution":
    case "depthwise":
    case "linear":
      return weightDistribution(parameter, version, draws);
  }
}

function weightDistribution(p: ParameterEntry, version: InitialisationVersion, draws: Draws): () => number {
  const { fanIn, fanOut } = tensorflowFans(p);
  const uniform = (limit: number) => () => draws.uniform(-limit, limit);
  const normal = (deviation: number) => () => deviation * draws.normal();
  switch (version) {
    case "he_uniform":
      return uniform(Math.sqrt(6 / fanIn));
    case "he_normal":
      return normal(Math.sqrt(2 / fanIn));
    case "xavier_uniform":
      return uniform(Math.sqrt(6 / (fanIn + fanOut)));
    case "xavier_normal":
      return normal(Math.sqrt(2 / (fanIn + fanOut)));
    case "torch":
      return uniform(1 / Math.sqrt(torchFanIn(p)));
    case "megvii":
      // network.py: the first convolution and the classifier 0.01, others 1 / shape[1].
      return normal(p.role === "linear" || p.name.startsWith("conv1.") ? 0.01 : 1 / (p.shape[1] as number));
  }
}

/** torch.nn.Linear draws its bias from +-1 / sqrt(features); everyone else starts at zero. */
function biasDistribution(table: ParameterTable, version: InitialisationVersion, draws: Draws): () => number {
  const linear = table.parameters.find((p) => p.role === "linear");
  if (version !== "torch" || linear === undefined) return () => 0;
  const limit = 1 / Math.sqrt(torchFanIn(linear));
  return () => draws.uniform(-limit, limit);
}

/**
 * TensorFlow's fans: receptive field x shape[-2] and x shape[-1] of its own layout. A depthwise tensor is
 * [3, 3, c, 1] there, so its fans are 9c and 9, far more than the 9 products that meet.
 *
 * Source: tf.keras.initializers.VarianceScaling, as the lineage's default uses it.
 */
function tensorflowFans(p: ParameterEntry): { fanIn: number; fanOut: number } {
  const [out = 1, within = 1, height = 1, width = 1] = p.shape;
  const field = height * width;
  return p.role === "depthwise"
    ? { fanIn: field * out, fanOut: field }
    : { fanIn: field * within, fanOut: field * out };
}

/** torch.nn.init's fan_in: everything but the first axis. kaiming_uniform_(a=sqrt(5)) is +-1/sqrt(fan_in). */
function torchFanIn(p: ParameterEntry): number {
  return p.size / (p.shape[0] as number);
}
