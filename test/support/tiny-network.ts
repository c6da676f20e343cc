/**
 * Small networks and f64 state for tests of steps: a stem, some layers of the test's choice, a head.
 *
 * Layers are added by name, in order; `normalised(name)` is the map of a layer's batch norm, "pool1" the
 * stem's output.
 */

import type { TrainingArrays } from "../../src/backends/backend.js";
import type { ParameterTable } from "../../src/models/initialise.js";
import {
  convolutionNorm,
  IMAGE,
  normalised,
  type Channel,
  type Layer,
  type Network,
  type Padding,
} from "../../src/models/layers.js";

export interface TinyOptions {
  readonly padding: Padding;
  readonly classes: number;
  /** Channels of the stem. */
  readonly stem: number;
}

export interface TinyBuilder {
  pointwise(name: string, input: string, channels: number, relu?: boolean): void;
  depthwise(name: string, input: string, stride: 1 | 2, relu: boolean): void;
  arrange(name: string, channels: readonly Channel[]): void;
}

/** The head reads the batch norm of the last convolution that `build` adds. */
export function tinyNetwork(options: TinyOptions, build: (net: TinyBuilder) => void): Network {
  const { padding, classes, stem } = options;
  const layers: Layer[] = [
    ...convolutionNorm(
      { name: "conv1", input: IMAGE, channels: stem, kernel: 3, stride: 2, padding },
      { relu: true },
    ),
    { kind: "maxPool", name: "pool1", input: normalised("conv1"), padding },
  ];
  let last = "pool1";
  build({
    pointwise(name, input, channels, relu = true) {
      layers.push(...convolutionNorm({ name, input, channels, kernel: 1, stride: 1, padding }, { relu }));
      last = normalised(name);
    },
    depthwise(name, input, stride, relu) {
      layers.push(...convolutionNorm({ name, input, stride, padding }, { relu }));
      last = normalised(name);
    },
    arrange: (name, channels) => layers.push({ kind: "arrange", name, channels }),
  });
  layers.push(
    { kind: "globalAveragePool", name: "pool", input: last },
    { kind: "linear", name: "classifier", input: "pool", classes, bias: true, dropout: 0 },
  );
  return {
    name: "tiny",
    classes,
    input: { channelOrder: [2, 0, 1], scale: [1 / 128, 1 / 100, 1 / 150], shift: [-1, -1.2, -0.8] },
    batchNorm: { epsilon: 1e-3, momentum: 0.9 },
    decays: ["convolution", "linear"],
    smallestImage: 1,
    layers,
  };
}

/**
 * A training state in f64 beginning at these parameters. The interface says f32; the reference backend does not
 * mind, and a test can then see its formulas without f32 rounding.
 */
export function stateInDoubles(table: ParameterTable, parameters: ArrayLike<number>): TrainingArrays {
  const flat = () => new Float64Array(table.parameterCount);
  const planes = table.planes.length;
  const state = {
    parameters: Float64Array.from(parameters),
    momentum: flat(),
    averages: Float64Array.from(parameters),
    gradients: flat(),
    statistics: new Float64Array(2 * planes).fill(1, planes),
  };
  return state as unknown as TrainingArrays;
}
