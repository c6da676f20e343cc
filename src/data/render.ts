/**
 * Carries out a {@link Transform}: encoded bytes or pixels in, 8-bit RGB of the network's size out, off the
 * JavaScript thread.
 *
 * JPEGs are decoded by libjpeg-turbo inside the addon where it was found at build time; sharp (libvips) decodes
 * PNG and WebP, and JPEG otherwise. Cropping and resizing are the addon's in every case (native/decode).
 */

import sharp from "sharp";

import { loadAddon } from "../core/addon.js";
import { DataError } from "../core/error.js";
import type { Transform } from "./augment.js";
import { imageInfo, MAX_PIXELS } from "./image-info.js";

/** A file's bytes: JPEG, PNG or WebP. */
export interface Encoded {
  readonly kind: "encoded";
  readonly bytes: Uint8Array;
}

/** Decoded pixels, [height, width, channels]. */
export interface Pixels {
  readonly kind: "pixels";
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  /** 1 is grayscale, 3 is RGB. */
  readonly channels: 1 | 3;
}

export type Source = Encoded | Pixels;

/**
 * Writes size x size x 3 bytes into `out` from `offset`. `plan` is asked for the transform once the picture's size
 * is known.
 *
 * @throws DataError naming `where` when the picture cannot be decoded; `out` is then undefined from `offset` on.
 */
export async function renderInto(
  source: Source,
  where: string,
  plan: (picture: { readonly width: number; readonly height: number }) => Transform,
  out: Uint8Array,
  offset: number,
): Promise<void> {
  const decoder = native();
  let reason: string | undefined;
  if (source.kind === "encoded") {
    const info = imageInfo(source.bytes, where);
    const transform = plan(info);
    if (info.format === "jpeg" && decoder.transformJpeg !== undefined) {
      reason = await decoder.transformJpeg(source.bytes, jpegSpec(transform, info, offset), out);
    } else {
      const pixels = await decodeWithSharp(source.bytes, where);
      reason = await decoder.transformPixels(pixels.data, pixelSpec(transform, pixels, offset), out);
    }
  } else {
    reason = await decoder.transformPixels(source.data, pixelSpec(plan(source), source, offset), out);
  }
  if (reason !== undefined) throw new DataError({ where, what: `does not decode: ${reason}` });
}

/** Which library decodes JPEGs here; for `riffle doctor`. */
export function jpegDecoder(): "libjpeg-turbo" | "sharp" {
  return native().transformJpeg === undefined ? "sharp" : "libjpeg-turbo";
}

/** The functions of native/decode/binding.cc: undefined when done, otherwise why the picture is not whole. */
interface Native {
  transformPixels(pixels: Uint8Array, spec: PixelSpec, out: Uint8Array): Promise<string | undefined>;
  transformJpeg?(bytes: Uint8Array, spec: JpegSpec, out: Uint8Array): Promise<string | undefined>;
}

/** Fields as the binding reads them: all numbers, flags 0 or 1. */
interface PixelSpec {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly boxX: number;
  readonly boxY: number;
  readonly boxWidth: number;
  readonly boxHeight: number;
  readonly resizedWidth: number;
  readonly resizedHeight: number;
  readonly windowX: number;
  readonly windowY: number;
  readonly size: number;
  readonly filter: 0 | 1;
  readonly flip: 0 | 1;
  readonly red: number;
  readonly green: number;
  readonly blue: number;
  readonly grayscale: 0 | 1;
  readonly outOffset: number;
}

/** The box counts from the corner of the region, in reduced pixels. */
interface JpegSpec extends PixelSpec {
  readonly regionX: number;
  readonly regionY: number;
  readonly regionWidth: number;
  readonly regionHeight: number;
  readonly eighths: 1 | 2 | 4 | 8;
  readonly fastDct: 0 | 1;
}

let loaded: Native | undefined;

function native(): Native {
  loaded ??= loadAddon() as unknown as Native;
  return loaded;
}

async function decodeWithSharp(bytes: Uint8Array, where: string): Promise<Pixels> {
  try {
    const { data, info } = await sharp(bytes, {
      limitInputPixels: MAX_PIXELS,
      failOn: "error",
      ignoreIcc: true,
    })
      .removeAlpha()
      .toColourspace("srgb")
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== 3 && info.channels !== 1) throw new Error(`${info.channels} channels`);
    return { kind: "pixels", data, width: info.width, height: info.height, channels: info.channels };
  } catch (error) {
    const reason = error instanceof Error ? error.message.replaceAll("\n", "; ") : String(error);
    throw new DataError({ where, what: `does not decode: ${reason}` }, error);
  }
}

function pixelSpec(
  transform: Transform,
  source: Omit<Pixels, "kind" | "data">,
  outOffset: number,
): PixelSpec {
  const { box, resized, window, shift } = transform;
  return {
    width: source.width,
    height: source.height,
    channels: source.channels,
    boxX: box.x,
    boxY: box.y,
    boxWidth: box.width,
    boxHeight: box.height,
    resizedWidth: resized.width,
    resizedHeight: resized.height,
    windowX: window.x,
    windowY: window.y,
    size: transform.size,
    filter: transform.filter === "pillow" ? 1 : 0,
    flip: transform.flip ? 1 : 0,
    red: shift[0],
    green: shift[1],
    blue: shift[2],
    grayscale: transform.grayscale ? 1 : 0,
    outOffset,
  };
}

function jpegSpec(
  transform: Transform,
  picture: { readonly width: number; readonly height: number },
  outOffset: number,
): JpegSpec {
  const { box, decoding } = transform;
  const eighths = decoding.scaled ? reduction(transform) : 8;
  const scale = eighths / 8;
  const regionX = Math.floor(box.x * scale);
  const regionY = Math.floor(box.y * scale);
  return {
    ...pixelSpec(transform, { ...picture, channels: 3 }, outOffset),
    boxX: box.x * scale - regionX,
    boxY: box.y * scale - regionY,
    boxWidth: box.width * scale,
    boxHeight: box.height * scale,
    regionX,
    regionY,
    regionWidth: Math.ceil((box.x + box.width) * scale) - regionX,
    regionHeight: Math.ceil((box.y + box.height) * scale) - regionY,
    eighths,
    fastDct: decoding.fastDct ? 1 : 0,
  };
}

/** The fewest eighths at which the box is no smaller than what it is resized to. */
function reduction({ box, resized }: Transform): 1 | 2 | 4 | 8 {
  for (const eighths of [1, 2, 4] as const) {
    if (box.width * eighths >= resized.width * 8 && box.height * eighths >= resized.height * 8)
      return eighths;
  }
  return 8;
}
