/**
 * A picture at another size by sharp, upright where it is to be: for caches and for people. What the network sees is
 * resized by render.ts.
 *
 * What may have alpha is decoded first, since alpha would weigh the colours, and inks, of which sharp has a view of its own; a JPEG is reduced while it is decoded.
 */

import type { Sharp } from "sharp";

import type { Size } from "./augment.js";
import { imageInfo } from "./image-info.js";
import { turnPixels, turnSize, undone } from "./orientation.js";
import { decodeWithSharp, type Encoded, orientationOf, sharpPixels, withSharp } from "./render.js";

/** `size` is that of the picture as it is seen. */
export async function shrunk(
  source: Encoded,
  name: string,
  size: Size,
  kernel: "lanczos3" | "nearest" = "lanczos3",
): Promise<Sharp> {
  const info = imageInfo(source.bytes, name);
  const orientation = orientationOf(source, info);
  const whole =
    info.format === "jpeg" && !info.cmyk
      ? withSharp(source.bytes)
      : sharpPixels(await decodeWithSharp(source.bytes, info.format, name));
  const { width, height } = turnSize(size, undone(orientation));
  const small = whole.resize(width, height, { fit: "fill", kernel }).toColourspace("srgb");
  if (orientation === 1) return small;
  const { data, info: made } = await small.raw().toBuffer({ resolveWithObject: true });
  const pixels = turnPixels(data, made, made.channels, orientation);
  return sharpPixels({
    kind: "pixels",
    data: pixels,
    width: size.width,
    height: size.height,
    channels: made.channels === 1 ? 1 : 3,
  });
}
