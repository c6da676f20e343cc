/** A picture's file to its pixels, by the browser: as they are stored, without a colour profile, and not mixed with their alpha. */

import type { Rgba } from "./upright.js";

/** @throws Error in words for people */
export async function decode(file: Uint8Array): Promise<Rgba> {
  const bitmap = await bitmapOf(file);
  const { width, height } = bitmap;
  try {
    const data = drawn(bitmap);
    // A canvas keeps colours multiplied by alpha, so little or nothing is left of those that are seen through.
    return { data: isSolid(data) ? data : (unmixed(bitmap) ?? data), width, height };
  } catch {
    throw new Error(`${width} x ${height} pixels are more than this browser draws`);
  } finally {
    bitmap.close();
  }
}

async function bitmapOf(file: Uint8Array): Promise<Bitmap> {
  try {
    return await browser().createImageBitmap(new Blob([file]), {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new Error("this browser cannot read it as a picture");
  }
}

function drawn(bitmap: Bitmap): Uint8ClampedArray {
  const { OffscreenCanvas } = browser();
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", {
    willReadFrequently: true,
  });
  if (context === null) throw new Error("no canvas");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
}

function isSolid(data: Uint8ClampedArray): boolean {
  for (let i = 3; i < data.length; i += 4) if (data[i] !== 255) return false;
  return true;
}

/** By way of a texture, which keeps colours and alpha apart; undefined where there are none, or none so large. */
function unmixed(bitmap: Bitmap): Uint8Array | undefined {
  const { width, height } = bitmap;
  const { OffscreenCanvas } = browser();
  const gl = new OffscreenCanvas(1, 1).getContext("webgl");
  if (gl === null || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return undefined;
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  if (gl.checkFramebufferStatus(gl.FRAMEBUFFER) !== gl.FRAMEBUFFER_COMPLETE) return undefined;
  const data = new Uint8Array(4 * width * height);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
  return data;
}

/** What of a browser is used here; Node's types do not have it. */
interface BrowserParts {
  readonly createImageBitmap: (picture: Blob, options: Record<string, string>) => Promise<Bitmap>;
  readonly OffscreenCanvas: new (width: number, height: number) => Canvas;
}
interface Bitmap {
  readonly width: number;
  readonly height: number;
  close(): void;
}
interface Canvas {
  getContext(kind: "2d", options: { willReadFrequently: boolean }): CanvasContext | null;
  getContext(kind: "webgl"): WebGl | null;
}
interface CanvasContext {
  drawImage(bitmap: Bitmap, x: number, y: number): void;
  getImageData(x: number, y: number, width: number, height: number): { readonly data: Uint8ClampedArray };
}
type WebGl = Readonly<Record<WebGlNumber, number>> & {
  getParameter(name: number): number;
  createTexture(): number;
  bindTexture(target: number, texture: number): void;
  texImage2D(target: number, level: number, inner: number, format: number, type: number, from: Bitmap): void;
  createFramebuffer(): number;
  bindFramebuffer(target: number, buffer: number): void;
  framebufferTexture2D(target: number, place: number, kind: number, texture: number, level: number): void;
  checkFramebufferStatus(target: number): number;
  readPixels(
    x: number,
    y: number,
    w: number,
    h: number,
    format: number,
    type: number,
    into: Uint8Array,
  ): void;
};
type WebGlNumber =
  | "MAX_TEXTURE_SIZE"
  | "TEXTURE_2D"
  | "RGBA"
  | "UNSIGNED_BYTE"
  | "FRAMEBUFFER"
  | "FRAMEBUFFER_COMPLETE"
  | "COLOR_ATTACHMENT0";

function browser(): BrowserParts {
  return globalThis as unknown as BrowserParts;
}
