/**
 * A heat map as a picture, alone or over what the network saw.
 *
 * Its colours are those of "inferno", which get lighter all the way: they are in order for the colour-blind and in a black and white
 * print, too. What lies below is gray, so that every colour is the map's.
 */

import { loadSharp } from "../core/sharp.js";
import { enlarged, type HeatMap, shares } from "../inference/heat-map.js";

/** Little to much, evenly spaced. Source: matplotlib's "inferno" (CC0), every eighth of it. */
export const HEAT_COLOURS = [
  [0x00, 0x00, 0x04],
  [0x21, 0x0c, 0x4a],
  [0x56, 0x10, 0x6e],
  [0x89, 0x22, 0x6a],
  [0xbb, 0x37, 0x54],
  [0xe3, 0x59, 0x32],
  [0xf9, 0x8c, 0x0a],
  [0xf9, 0xc9, 0x32],
  [0xfc, 0xff, 0xa4],
] as const;

/** How much of the map is seen over a picture, and not the picture. */
export const HEAT_OPACITY = 0.6;

/** Colours that a picture of a map has at most. */
const LEVELS = 32;

/** @param share 0 to 1 */
export function heatColour(share: number): [red: number, green: number, blue: number] {
  const place = Math.min(Math.max(share, 0), 1) * (HEAT_COLOURS.length - 1);
  const from = Math.min(Math.floor(place), HEAT_COLOURS.length - 2);
  const [low, high] = [HEAT_COLOURS[from] as readonly number[], HEAT_COLOURS[from + 1] as readonly number[]];
  const at = (i: number): number =>
    Math.round((low[i] as number) + (place - from) * ((high[i] as number) - (low[i] as number)));
  return [at(0), at(1), at(2)];
}

/** Whether anything speaks for the class. */
export function isCold({ values }: HeatMap): boolean {
  return !values.some((value) => value > 0);
}

/** A map of its own, `side` pixels a side, as WebP without loss: some hundred bytes. */
export async function heatWebp(map: HeatMap, side: number): Promise<Buffer> {
  const pixels = colours(map, side, (share) => Math.round(share * (LEVELS - 1)) / (LEVELS - 1));
  return loadSharp()(pixels, { raw: { width: side, height: side, channels: 3 } })
    .webp({ lossless: true, effort: 6 })
    .toBuffer();
}

/**
 * What the network saw and, right of it, the map over the same in gray, as PNG.
 *
 * @param pixels [side, side, 3]
 */
export async function heatPng(map: HeatMap, pixels: Uint8Array, side: number): Promise<Buffer> {
  const heat = colours(map, side, (share) => share);
  const out = new Uint8Array(2 * pixels.length);
  for (let row = 0; row < side; row++) {
    const at = row * side * 3;
    out.set(pixels.subarray(at, at + side * 3), 2 * at);
    for (let i = at; i < at + side * 3; i += 3) {
      const gray =
        0.299 * (pixels[i] as number) + 0.587 * (pixels[i + 1] as number) + 0.114 * (pixels[i + 2] as number);
      for (let c = 0; c < 3; c++)
        out[i + at + side * 3 + c] = Math.round(
          HEAT_OPACITY * (heat[i + c] as number) + (1 - HEAT_OPACITY) * gray,
        );
    }
  }
  return loadSharp()(out, { raw: { width: 2 * side, height: side, channels: 3 } })
    .png()
    .toBuffer();
}

/** [side, side, 3] */
function colours(map: HeatMap, side: number, level: (share: number) => number): Uint8Array {
  const { values } = enlarged(shares(map), side);
  const out = new Uint8Array(3 * values.length);
  values.forEach((share, i) => out.set(heatColour(level(share)), 3 * i));
  return out;
}
