/**
 * The three ShuffleNet V2s in the wild, a row each: same paper, different numbers.
 *
 * Weights trained as one row score worse, or do not load at all, when run as another; so every place
 * where the implementations differ is a field here, and the builder asks only this table.
 *
 * Sources, by row:
 *   tensorflow   TropComplique/shufflenet-v2-tensorflow @ 22e56159, architecture.py and model.py
 *   torchvision  pytorch/vision, torchvision/models/shufflenetv2.py; training: references/classification
 *   megvii       megvii-model/ShuffleNet-Series @ a96672fd, ShuffleNetV2/{network,blocks,train}.py
 */

import type { InitialisationVersion } from "./initialise.js";
import type { BatchNormRule, InputRule, Padding, Role } from "./layers.js";

export const variantNames = ["tensorflow", "torchvision", "megvii"] as const;
export type VariantName = (typeof variantNames)[number];

/** Width multipliers, as the paper names its models. */
export const widths = [0.5, 1.0, 1.5, 2.0] as const;
export type Width = (typeof widths)[number];

/**
 * Where channels of the two halves of a unit meet:
 * `between-units` interleaves the halves before each unit but a stage's first, runs the unit on the first half;
 * `after-unit` interleaves after every unit, runs the unit on the second half;
 * `before-unit` sends even channels past the unit, odd ones through it.
 */
export type Shuffle = "between-units" | "after-unit" | "before-unit";

interface StageWidths {
  /** Output channels of stages 2, 3 and 4. */
  readonly stages: readonly [number, number, number];
  /** Channels of conv5, the classifier's features. */
  readonly conv5: number;
}

export interface Variant {
  readonly stem: number;
  /** Units of stages 2, 3 and 4. */
  readonly repeats: readonly [number, number, number];
  readonly widths: Readonly<Record<Width, StageWidths>>;
  readonly padding: Padding;
  readonly batchNorm: BatchNormRule;
  readonly input: InputRule;
  readonly shuffle: Shuffle;
  /** Output channels of a downsampling unit's first pointwise convolution. */
  readonly downsampleBefore: "input channels" | "half the unit";
  /** Output channels of a downsampling unit's side branch; the main branch makes up the rest. */
  readonly downsampleSide: "input channels" | "half the unit";
  readonly classifierBias: boolean;
  readonly dropout: Readonly<Record<Width, number>>;
  readonly decays: readonly Role[];
  readonly initialisation: InitialisationVersion;
}

/** Paper, table 5; at 2.0x as torchvision and megvii have it. */
const PAPER_WIDTHS: Variant["widths"] = {
  0.5: { stages: [48, 96, 192], conv5: 1024 },
  1: { stages: [116, 232, 464], conv5: 1024 },
  1.5: { stages: [176, 352, 704], conv5: 1024 },
  2: { stages: [244, 488, 976], conv5: 2048 },
};

const NO_DROPOUT: Variant["dropout"] = { 0.5: 0, 1: 0, 1.5: 0, 2: 0 };

/** torch.nn.BatchNorm2d's defaults: eps 1e-5, momentum 0.1 in its own terms. */
const TORCH_BATCH_NORM: BatchNormRule = { epsilon: 1e-5, momentum: 0.9 };

export const variants: Readonly<Record<VariantName, Variant>> = {
  tensorflow: {
    stem: 24,
    repeats: [4, 8, 4],
    // architecture.py, `possibilities`: 224 at 2.0x, doubled from stage to stage.
    widths: { ...PAPER_WIDTHS, 2: { stages: [224, 448, 896], conv5: 2048 } },
    padding: "same",
    // 0.997 as f32: TensorFlow computes 1 - momentum from it, 0.0030000210.
    batchNorm: { epsilon: 1e-3, momentum: Math.fround(0.997) },
    input: lineageInput(),
    shuffle: "between-units",
    downsampleBefore: "input channels",
    downsampleSide: "half the unit",
    classifierBias: true,
    dropout: NO_DROPOUT,
    // model.py decays variables named `weights` but not `depthwise_weights`.
    decays: ["convolution", "linear"],
    initialisation: "xavier_uniform",
  },
  torchvision: {
    stem: 24,
    repeats: [4, 8, 4],
    widths: PAPER_WIDTHS,
    padding: "one",
    batchNorm: TORCH_BATCH_NORM,
    input: imageNetInput(),
    shuffle: "after-unit",
    downsampleBefore: "half the unit",
    downsampleSide: "half the unit",
    classifierBias: true,
    dropout: NO_DROPOUT,
    // references/classification/train.py: --norm-weight-decay not given, so every parameter decays.
    decays: ["convolution", "depthwise", "gamma", "beta", "linear", "bias"],
    initialisation: "torch",
  },
  megvii: {
    stem: 24,
    repeats: [4, 8, 4],
    widths: PAPER_WIDTHS,
    padding: "one",
    batchNorm: TORCH_BATCH_NORM,
    // train.py, ToBGRTensor: bytes as they are, blue first.
    input: { channelOrder: [2, 1, 0], scale: [1, 1, 1], shift: [0, 0, 0] },
    shuffle: "before-unit",
    downsampleBefore: "half the unit",
    // blocks.py: branch_proj keeps `inp` channels and the main branch has `oup - inp`.
    downsampleSide: "input channels",
    classifierBias: false,
    dropout: { ...NO_DROPOUT, 2: 0.2 },
    // utils.py, get_parameters: weights of more than one dimension.
    decays: ["convolution", "depthwise", "linear"],
    initialisation: "megvii",
  },
};

/** 2x - 1 of x = byte * f32(1/255): the pipeline multiplies by the rounded number, TensorFlow's f32 constant. */
function lineageInput(): InputRule {
  const scale = 2 * Math.fround(1 / 255);
  return { channelOrder: [0, 1, 2], scale: [scale, scale, scale], shift: [-1, -1, -1] };
}

/** (byte / 255 - mean) / std, with ImageNet's mean and deviation as torchvision states them. */
function imageNetInput(): InputRule {
  const mean = [0.485, 0.456, 0.406] as const;
  const std = [0.229, 0.224, 0.225] as const;
  return {
    channelOrder: [0, 1, 2],
    scale: [1 / (255 * std[0]), 1 / (255 * std[1]), 1 / (255 * std[2])],
    shift: [-mean[0] / std[0], -mean[1] / std[1], -mean[2] / std[2]],
  };
}
