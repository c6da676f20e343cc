/**
 * Carries out a {@link Transform}: encoded bytes or pixels in, RGB of the network's size out, off the JavaScript
 * thread.
 *
 * The network takes 8-bit pixels. f32 pixels, which TensorFlow's pipeline works on, come from the same kernels without
 * the last rounding: the two differ by at most half a level, 0.5/255.
 *
 * Where a picture is to be upright, a transform is of the picture turned as its EXIF says, and turning comes before
 * cutting and resizing. A JPEG that is reduced while it is decoded is reduced as it is stored: where a side is no
 * multiple of the reduction, the pixel that is left over lies on the other side than if it had been turned first.
 *
 * JPEGs are decoded by libjpeg-turbo inside the addon where it was found at build time; sharp (libvips) decodes
 * the other formats, and JPEG otherwise. Cropping and resizing are the addon's (native/decode); where there is none the same C++
 * does them as WebAssembly, on the JavaScript thread.
 */

import { setImmediate } from "node:timers/promises";

import type { Sharp } from "sharp";

import { addonOrUndefined } from "../../core/addon.js";
import { environment } from "../../core/environment.js";
import { DataError } from "../../core/error.js";
import { loadSharp } from "../../core/sharp.js";
import { wasmPictures } from "../../core/wasm-file.js";
import { readWhole } from "../read-whole.js";
import { noMemory, unreadable } from "../unreadable.js";
import { Allowance } from "./allowance.js";
import type { Box, ObjectBox, Picture as Known, Size, Transform } from "./augment.js";
import { gifColour } from "./gif-colour.js";
import { imageInfo, type ImageInfo, MAX_PIXELS } from "./image-info.js";
import {
  exifOrientation,
  type Orientation,
  turnBox,
  turnObjects,
  turnPixels,
  turnSize,
  undone,
} from "./orientation.js";
import { plainJpeg } from "./plain-jpeg.js";

/** A file's bytes. */
export interface Encoded {
  readonly kind: "encoded";
  readonly bytes: Uint8Array;
  /** Where the objects in it are as it is stored, for crops that must hold some of one; none when absent or empty. */
  readonly boxes?: readonly ObjectBox[];
  /** Turn it as its EXIF says that the camera was held. */
  readonly upright?: boolean;
}

/** Decoded pixels, [height, width, channels]. */
export interface Pixels extends Size {
  readonly kind: "pixels";
  readonly data: Uint8Array;
  /** 1 is grayscale, 3 is RGB. */
  readonly channels: 1 | 3;
  /** As in {@link Encoded}. */
  readonly boxes?: readonly ObjectBox[];
}

export type Picture = Encoded | Pixels;

/** `auto`: libjpeg-turbo for JPEGs where the addon has it. `sharp`: sharp decodes everything. */
export type Decoder = "auto" | "sharp";

/** One picture, and where it goes. */
export interface Rendering {
  /** A DataError, for one that could not be read, is passed on. */
  readonly source: Picture | DataError;
  /** Its name in errors. */
  readonly where: string;
  /** Asked for the transform once the picture's size is known; size and boxes are those of the picture turned. */
  readonly plan: (picture: Known) => Transform;
  /** Of its first value in the output. */
  readonly offset: number;
}

/**
 * Writes size x size x 3 values of each picture into `out`, 0..255 into bytes, 0..1 into floats. One thread makes all
 * of them, so that whoever has many groups of pictures in flight pays for fewer hops between threads.
 *
 * @returns for each picture why it cannot be decoded, if so; `out` is then undefined where it would be.
 */
