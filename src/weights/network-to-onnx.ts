/**
 * network -> ONNX: layers as data become a graph of ONNX's operators, in the form that other tools know.
 *
 *     convolution, batch norm   Conv with bias (folded), or Conv and BatchNormalization (kept)
 *     shuffle and split         Concat, Reshape, Transpose, Reshape, Split
 *     pool, classifier          MaxPool; GlobalAveragePool, Flatten, Gemm
 *
 * The number of images is free ("N"); height and width are those given, since TensorFlow's padding of an
 * even side is another than that of an odd one. Convolutions are padded explicitly, never by `auto_pad`.
 *
 * Opset 17 with IR version 8: none of these operators changed for f32 between opset 13 and 17, so it is read by
 * everything since 2022 (ONNX 1.12, ONNX Runtime 1.12), and a reader of opset 13 loses nothing.
 *
 * Sizes are in pixels and channels.
 */

import { ShapeError } from "../core/error.js";
import {
  floatTensor,
  integerTensor,
  type OnnxAttribute,
  type OnnxModel,
  type OnnxNode,
  type OnnxTensor,
} from "../formats/onnx.js";
import type { ParameterTable } from "../models/initialise.js";
import {
  type ArrangeLayer,
  type BatchNormLayer,
  type Channel,
  channelsOf,
  type ConvolutionLayer,
  type DepthwiseLayer,
  type GlobalAveragePoolLayer,
  IMAGE,
  interleave,
  type LinearLayer,
  type MaxPoolLayer,
  type Network,
  type Padding,
} from "../models/layers.js";
import { exportWeights, type FlatWeights } from "../models/tensor-names.js";
import { windowGeometry } from "../program/window.js";

/** What the graph takes: pixels as the network wants them, or R, G, B from 0 to 255 and does the rest itself. */
export const onnxInputs = ["normalised", "pixels"] as const;
export type OnnxInput = (typeof onnxInputs)[number];

export interface OnnxExportOptions {
  /** Height and width. */
  readonly imageSize: number;
  /** BatchNormalization nodes instead of their numbers in the convolutions. */
  readonly keepBatchNorm: boolean;
  readonly input: OnnxInput;
  readonly producerVersion: string;
  readonly metadata: ReadonlyMap<string, string>;
}

const OPSET = 17;
const IR_VERSION = 8;
/** Name of the axis of images. */
const BATCH = "N";
const OUTPUT = "logits";

/** The model of a network with its weights: input "image" [N, 3, size, size] f32, output "logits" [N, classes]. */
export function networkToOnnx(
  network: Network,
  table: ParameterTable,
  weights: FlatWeights,
  options: OnnxExportOptions,
): OnnxModel {
  const { nodes, initializers } = new GraphBuilder(network, table, weights, options).build();
  const { imageSize: side } = options;
  return {
    irVersion: IR_VERSION,
    opset: OPSET,
    producer: { name: "riffle", version: options.producerVersion },
    metadata: options.metadata,
    graph: {
      name: network.name,
      nodes,
      initializers,
      inputs: [{ name: IMAGE, shape: [BATCH, 3, side, side] }],
      outputs: [{ name: OUTPUT, shape: [BATCH, network.classes] }],
    },
  };
}

/** A map of the network as the graph has it. */
interface Feature {
  /** Name of the value in the graph. */
  readonly value: string;
  /** What its channels are called in `arrange` layers. */
  readonly channels: readonly Channel[];
  /** Height and width. */
  readonly side: number;
}

class GraphBuilder {
  readonly #nodes: OnnxNode[] = [];
  readonly #initializers = new Map<string, OnnxTensor>();
  readonly #maps = new Map<string, Feature>();
  /** Values whose channels a later `arrange` may name: maps, and halves that went past a unit. */
  #live: Feature[] = [];
  readonly #weights: ReturnType<typeof exportWeights>;
  readonly #norms: ReadonlyMap<string, BatchNormLayer>;

