/**
 * What travels with exported weights: the network, the names of its classes, and how pictures become its input.
 */

import { evaluationDecodings } from "../data/pictures/augment.js";
import type { InputRule, Network } from "../models/layers.js";
import { type Checkpoint, type ModelDescription, unsaidOrientation } from "../run/checkpoint-state.js";
import { interpolations, type Preprocessing } from "../web/preprocess.js";
import type { OnnxInput } from "./network-to-onnx.js";

/**
 * What a user of the file has to know, as texts: JSON where it is more than a word.
 *
 * `preprocessing`: the picture's shorter side is resized to `resize_shorter_side`, the central `crop` x `crop` pixels are
 * taken; channel c of the input, in `channel_order`, is (byte / 255 - mean[c]) / std[c].
 * `exif_orientation`: "apply" where the picture is first turned as its EXIF says.
 */
export function metadataOf(
  { state }: Pick<Checkpoint, "state">,
  network: Network,
  weights: "average" | "raw",
): Map<string, string> {
  const { model } = state;
  return new Map([
    ["network", network.name],
    ["variant", model.variant],
    ["width", model.width.toFixed(1)],
    ["classes", String(model.classes)],
    ["class_names", JSON.stringify(model.class_names)],
    ["image_size", String(model.image_size)],
    ["eval_resize", String(model.eval_resize)],
    ["pipeline", model.pipeline],
    ["preprocessing", JSON.stringify(preprocessingOf(model, network))],
    ["exif_orientation", model.exif_orientation ?? unsaidOrientation(state)],
    ["step", String(state.step)],
    ["weights", weights],
  ]);
}

/** How pictures become the network's input, from their pixels on. */
export function preprocessingOf(
  { pipeline, eval_resize, image_size }: ModelDescription,
  { input }: Network,
): Preprocessing {
  const { filter } = evaluationDecodings[pipeline];
  return {
    resize_shorter_side: eval_resize,
    interpolation: filter === "tensorflow" ? interpolations.tensorflow : interpolations.pillow,
    crop: image_size,
    layout: "NCHW",
    ...normalisation(input),
  };
}

/** The input rule in the usual terms: of bytes divided by 255, per channel in the network's order. */
function normalisation({ channelOrder, scale, shift }: InputRule) {
  // Six digits: the numbers people know, 0.485 and not 0.48499999999999993.
  const short = (value: number): number => Number(value.toPrecision(6));
  return {
    channel_order: channelOrder.map((channel) => "RGB"[channel]).join(""),
    mean: channelOrder.map((c) => short(-(shift[c] as number) / (255 * (scale[c] as number)))),
    std: channelOrder.map((c) => short(1 / (255 * (scale[c] as number)))),
  };
}

/** What the graph takes, in words. */
export function inputInWords({ input: rule }: Network, input: OnnxInput): string {
  const order = input === "pixels" ? "RGB" : normalisation(rule).channel_order;
  return input === "pixels"
    ? `pixels: ${order}, 0 to 255; the graph normalises them`
    : `normalised: ${order}, (byte / 255 - mean) / std as in preprocessing`;
}