export async function renderAll(
  renderings: readonly Rendering[],
  out: Uint8Array | Float32Array,
  jpegs: Decoder = "auto",
): Promise<(DataError | undefined)[]> {
  const errors = renderings.map((): DataError | undefined => undefined);
  const group: { readonly index: number; readonly decoding: Decoding }[] = [];
  let held = 0;
  const flush = async (): Promise<void> => {
    held = 0;
    const done = group.splice(0);
    const offsets = done.map(({ index }) => (renderings[index] as Rendering).offset);
    const decodings = done.map(({ decoding }) => decoding);
    const addon = native();
    const failures =
      addon === undefined
        ? await transformHere(decodings, offsets, out)
        : await addon.transform(
            decodings.map(({ input }) => input),
            specsOf(decodings, offsets),
            out,
          );
    failures?.forEach((failure, i) => {
      if (failure === undefined) return;
      const { index } = done[i] as (typeof done)[number];
      const { where } = renderings[index] as Rendering;
      if (typeof failure === "number") throw noMemory(where);
      errors[index] = DataError.at(where, `does not decode: ${failure}`);
    });
  };
  for (const [index, rendering] of renderings.entries()) {
    let giveBack: (() => void) | undefined;
    try {
      const planned = planDecoding(rendering, jpegs);
      // What is held waits for no one; a large picture is decoded, rendered and let go by itself.
      if (held + planned.memory > GROUP_BYTES) await flush();
      if (planned.memory > GROUP_BYTES) giveBack = await decodedBytes.take(planned.memory);
      held += planned.memory;
      const decoding = planned.decodeFirst === undefined ? planned.decoding : await planned.decodeFirst();
      group.push({ index, decoding });
      if (giveBack !== undefined) await flush();
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      errors[index] = error;
    } finally {
      giveBack?.();
    }
  }
  if (group.length > 0) await flush();
  return errors;
}

/** What one thread's decoded pictures take before they are rendered; a photograph of 1600 x 1200 fits. */
export const GROUP_BYTES = 8 * 2 ** 20;

/** What all large pictures in decoding take; one that is larger is decoded alone. */
export const DECODED_BYTES = 512 * 2 ** 20;
const decodedBytes = new Allowance(DECODED_BYTES);

/**
 * The same for one picture.
 *
 * @throws DataError naming `where` when it cannot be decoded.
 */
export async function renderInto(
  source: Picture,
  where: string,
  plan: Rendering["plan"],
  out: Uint8Array | Float32Array,
  offset: number,
  jpegs?: Decoder,
): Promise<void> {
  const [error] = await renderAll([{ source, where, plan, offset }], out, jpegs);
  if (error !== undefined) throw error;
}

/** Larger files are refused unread: {@link MAX_PIXELS} need no more, even as PNG. */
const MAX_FILE_BYTES = 256 * 2 ** 20;

/**
 * The files' bytes, or why one cannot be read.
 *
 * @throws ResourceError when that is the machine's fault.
 */
export async function readPictures(paths: readonly string[]): Promise<(Encoded | DataError)[]> {
  const addon = native();
  const files =
    addon === undefined
      ? await Promise.all(paths.map((path) => readWhole(path, MAX_FILE_BYTES)))
      : await addon.readFiles(paths, MAX_FILE_BYTES);
  return files.map((found, i) => {
    if (found instanceof Uint8Array) return { kind: "encoded", bytes: found };
    const where = paths[i] as string;
    if (typeof found === "string") return DataError.at(where, `cannot be read: ${found}`);
    const error = unreadable(where, found);
    if (error instanceof DataError) return error;
    throw error;
  });
}

/** Which library decodes JPEGs here; for `riffle doctor`. */
export function jpegDecoder(): "libjpeg-turbo" | "sharp" {
  return native()?.decodesJpeg === true ? "libjpeg-turbo" : "sharp";
}

/** How many threads read and decode: libuv's, which are four unless this variable, read by libuv, says otherwise. */
export function decodingThreads(): number {
  const asked = Number(environment("UV_THREADPOOL_SIZE") ?? 4);
  return Number.isInteger(asked) ? Math.min(Math.max(asked, 1), 1024) : 4;
}