  constructor(
    private readonly network: Network,
    table: ParameterTable,
    weights: FlatWeights,
    private readonly options: OnnxExportOptions,
  ) {
    this.#weights = exportWeights(table, "canonical", weights);
    this.#norms = new Map(
      network.layers.flatMap((layer) => (layer.kind === "batchNorm" ? [[layer.input, layer]] : [])),
    );
  }

  build(): { nodes: OnnxNode[]; initializers: ReadonlyMap<string, OnnxTensor> } {
    this.#image();
    for (const layer of this.network.layers) {
      switch (layer.kind) {
        case "convolution":
        case "depthwise":
          this.#convolution(layer);
          break;
        case "batchNorm":
          this.#batchNorm(layer);
          break;
        case "maxPool":
          this.#maxPool(layer);
          break;
        case "arrange":
          this.#arrange(layer);
          break;
        case "globalAveragePool":
          this.#globalAveragePool(layer);
          break;
        case "linear":
          this.#linear(layer);
      }
    }
    return { nodes: this.#nodes, initializers: this.#initializers };
  }

  /** In the order and range that the network wants. */
  #image(): void {
    const { scale, shift, channelOrder } = this.network.input;
    let value: string = IMAGE;
    if (this.options.input === "pixels") {
      const perChannel = (name: string, numbers: readonly number[]): string =>
        this.#constant(name, floatTensor([1, 3, 1, 1], Float32Array.from(numbers)));
      if (scale.some((s) => s !== 1)) {
        value = this.#node("Mul", "image.scaled", [value, perChannel("image.scale", scale)]);
      }
      if (shift.some((s) => s !== 0)) {
        value = this.#node("Add", "image.shifted", [value, perChannel("image.shift", shift)]);
      }
      if (channelOrder.some((channel, i) => channel !== i)) {
        const order = this.#constant("image.channel_order", integerTensor(channelOrder));
        value = this.#node("Gather", "image.reordered", [value, order], { axis: int(1) });
      }
    }
    this.#maps.set(IMAGE, { value, channels: channelsOf(IMAGE, 3), side: this.options.imageSize });
  }

  #convolution(layer: ConvolutionLayer | DepthwiseLayer): void {
    const input = this.#map(layer.input);
    const depthwise = layer.kind === "depthwise";
    const kernel = depthwise ? 3 : layer.kernel;
    const window = windowOf(input.side, kernel, layer.stride, layer.padding);
    const norm = this.#norms.get(layer.name);
    const own = this.#tensor(`${layer.name}.weight`);
    const inputs = [input.value];
    if (norm === undefined || this.options.keepBatchNorm) {
      inputs.push(this.#constant(`${layer.name}.weight`, floatTensor(own.shape, own.data)));
    } else {
      const { scale, shift } = this.#affine(norm);
      const each = own.data.length / scale.length;
      const folded = own.data.map((w, i) => w * (scale[Math.floor(i / each)] as number));
      inputs.push(
        this.#constant(`${layer.name}.weight`, floatTensor(own.shape, folded)),
        this.#constant(`${layer.name}.bias`, floatTensor([shift.length], Float32Array.from(shift))),
      );
    }
    const channels = own.shape[0] as number;
    const value = this.#node("Conv", layer.name, inputs, {
      kernel_shape: ints(kernel, kernel),
      strides: ints(layer.stride, layer.stride),
      pads: ints(...window.pads),
      group: int(depthwise ? channels : 1),
    });
    this.#maps.set(layer.name, { value, channels: channelsOf(layer.name, channels), side: window.outputs });
  }

  #batchNorm(layer: BatchNormLayer): void {
    const input = this.#map(layer.input);
    let { value } = input;
    if (this.options.keepBatchNorm) {
      const tensors = ["gamma", "beta", "moving_mean", "moving_variance"].map((kind) => {
        const name = `${layer.input}.${kind}`;
        const { shape, data } = this.#tensor(name);
        return this.#constant(name, floatTensor(shape, data));
      });
      value = this.#node("BatchNormalization", layer.name, [value, ...tensors], {
        epsilon: { kind: "float", value: this.network.batchNorm.epsilon },
      });
    }
    if (layer.relu) value = this.#node("Relu", `${layer.name}.relu`, [value]);
    this.#add(layer.name, value, input.channels.length, input.side);
  }

  #maxPool(layer: MaxPoolLayer): void {
    const input = this.#map(layer.input);
    const window = windowOf(input.side, 3, 2, layer.padding);
    const value = this.#node("MaxPool", layer.name, [input.value], {
      kernel_shape: ints(3, 3),
      strides: ints(2, 2),
      pads: ints(...window.pads),
    });
    this.#add(layer.name, value, input.channels.length, window.outputs);
  }

  #globalAveragePool(layer: GlobalAveragePoolLayer): void {
    const { value, channels } = this.#map(layer.input);
    this.#add(layer.name, this.#node("GlobalAveragePool", layer.name, [value]), channels.length, 1);
  }

  #linear(layer: LinearLayer): void {
    const input = this.#map(layer.input);
    const flat = this.#node("Flatten", `${layer.input}.flat`, [input.value], { axis: int(1) });
    const tensors = [`${layer.name}.weight`, ...(layer.bias ? [`${layer.name}.bias`] : [])].map((name) => {
      const { shape, data } = this.#tensor(name);
      return this.#constant(name, floatTensor(shape, data));
    });
    this.#node("Gemm", layer.name, [flat, ...tensors], { transB: int(1) }, [OUTPUT]);
  }

  /**
   * Finds which two values the channels come from and how: joined, interleaved, or a half of either, of which the other
   * half goes past the next unit. An arrangement that is none of these is gathered channel by channel.
   */
  #arrange({ name, channels: wanted }: ArrangeLayer): void {
    for (const a of this.#live) {
      for (const b of this.#live) {
        if (a === b || a.side !== b.side) continue;
        const joined = [...a.channels, ...b.channels];
        if (same(joined, wanted)) {
          return this.#add(name, this.#concat(name, [a, b]), wanted.length, a.side);
        }
        if (a.channels.length !== b.channels.length) continue;
        const interleaved = interleave(a.channels, b.channels);
        if (same(interleaved, wanted)) {
          return this.#add(name, this.#shuffle(name, a, b, 2), wanted.length, a.side);
        }
        // A half of the interleaved, or of the joined the even or odd ones: the latter is a shuffle of as many groups.
        const dealt = [...joined.filter((_, i) => i % 2 === 0), ...joined.filter((_, i) => i % 2 === 1)];
        for (const [shuffled, groups] of [
          [interleaved, 2],
          [dealt, a.channels.length],
        ] as const) {
          const place = [shuffled.slice(0, wanted.length), shuffled.slice(wanted.length)].findIndex((half) =>
            same(half, wanted),
          );
          if (place >= 0) return this.#split(name, { a, b, shuffled, groups, place });
        }
      }
    }
    this.#gather(name, wanted);
  }

  #split(
    name: string,
    how: { a: Feature; b: Feature; shuffled: readonly Channel[]; groups: number; place: number },
  ): void {
    const { a, b, shuffled, groups, place } = how;
    const half = shuffled.length / 2;
    const outputs = place === 0 ? [name, `${name}.past`] : [`${name}.past`, name];
    const sizes = this.#constant(`split.${half}.${half}`, integerTensor([half, half]));
    this.#node("Split", name, [this.#shuffle(name, a, b, groups), sizes], { axis: int(1) }, outputs);
    this.#add(name, name, half, a.side);
    const past = place === 0 ? shuffled.slice(half) : shuffled.slice(0, half);
    this.#live = this.#live.filter((feature) => feature !== a && feature !== b);
    this.#live.push({ value: `${name}.past`, channels: past, side: a.side });
  }

  /** Channels of both, dealt out to `groups` and read across: with 2, a0 b0 a1 b1 ... */
  #shuffle(name: string, a: Feature, b: Feature, groups: number): string {
    const count = a.channels.length + b.channels.length;
    const { side } = a;
    const reshape = (to: string, value: string, shape: readonly number[]): string =>
      this.#node("Reshape", to, [value, this.#constant(`shape.${shape.join(".")}`, integerTensor(shape))]);
    const grouped = reshape(`${name}.grouped`, this.#concat(`${name}.joined`, [a, b]), [
      0,
      groups,
      count / groups,
      side,
      side,
    ]);
    const across = this.#node("Transpose", `${name}.across`, [grouped], { perm: ints(0, 2, 1, 3, 4) });
    return reshape(`${name}.shuffled`, across, [0, count, side, side]);
  }

  #concat(name: string, features: readonly Feature[]): string {
    return this.#node(
      "Concat",
      name,
      features.map(({ value }) => value),
      { axis: int(1) },
    );
  }

  #gather(name: string, wanted: readonly Channel[]): void {
    const sources = [...new Set(wanted.map(({ map }) => map))].map((map) => this.#map(map));
    const [first] = sources;
    if (first === undefined) throw new ShapeError(`layer "${name}" arranges no channels`);
    const joined = sources.length === 1 ? first.value : this.#concat(`${name}.joined`, sources);
    const starts = new Map<string, number>();
    let start = 0;
    for (const { channels } of sources) {
      starts.set((channels[0] as Channel).map, start);
      start += channels.length;
    }
    const indices = wanted.map(({ map, channel }) => (starts.get(map) as number) + channel);
    const order = this.#constant(`${name}.channels`, integerTensor(indices));
    const value = this.#node("Gather", name, [joined, order], { axis: int(1) });
    this.#add(name, value, wanted.length, first.side);
  }

  /** Batch norm with moving statistics as y = scale * x + shift, a pair of numbers a channel. */
  #affine(layer: BatchNormLayer): { scale: number[]; shift: number[] } {
    const [gamma, beta, mean, variance] = ["gamma", "beta", "moving_mean", "moving_variance"].map(
      (kind) => this.#tensor(`${layer.input}.${kind}`).data,
    ) as [Float32Array, Float32Array, Float32Array, Float32Array];
    const { epsilon } = this.network.batchNorm;
    const scale = Array.from(gamma, (g, i) => g / Math.sqrt((variance[i] as number) + epsilon));
    const shift = Array.from(beta, (b, i) => b - (mean[i] as number) * (scale[i] as number));
    return { scale, shift };
  }

  #add(name: string, value: string, channels: number, side: number): void {
    const feature = { value, channels: channelsOf(name, channels), side };
    this.#maps.set(name, feature);
    this.#live.push(feature);
  }

  #map(name: string): Feature {
    const feature = this.#maps.get(name);
    if (feature === undefined) throw new ShapeError(`no layer before it defines the map "${name}"`);
    return feature;
  }

  #tensor(name: string): { readonly shape: readonly number[]; readonly data: Float32Array } {
    const tensor = this.#weights.get(name);
    if (tensor === undefined) throw new ShapeError(`the network has no tensor "${name}"`);
    return tensor;
  }

  /** @returns its name; constants of one name are the same. */
  #constant(name: string, tensor: OnnxTensor): string {
    this.#initializers.set(name, tensor);
    return name;
  }

  /** @returns the name of its (first) output. */
  #node(
    operator: string,
    name: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, OnnxAttribute>> = {},
    outputs: readonly string[] = [name],
  ): string {
    this.#nodes.push({ name, operator, inputs, outputs, attributes: new Map(Object.entries(attributes)) });
    return outputs[0] as string;
  }
}

/** Outputs along one side, and [top, left, bottom, right] in ONNX's order. */
function windowOf(
  side: number,
  kernel: number,
  stride: 1 | 2,
  padding: Padding,
): { outputs: number; pads: [number, number, number, number] } {
  if (kernel === 1) return { outputs: Math.ceil(side / stride), pads: [0, 0, 0, 0] };
  const { outputHeight: outputs, padTop: before } = windowGeometry(side, stride, padding);
  // PyTorch pads both ends, whether or not a window reaches the last pixel; "SAME" what the last window needs.
  const after = padding === "one" ? 1 : Math.max(0, (outputs - 1) * stride + kernel - side - before);
  return { outputs, pads: [before, before, after, after] };
}

function same(a: readonly Channel[], b: readonly Channel[]): boolean {
  return (
    a.length === b.length && a.every(({ map, channel }, i) => map === b[i]?.map && channel === b[i].channel)
  );
}

function int(value: number): OnnxAttribute {
  return { kind: "int", value };
}

function ints(...value: number[]): OnnxAttribute {
  return { kind: "ints", value };
}
