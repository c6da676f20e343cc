/**
 * A network as data: layers over named feature maps, first to last.
 *
 * Nothing here computes. The compiler turns the list into steps over planes, so a new network is a new
 * list and no new code; a backend never sees a layer.
 *
 * A feature map is an ordered list of channels, and every layer defines one map under its own name.
 * Channel counts are numbers of channels; image sizes are decided when a program is compiled.
 */

import { ShapeError } from "../core/error.js";

/**
 * Where a window of stride 2 lands. Both make the output ceil(input / 2) long.
 *
 * `same` is TensorFlow's "SAME": an odd leftover goes after, so an even size is padded (0, 1).
 * `one` is PyTorch's padding=1: (1, 1). At stride 1 the two agree.
 */
export type Padding = "same" | "one";

/** What a trained tensor is for; weight decay and initialisation go by it. */
export type Role = "convolution" | "depthwise" | "gamma" | "beta" | "linear" | "bias";

/** A convolution without bias: each output channel mixes all input channels. */
export interface ConvolutionLayer {
  readonly kind: "convolution";
  readonly name: string;
  readonly input: string;
  /** Output channels. */
  readonly channels: number;
  readonly kernel: 1 | 3;
  readonly stride: 1 | 2;
  readonly padding: Padding;
}

/** A 3x3 convolution without bias, one filter a channel; channels never mix. */
export interface DepthwiseLayer {
  readonly kind: "depthwise";
  readonly name: string;
  readonly input: string;
  readonly stride: 1 | 2;
  readonly padding: Padding;
}

/** Batch normalisation of the map `input`; its tensors carry that map's name ("conv1.gamma"). */
export interface BatchNormLayer {
  readonly kind: "batchNorm";
  readonly name: string;
  readonly input: string;
  readonly relu: boolean;
}

/** 3x3 max pooling of stride 2. Padding is never the maximum. */
export interface MaxPoolLayer {
  readonly kind: "maxPool";
  readonly name: string;
  readonly input: string;
  readonly padding: Padding;
}

/** Split, concat and shuffle alike: the new map lists channels of earlier maps. Moves no data. */
export interface ArrangeLayer {
  readonly kind: "arrange";
  readonly name: string;
  readonly channels: readonly Channel[];
}

export interface Channel {
  readonly map: string;
  readonly channel: number;
}

/** One number per channel and image: the mean over its pixels. */
export interface GlobalAveragePoolLayer {
  readonly kind: "globalAveragePool";
  readonly name: string;
  readonly input: string;
}

/** Fully connected, after dropping a share `dropout` of its inputs (training only). */
export interface LinearLayer {
  readonly kind: "linear";
  readonly name: string;
  readonly input: string;
  readonly classes: number;
  readonly bias: boolean;
  readonly dropout: number;
}

export type Layer =
  | ConvolutionLayer
  | DepthwiseLayer
  | BatchNormLayer
  | MaxPoolLayer
  | ArrangeLayer
  | GlobalAveragePoolLayer
  | LinearLayer;

/** The name under which layers read the picture: 3 channels, RGB bytes. */
export const IMAGE = "image";

/** What the network makes of a byte: its input is `scale[c] * byte + shift[c]` for image channel c. */
export interface InputRule {
  /** The network's input channel i is image channel channelOrder[i] of R, G, B. */
  readonly channelOrder: readonly [number, number, number];
  readonly scale: readonly [number, number, number];
  readonly shift: readonly [number, number, number];
}

/** moving -= (1 - momentum) * (moving - batch): PyTorch's `momentum` is 1 - this one. */
export interface BatchNormRule {
  readonly epsilon: number;
  readonly momentum: number;
}

export interface Network {
  /** For people and files, e.g. "shufflenet-v2 1.0x (tensorflow)". */
  readonly name: string;
  readonly classes: number;
  readonly input: InputRule;
  readonly batchNorm: BatchNormRule;
  /** Tensors of these roles are subject to weight decay. */
  readonly decays: readonly Role[];
  /** Sides shorter than this leave some layer without pixels to look at. */
  readonly smallestImage: number;
  readonly layers: readonly Layer[];
}

/** A convolution, its batch norm and perhaps a ReLU; readers use the map `normalised(name)`. */
export function convolutionNorm(
  layer: Omit<ConvolutionLayer, "kind"> | Omit<DepthwiseLayer, "kind">,
  options: { readonly relu: boolean },
): Layer[] {
  const convolution: Layer =
    "channels" in layer ? { kind: "convolution", ...layer } : { kind: "depthwise", ...layer };
  return [
    convolution,
    { kind: "batchNorm", name: normalised(layer.name), input: layer.name, relu: options.relu },
  ];
}

/** The name of the map that a convolution's batch norm defines. */
export function normalised(name: string): string {
  return `${name}.norm`;
}

/** All channels of a map of `count` channels. */
export function channelsOf(map: string, count: number): Channel[] {
  return Array.from({ length: count }, (_, channel) => ({ map, channel }));
}

/** a0 b0 a1 b1 ...: a shuffle of two groups. */
export function interleave(a: readonly Channel[], b: readonly Channel[]): Channel[] {
  if (a.length !== b.length) {
    throw new ShapeError(`cannot interleave ${a.length} channels with ${b.length}`);
  }
  return a.flatMap((channel, i) => [channel, b[i] as Channel]);
}
