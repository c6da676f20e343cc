/** Pictures as the network is fed with them: squares of bytes, cut by the rules of training or of evaluation. */

import type { WasmPictures } from "../core/wasm-module.js";
import {
  asItIs,
  type Augmentation,
  evaluationDecodings,
  evaluationTransform,
  trainingTransform,
  type Transform,
} from "../data/pictures/augment.js";
import { Draws, streams } from "../core/random.js";
import type { ModelDescription } from "../run/checkpoint-state.js";

/** [height, width, 3] */
export interface Rgb {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** What evaluation and prediction see of a picture, into [size, size, 3]. */
export function evaluationInto(
  tool: WasmPictures,
  picture: Rgb,
  { image_size, eval_resize, pipeline }: ModelDescription,
  out: Uint8Array,
): void {
  const resize = { ...evaluationDecodings[pipeline], shorterSide: eval_resize };
  const isOfSize = picture.width === image_size && picture.height === image_size;
  render(
    tool,
    picture,
    isOfSize ? asItIs(image_size) : evaluationTransform(resize, picture, image_size),
    out,
  );
}

/** What training sees of its `sample`-th picture in an epoch, into [size, size, 3]. */
export function trainingInto(
  tool: WasmPictures,
  picture: Rgb,
  augmentation: Augmentation,
  draw: { readonly size: number; readonly seed: number; readonly epoch: number; readonly sample: number },
  out: Uint8Array,
): void {
  const draws = new Draws(draw.seed, streams.augment, draw.epoch, draw.sample);
  render(tool, picture, trainingTransform(augmentation, picture, draw.size, draws), out);
}

export function render(
  tool: WasmPictures,
  { width, height, data }: Rgb,
  cut: Transform,
  out: Uint8Array,
): void {
  tool.resize(cut, data, [width, height, 3], out);
}
