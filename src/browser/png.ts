/** Pixels as a PNG file, by the browser: they come back from it as they were. */

import type { Rgb } from "./seen-picture.js";

declare const OffscreenCanvas: new (
  width: number,
  height: number,
) => {
  getContext(kind: "2d"): { putImageData(pixels: object, x: number, y: number): void } | null;
  convertToBlob(options: { readonly type: string }): Promise<Blob>;
};
declare const ImageData: new (data: Uint8ClampedArray, width: number, height: number) => object;

export async function pngOf({ width, height, data }: Rgb): Promise<Blob> {
  const rgba = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let from = 0, to = 0; from < data.length; to++)
    for (let channel = 0; channel < 3; channel++) rgba[to++] = data[from++] as number;
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d")?.putImageData(new ImageData(rgba, width, height), 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}
