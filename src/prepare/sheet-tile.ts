/**
 * A picture's tile on a sheet, and text beside it: what every sheet of pictures is made of.
 *
 * Lengths are in pixels. Names come from files: they are escaped before they enter SVG or HTML.
 */

import type { OverlayOptions } from "sharp";

import { printable } from "../core/printable.js";
import { loadSharp } from "../core/sharp.js";
import type { Box, Size } from "../data/pictures/augment.js";
import { imageInfo } from "../data/pictures/image-info.js";
import { turnSize } from "../data/pictures/orientation.js";
import { orientationOf, type Picture, sharpPixels } from "../data/pictures/render.js";
import { shrunk } from "../data/pictures/shrink.js";

/** Height and width. */
export const TILE = 168;

/** A picture's size as it is seen: turned, where its set is upright. @throws DataError */
export function seenSize(source: Picture, name: string): Size {
  if (source.kind === "pixels") return source;
  const info = imageInfo(source.bytes, name);
  return turnSize(info, orientationOf(source, info));
}

/** Where the picture lies in its tile: scaled to touch the sides, centred. */
export function fit({ width, height }: Size): Box {
  const scale = TILE / Math.max(width, height);
  const side = (length: number): number => Math.min(TILE, Math.max(1, Math.round(length * scale)));
  const [w, h] = [side(width), side(height)];
  return { x: Math.floor((TILE - w) / 2), y: Math.floor((TILE - h) / 2), width: w, height: h };
}

/** The picture of that size as it lies in its tile, a JPEG. */
export async function fitted(source: Picture, { width, height }: Size): Promise<Buffer> {
  const place = fit({ width, height });
  const kernel = width < TILE ? "nearest" : "lanczos3";
  const image =
    source.kind === "pixels"
      ? sharpPixels(source).resize(place.width, place.height, { fit: "fill", kernel }).toColourspace("srgb")
      : await shrunk(source, "", place, kernel);
  return image.jpeg({ quality: 92 }).toBuffer();
}

/** A sheet of that size as PNG: its own drawing, pictures on it, and what is drawn over them. */
export function drawSheet(
  { width, height }: Size,
  mark: string,
  below: readonly string[],
  tiles: readonly OverlayOptions[],
  above: readonly string[] = [],
): Promise<Uint8Array> {
  const layer = (content: readonly string[]): OverlayOptions => ({
    input: Buffer.from(
      `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
        `font-family="DejaVu Sans, Liberation Sans, Arial, Helvetica, sans-serif">${content.join("")}</svg>`,
    ),
    left: 0,
    top: 0,
  });
  return loadSharp()({ create: { width, height, channels: 3, background: "#e9ebee" } })
    .composite([layer(below), ...tiles, ...(above.length === 0 ? [] : [layer(above)])])
    .withExif({ IFD0: { Software: mark } })
    .png({ compressionLevel: 7 })
    .toBuffer();
}

/** Text for XML and HTML; what XML cannot hold, and what turns the direction of text, becomes visible. */
export function escapeMarkup(text: string): string {
  return printable(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
