/** What an exported graph takes for pictures, worked out here once more from the network's input rule. */

import type { Network } from "../../src/models/layers.js";
import type { OnnxInput } from "../../src/weights/network-to-onnx.js";

/** What the graph's input holds for pictures [images, size, size, 3] of RGB bytes. */
export function onnxInputOf(
  { input: rule }: Network,
  images: Uint8Array,
  imageSize: number,
  input: OnnxInput,
): Float32Array {
  const pixels = imageSize ** 2;
  return Float32Array.from({ length: images.length }, (_, i) => {
    const place = Math.floor(i / pixels) % 3;
    const image = Math.floor(i / (3 * pixels));
    const channel = input === "pixels" ? place : (rule.channelOrder[place] as number);
    const byte = images[(image * pixels + (i % pixels)) * 3 + channel] as number;
    return input === "pixels"
      ? byte
      : (rule.scale[channel] as number) * byte + (rule.shift[channel] as number);
  });
}