/** What of native/binding/decode.cc this file calls. */
interface Native {
  /** Words or an errno say why one cannot be read. */
  readFiles(paths: readonly string[], limit: number): Promise<(Uint8Array | string | number)[]>;
  /** Undefined when all are done, otherwise why each picture is not whole, or ENOMEM. */
  transform(
    inputs: readonly Uint8Array[],
    specs: Float64Array,
    out: Uint8Array | Float32Array,
  ): Promise<(string | number | undefined)[] | undefined>;
  readonly decodesJpeg: boolean;
}

function native(): Native | undefined {
  return addonOrUndefined() as Native | undefined;
}

/** What C++ is asked to do with one picture. */
interface Decoding {
  readonly input: Uint8Array;
  /** Otherwise pixels. */
  readonly jpeg: boolean;
  /** As it is stored. */
  readonly picture: Size & { readonly channels?: number };
  readonly orientation: Orientation;
  /** Of the picture turned. */
  readonly transform: Transform;
  /** As it is stored. */
  readonly region: Region;
}

type Planned = { /** Bytes that decoding holds. */ readonly memory: number } & (
  | { readonly decoding: Decoding; readonly decodeFirst?: undefined }
  /** Only where sharp decodes: waiting costs a JPEG more than all of this. */
  | { readonly decodeFirst: () => Promise<Decoding> }
);

function planDecoding({ source, where, plan }: Rendering, jpegs: Decoder): Planned {
  if (source instanceof DataError) throw source;
  if (source.kind === "pixels") return { memory: 0, decoding: ofPixels(source, 1, plan(source)) };
  const info = imageInfo(source.bytes, where);
  const orientation = orientationOf(source, info);
  const known = (stored: Size): Known => ({
    ...turnSize(stored, orientation),
    boxes: turnObjects(source.boxes, orientation),
  });
  const transform = plan(known(info));
  let memory = decodingMemory(info, jpegs);
  if (isNative(info, jpegs)) {
    const region = jpegRegion(transform, info, orientation);
    if (orientation !== 1) memory += 3 * region.width * region.height;
    return {
      memory,
      decoding: { input: source.bytes, jpeg: true, picture: info, orientation, transform, region },
    };
  }
  if (orientation !== 1) memory += 3 * info.width * info.height;
  const decodeFirst = async (): Promise<Decoding> => {
    const pixels = await decodeWithSharp(source.bytes, info.format, where);
    // An AVIF turns and cuts itself: its header has another size then.
    const isOfSize = pixels.width === info.width && pixels.height === info.height;
    return ofPixels(pixels, orientation, isOfSize ? transform : plan(known(pixels)));
  };
  return { memory, decodeFirst };
}

/** How its pixels are turned before anything else: as they are stored, unless it is to be upright. */
export function orientationOf({ bytes, upright }: Encoded, { format }: ImageInfo): Orientation {
  return upright === true ? exifOrientation(format, bytes) : 1;
}

function isNative({ format }: ImageInfo, jpegs: Decoder): boolean {
  return format === "jpeg" && jpegs === "auto" && native()?.decodesJpeg === true;
}

/** Bytes that decoding a picture holds beside a few rows. */
export function decodingMemory(info: ImageInfo, jpegs: Decoder = "auto"): number {
  const { format, cmyk, width, height, coefficients } = info;
  // WebAssembly has a copy in its own memory.
  const copied = native() === undefined ? 3 : 0;
  const perPixel = (BYTES_PER_PIXEL[format] * (cmyk ? 4 : 3)) / 3 + copied;
  return coefficients + (isNative(info, jpegs) ? 0 : perPixel * width * height);
}

/** In sharp: what it puts out, what it works in, what waits to be collected as garbage. Measured at 24 megapixels. */
const BYTES_PER_PIXEL = { jpeg: 9, png: 9, webp: 14, gif: 14, tiff: 14, avif: 14 } as const;

