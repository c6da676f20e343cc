/** Networks of a few steps in shapes that hurt, for tests that compare each step of one engine with another's. */

import type { Batch } from "../../src/backends/backend.js";
import type { Draws } from "../../src/core/random.js";
import { channelsOf, type Network, normalised, type Padding } from "../../src/models/layers.js";
import type { Program } from "../../src/program/program.js";
import { tinyNetwork } from "./tiny-network.js";

export interface AwkwardCase {
  readonly batch: number;
  readonly image: number;
  readonly stem: number;
  /** Channels of the three pointwise convolutions. */
  readonly channels: readonly [number, number, number];
  readonly classes: number;
  readonly padding: Padding;
}

// Stem outputs of 1x1 to 57x57 pixels; channels around the register tiles (6 x 16, 12 x 32; 3 x 4, 6 x 4) and
// the widths of the real networks; odd and even sizes under stride 2; column counts off every vector width.
export const awkwardCases: readonly AwkwardCase[] = [
  { batch: 2, image: 4, stem: 1, channels: [1, 1, 1], classes: 2, padding: "same" },
  { batch: 3, image: 9, stem: 2, channels: [3, 5, 7], classes: 3, padding: "same" },
  { batch: 2, image: 13, stem: 5, channels: [6, 12, 13], classes: 7, padding: "one" },
  { batch: 1, image: 28, stem: 8, channels: [7, 4, 11], classes: 10, padding: "one" },
  { batch: 5, image: 29, stem: 24, channels: [24, 24, 29], classes: 10, padding: "same" },
  { batch: 2, image: 57, stem: 24, channels: [58, 24, 116], classes: 10, padding: "one" },
  { batch: 2, image: 64, stem: 31, channels: [33, 61, 48], classes: 11, padding: "same" },
  { batch: 8, image: 36, stem: 32, channels: [17, 96, 232], classes: 100, padding: "same" },
  { batch: 1, image: 112, stem: 24, channels: [24, 58, 58], classes: 5, padding: "same" },
  { batch: 2, image: 226, stem: 3, channels: [2, 9, 4], classes: 5, padding: "one" },
  { batch: 13, image: 20, stem: 4, channels: [88, 122, 31], classes: 1000, padding: "same" },
];

export function nameOf({ batch, image, stem, channels, padding }: AwkwardCase): string {
  return `batch ${batch}, ${image} px, channels ${stem}/${channels.join("/")}, padding ${padding}`;
}

/**
 * Layers to freeze through: a map read by frozen steps and by such as train; a step with inputs of both; the classifier alone.
 * None with two values a plane that nothing normalised: a variance is all cancellation there.
 */
export function frozenIn({ image }: AwkwardCase): readonly string[] {
  return image === 4 ? [] : ["first", "halved", "third"];
}

/** Every kind of step, one map with two readers, one of channels of two others. */
export function awkwardNetwork(c: AwkwardCase): Network {
  return tinyNetwork({ padding: c.padding, classes: c.classes, stem: c.stem }, (net) => {
    const [first, second, third] = c.channels;
    net.pointwise("first", "pool1", first);
    net.depthwise("flat", normalised("first"), 1, false);
    net.pointwise("second", normalised("flat"), second);
    net.depthwise("halved", normalised("second"), 2, true);
    // A second reader of "second": its gradients are added to.
    net.depthwise("side", normalised("second"), 2, false);
    net.arrange("both", [
      ...channelsOf(normalised("halved"), second),
      ...channelsOf(normalised("side"), second),
    ]);
    net.pointwise("third", "both", third);
  });
}

export function randomBatch(program: Program, draws: Draws): Batch {
  const images = new Uint8Array(program.batch * program.imageSize ** 2 * 3);
  for (let i = 0; i < images.length; i++) images[i] = draws.below(256);
  return { images, labels: Int32Array.from({ length: program.batch }, () => draws.below(program.classes)) };
}

/** Both signs of gamma: pooling turns round with the sign. */
export function awkwardParameters(program: Program, draws: Draws): Float32Array {
  const parameters = Float32Array.from({ length: program.parameterCount }, () => 0.4 * draws.normal());
  for (const { gamma } of program.planes) {
    parameters[gamma] = (draws.uniform() < 0.3 ? -1 : 1) * draws.uniform(0.5, 1.5);
  }
  return parameters;
}
