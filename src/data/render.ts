/**
 * Carries out a {@link Transform}: encoded bytes or pixels in, RGB of the network's size out, off the JavaScript
 * thread.
 *
 * The network takes 8-bit pixels. f32 pixels, which TensorFlow's pipeline works on, come from the same kernels without
 * the last rounding: the two differ by at most half a level, 0.5/255.
 *
 * JPEGs are decoded by libjpeg-turbo inside the addon where it was found at build time; sharp (libvips) decodes
 * PNG and WebP, and JPEG otherwise. Cropping and resizing are the addon's in every case (native/decode).
 */

import sharp from "sharp";

import { loadAddon } from "../core/addon.js";
import { DataError } from "../core/error.js";
import type { ObjectBox, Transform } from "./augment.js";
import { imageInfo, type ImageInfo, MAX_PIXELS } from "./image-info.js";

/** A file's bytes: JPEG, PNG or WebP. */
export interface Encoded {
  readonly kind: "encoded";
  readonly bytes: Uint8Array;
  /** Where the objects in it are, for crops that must hold some of one; none when absent or empty. */
  readonly boxes?: readonly ObjectBox[];
}

/** Decoded pixels, [height, width, channels]. */
export interface Pixels {
  readonly kind: "pixels";
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  /** 1 is grayscale, 3 is RGB. */
  readonly channels: 1 | 3;
  /** As in {@link Encoded}. */
  readonly boxes?: readonly ObjectBox[];
}

export type Source = Encoded | Pixels;

/** `auto`: libjpeg-turbo for JPEGs where the addon has it. `sharp`: sharp decodes everything. */
export type Decoder = "auto" | "sharp";

/**
 * Writes size x size x 3 values into `out` from `offset`: 0..255 into bytes, 0..1 into floats. `plan` is asked for the
 * transform once the picture's size is known.
 *
 * @throws DataError naming `where` when the picture cannot be decoded; `out` is then undefined from `offset` on.
 */
export async function renderInto(
  source: Source,
  where: string,
  plan: (picture: { readonly width: number; readonly height: number }) => Transform,
  out: Uint8Array | Float32Array,
  offset: number,
  jpegs: Decoder = "auto",
): Promise<void> {
  const decoder = native();
  let reason: string | undefined;
  if (source.kind === "encoded") {
    const info = imageInfo(source.bytes, where);
    const transform = plan(info);
    if (info.format === "jpeg" && jpegs === "auto" && decoder.transformJpeg !== undefined) {
      reason = await decoder.transformJpeg(
        source.bytes,
        spec(transform, info, jpegRegion(transform), offset),
        out,
      );
    } else {
      const pixels = await decodeWithSharp(source.bytes, info.format, where);
      reason = await decoder.transformPixels(pixels.data, spec(transform, pixels, wholePicture, offset), out);
    }
  } else {
    reason = await decoder.transformPixels(
      source.data,
      spec(plan(source), source, wholePicture, offset),
      out,
    );
  }
  if (reason !== undefined) throw new DataError({ where, what: `does not decode: ${reason}` });
}

/** Larger files are refused unread: {@link MAX_PIXELS} need no more, even as PNG. */
const MAX_FILE_BYTES = 128 * 2 ** 20;

/** @throws DataError when the file cannot be read. */
export async function readPicture(path: string): Promise<Encoded> {
  const bytes = await native().readFile(path, MAX_FILE_BYTES);
  if (typeof bytes === "string") throw new DataError({ where: path, what: `cannot be read: ${bytes}` });
  return { kind: "encoded", bytes };
}

/** Which library decodes JPEGs here; for `riffle doctor`. */
export function jpegDecoder(): "libjpeg-turbo" | "sharp" {
  return native().transformJpeg === undefined ? "sharp" : "libjpeg-turbo";
}

/** The functions of native/decode/binding.cc: undefined when done, otherwise why the picture is not whole. */
interface Native {
  readFile(path: string, limit: number): Promise<Uint8Array | string>;
  transformPixels: NativeTransform;
  transformJpeg?: NativeTransform;
}

type NativeTransform = (
  input: Uint8Array,
  spec: Float64Array,
  out: Uint8Array | Float32Array,
) => Promise<string | undefined>;

let loaded: Native | undefined;

function native(): Native {
  loaded ??= loadAddon() as unknown as Native;
  return loaded;
}

async function decodeWithSharp(
  bytes: Uint8Array,
  format: ImageInfo["format"],
  where: string,
): Promise<Pixels> {
  try {
    // libjpeg only warns about damage that it fills with grey; libpng also warns about odd colour profiles.
    const failOn = format === "jpeg" ? "warning" : "error";
    const { data, info } = await sharp(bytes, { limitInputPixels: MAX_PIXELS, failOn, ignoreIcc: true })
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

/** The part of a JPEG that is decoded, in reduced pixels. */
interface Region {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly eighths: 1 | 2 | 4 | 8;
}

const wholePicture: Region = { x: 0, y: 0, width: 0, height: 0, eighths: 8 };

function jpegRegion(transform: Transform): Region {
  const { box, decoding } = transform;
  const eighths = decoding.scaled ? reduction(transform) : 8;
  const scale = eighths / 8;
  const x = Math.floor(box.x * scale);
  const y = Math.floor(box.y * scale);
  const width = Math.ceil((box.x + box.width) * scale) - x;
  const height = Math.ceil((box.y + box.height) * scale) - y;
  return { x, y, width, height, eighths };
}

/**
 * The fields of native/decode/binding.cc, in its order; flags are 0 or 1. An array, because reading two dozen
 * properties through Node-API takes a third of the time of decoding a small JPEG.
 */
function spec(
  transform: Transform,
  picture: { readonly width: number; readonly height: number; readonly channels?: number },
  region: Region,
  outOffset: number,
): Float64Array {
  const { box, resized, window, shift } = transform;
  const scale = region.eighths / 8;
  return Float64Array.of(
    picture.width,
    picture.height,
    picture.channels ?? 3,
    // The box counts from the region's corner, in reduced pixels.
    box.x * scale - region.x,
    box.y * scale - region.y,
    box.width * scale,
    box.height * scale,
    resized.width,
    resized.height,
    window.x,
    window.y,
    transform.size,
    filterNumbers[transform.filter],
    transform.flip ? 1 : 0,
    shift[0],
    shift[1],
    shift[2],
    transform.grayscale ? 1 : 0,
    region.x,
    region.y,
    region.width,
    region.height,
    region.eighths,
    transform.decoding.fastDct ? 1 : 0,
    outOffset,
  );
}

const filterNumbers: Readonly<Record<Transform["filter"], number>> = {
  tensorflow: 0,
  pillow: 1,
  "pillow-bytes": 2,
};

/** The fewest eighths at which the box is no smaller than what it is resized to. */
function reduction({ box, resized }: Transform): 1 | 2 | 4 | 8 {
  for (const eighths of [1, 2, 4] as const) {
    if (box.width * eighths >= resized.width * 8 && box.height * eighths >= resized.height * 8)
      return eighths;
  }
  return 8;
}