function ofPixels(pixels: Pixels, orientation: Orientation, transform: Transform): Decoding {
  const { data, width, height } = pixels;
  const region: Region = { x: 0, y: 0, width, height, eighths: 8 };
  return { input: data, jpeg: false, picture: pixels, orientation, transform, region };
}

/** Its pixels as they are stored: without alpha, and of several frames the first. */
export async function decodeWithSharp(
  bytes: Uint8Array,
  format: ImageInfo["format"],
  where: string,
): Promise<Pixels> {
  const isJpeg = format === "jpeg";
  const cmyk = isJpeg && imageInfo(bytes, where).cmyk;
  const options = { limitInputPixels: MAX_PIXELS, ignoreIcc: true } as const;
  // libjpeg only warns about damage that it fills with grey; libpng also warns about odd colour profiles.
  const image = isJpeg
    ? loadSharp()(plainJpeg(bytes), { ...options, failOn: "warning" })
    : loadSharp()(bytes, { ...options, failOn: "error" });
  // libvips would go by a profile of its own for inks; Pillow, and libjpeg-turbo in native/decode, do not.
  if (cmyk) image.pipelineColourspace("cmyk").toColourspace("cmyk");
  else image.toColourspace("srgb");
  if (format !== "gif") image.removeAlpha();
  try {
    const raw = image.raw({ depth: "uchar" });
    const { data, info } = await raw.toBuffer({ resolveWithObject: true });
    const { width, height, channels } = info;
    const pixels = (rgb: Uint8Array): Pixels => ({ kind: "pixels", data: rgb, width, height, channels: 3 });
    if (cmyk) return pixels(inksToRgb(data));
    if (format === "gif" && channels === 4) return pixels(onColour(data, gifColour(bytes) ?? [0, 0, 0]));
    if (channels !== 3 && channels !== 1) throw new Error(`${channels} channels`);
    return { kind: "pixels", data, width, height, channels };
  } catch (error) {
    throw sharpProblem(error, where);
  }
}

/** InksToRgb of native/decode/jpeg.cc, of inks that libvips has turned over. */
function inksToRgb(inks: Uint8Array): Uint8Array {
  const rgb = new Uint8Array((inks.length / 4) * 3);
  for (let from = 0, to = 0; from < inks.length; from += 4, to += 3) {
    const black = 255 - (inks[from + 3] as number);
    for (let c = 0; c < 3; c++) {
      const ink = (inks[from + c] as number) * black + 128;
      rgb[to + c] = Math.max(0, black - (((ink >> 8) + ink) >> 8));
    }
  }
  return rgb;
}

/** RGB of RGBA in which a pixel is there or is not. */
function onColour(rgba: Uint8Array, colour: readonly number[]): Uint8Array {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    rgb.set(rgba[from + 3] === 0 ? colour : rgba.subarray(from, from + 3), to);
  }
  return rgb;
}

/**
 * A picture in sharp as this file decodes it: no rotation, no colour profile, no alpha. For one that
 * `decodingProblem` has passed, sharp has no say in what is damage.
 */
export function withSharp(bytes: Uint8Array): Sharp {
  const options = { limitInputPixels: MAX_PIXELS, failOn: "none", ignoreIcc: true } as const;
  return loadSharp()(bytes, options).removeAlpha();
}

/** Pixels in sharp. */
export function sharpPixels({ data, width, height, channels }: Pixels): Sharp {
  return loadSharp()(data, { raw: { width, height, channels } });
}

/** What sharp could not do, as the picture's fault or the machine's. */
export function sharpProblem(error: unknown, where: string): Error {
  const reason = error instanceof Error ? error.message.replaceAll("\n", "; ") : String(error);
  if (/out of memory|unable to allocate|cannot allocate/i.test(reason)) return noMemory(where, error);
  // Where another picture is decoded at the time, sharp's words are of its own option.
  const words = /warning treated as error/i.test(reason) ? "it is damaged" : reason;
  return DataError.at(where, `does not decode: ${words}`, {}, error);
}

/** The part of a picture that is decoded, as it is stored, in reduced pixels. */
interface Region extends Box {
  readonly eighths: 1 | 2 | 4 | 8;
}

function jpegRegion(transform: Transform, stored: Size, orientation: Orientation): Region {
  const { decoding } = transform;
  const box = turnBox(transform.box, turnSize(stored, orientation), undone(orientation));
  const eighths = decoding.scaled ? reduction(transform) : 8;
  const scale = eighths / 8;
  const x = Math.floor(box.x * scale);
  const y = Math.floor(box.y * scale);
  const width = Math.ceil((box.x + box.width) * scale) - x;
  const height = Math.ceil((box.y + box.height) * scale) - y;
  return { x, y, width, height, eighths };
}

/** Of `enum Field` in native/binding/decode.cc. */
const SPEC_FIELDS = 27;

function specsOf(decodings: readonly Decoding[], offsets: readonly number[]): Float64Array {
  const specs = new Float64Array(decodings.length * SPEC_FIELDS);
  decodings.forEach((decoding, i) => writeSpec(specs, i * SPEC_FIELDS, decoding, offsets[i] as number));
  return specs;
}

/** The same as the addon's `transform`, of pixels only: without the addon sharp has decoded all that were encoded. */
async function transformHere(
  decodings: readonly Decoding[],
  offsets: readonly number[],
  out: Uint8Array | Float32Array,
): Promise<undefined> {
  for (const [i, { input, picture, orientation, transform }] of decodings.entries()) {
    const channels = picture.channels === 1 ? 1 : 3;
    const data = orientation === 1 ? input : turnPixels(input, picture, channels, orientation);
    const { width, height } = turnSize(picture, orientation);
    wasmPictures().resize(transform, data, [width, height, channels], out, offsets[i]);
    // A large picture takes milliseconds, in which nothing else gets its turn.
    await setImmediate();
  }
}

/**
 * Puts the fields of native/binding/decode.cc, in its order and by its names (test/conformance/orders.test.ts), into
 * `specs` from `at`; flags are 0 or 1. Numbers, because
 * reading two dozen properties through Node-API takes a third of the time of decoding a small JPEG.
 */
function writeSpec(
  specs: Float64Array,
  at: number,
  { jpeg, picture, orientation, transform, region }: Decoding,
  outOffset: number,
): void {
  const { resized, window, shift } = transform;
  const box = boxInRegion(transform.box, picture, orientation, region);
  const fields = {
    jpeg: jpeg ? 1 : 0,
    width: picture.width,
    height: picture.height,
    channels: picture.channels ?? 3,
    boxX: box.x,
    boxY: box.y,
    boxWidth: box.width,
    boxHeight: box.height,
    resizedWidth: resized.width,
    resizedHeight: resized.height,
    windowX: window.x,
    windowY: window.y,
    size: transform.size,
    filter: filterNumbers[transform.filter],
    flip: transform.flip ? 1 : 0,
    red: shift[0],
    green: shift[1],
    blue: shift[2],
    grayscale: transform.grayscale ? 1 : 0,
    regionX: region.x,
    regionY: region.y,
    regionWidth: region.width,
    regionHeight: region.height,
    eighths: region.eighths,
    fastDct: transform.decoding.fastDct ? 1 : 0,
    orientation: orientation,
    outOffset: outOffset,
  };
  specs.set(Object.values(fields), at);
}

/** A box of the turned picture, from the corner of the turned region, in reduced pixels. */
function boxInRegion(box: Box, picture: Size, orientation: Orientation, region: Region): Box {
  const stored = turnBox(box, turnSize(picture, orientation), undone(orientation));
  const scale = region.eighths / 8;
  const inside = {
    x: stored.x * scale - region.x,
    y: stored.y * scale - region.y,
    width: stored.width * scale,
    height: stored.height * scale,
  };
  return turnBox(inside, region, orientation);
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
