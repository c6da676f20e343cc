/**
 * Whether a picture may be used, and what it is: the one judge that training, both caches, prediction, verify-data,
 * show-data and create-tfrecords ask before anything is decoded, so that none refuses what another takes.
 *
 * The format is judged by content, never by the file's name. EXIF is skipped unread, its orientation too, as
 * TensorFlow's decode_jpeg and torchvision's loader do, so that accuracies compare. What passes costs no more work and
 * memory to decode than its size in the header and its length in bytes allow.
 *
 * Offsets are in bytes, sizes in pixels.
 *
 * Sources: ITU-T T.81 annex B (JPEG), W3C PNG section 11.2.2, RFC 9649 (WebP).
 */

import { DataError } from "../../core/error.js";
import type { Size } from "./augment.js";
import { END_OF_IMAGE, type JpegSegment, jpegSegments, START_OF_SCAN } from "./jpeg-segments.js";

/** A picture that can be decoded, as far as its header tells. */
export interface ImageInfo extends Size {
  readonly format: "jpeg" | "png" | "webp";
  /** A JPEG of one component. */
  readonly grayscale: boolean;
  /** Bytes that a decoder holds at once beside what it puts out: a progressive JPEG's coefficients. */
  readonly coefficients: number;
}

/** 100 megapixels, 300 MB decoded; larger than any camera's, smaller than a decompression bomb. */
export const MAX_PIXELS = 100_000_000;

/** WebP's largest side is 16,383, JPEG's 65,535; a PNG may claim 2^31. */
const MAX_SIDE = 65_535;

/** Encoders write about ten; libvips, too, stops here (jpeg2vips.c, MAX_SCANS). */
const MAX_SCANS = 100;

/**
 * A scan of "end of band" runs passes over 32,767 blocks in a few bytes, and every scan costs what the picture's
 * blocks cost: hours, if it is let to. libjpeg-turbo therefore advises applications to bound them (djpeg's -maxscans).
 * A flat picture of ten scans passes over 48 blocks a byte, a photograph over one, at 85 ns a block.
 */
const MAX_BLOCKS_PER_BYTE = 100;
/** Passed over in any file: a third of a second. */
const FREE_BLOCKS = 2 ** 22;

/** What deflate gains at best (zlib.net, "zlib Technical Details"). */
const MAX_DEFLATION = 1032;

/**
 * Reads the header of a JPEG, PNG or WebP.
 *
 * @throws DataError naming `where` when it is something else, cut short, of a kind not read (CMYK, arithmetic
 * coding, 12 bits), larger than {@link MAX_PIXELS}, or of more scans than are worth their time.
 */
export function imageInfo(bytes: Uint8Array, where: string): ImageInfo {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const info = readHeader(bytes, view, where);
  const { width, height } = info;
  if (width === 0 || height === 0) throw DataError.at(where, `a picture of ${width} x ${height} pixels`);
  if (width > MAX_SIDE || height > MAX_SIDE || width * height > MAX_PIXELS) {
    throw DataError.at(where, `${width} x ${height} pixels are more than is decoded`, {
      expected: `at most ${grouped(MAX_PIXELS)} pixels`,
      found: grouped(width * height),
      hint: "Store it smaller, or leave it out",
    });
  }
  if (info.shortest > bytes.length) {
    throw DataError.at(where, "too short for the size in its header", {
      expected: `at least ${grouped(info.shortest)} bytes`,
      found: grouped(bytes.length),
    });
  }
  return info;
}

/** What a file is by its first bytes, for a message: "a GIF". */
export function kindOf(bytes: Uint8Array): string {
  if (bytes.length === 0) return "an empty file: 0 bytes";
  if (startsWith(bytes, "\xff\xd8\xff")) return "a JPEG";
  if (startsWith(bytes, "\x89PNG\r\n\x1a\n")) return "a PNG";
  if (startsWith(bytes, "RIFF") && startsWith(bytes, "WEBP", 8)) return "a WebP";
  if (startsWith(bytes, "GIF8")) return "a GIF";
  if (startsWith(bytes, "BM")) return "a BMP";
  if (startsWith(bytes, "II*\0") || startsWith(bytes, "MM\0*")) return "a TIFF";
  if (startsWith(bytes, "ftyp", 4)) return "a HEIC, AVIF or video file";
  if (startsWith(bytes, "%PDF")) return "a PDF";
  return isText(bytes) ? "a text file, not a picture" : "not a picture";
}

/** What the header says, and the fewest bytes that a file of its size can have. */
interface Header extends ImageInfo {
  readonly shortest: number;
}

function readHeader(bytes: Uint8Array, view: DataView, where: string): Header {
  const kind = kindOf(bytes);
  if (kind === "a JPEG") return jpegHeader(bytes, view, where);
  if (kind === "a PNG") return pngHeader(bytes, view, where);
  if (kind === "a WebP") return webpHeader(bytes, view, where);
  throw DataError.at(where, bytes.length === 0 ? kind : `${kind}; JPEG, PNG and WebP are read`);
}

/** Frame headers by their marker's low byte; the others of C0..CF are tables or arithmetic-coded. */
const HUFFMAN_FRAMES: ReadonlySet<number> = new Set([0xc0, 0xc1, 0xc2]);
const LOSSLESS_OR_DIFFERENTIAL: ReadonlySet<number> = new Set([0xc3, 0xc5, 0xc6, 0xc7]);
const ARITHMETIC_FRAMES: ReadonlySet<number> = new Set([0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf]);
const PROGRESSIVE = 0xc2;

function jpegHeader(bytes: Uint8Array, view: DataView, where: string): Header {
  let frame: Frame | undefined;
  let scans: Scans | undefined;
  for (const segment of jpegSegments(bytes)) {
    const { marker, at, start, end } = segment;
    if (HUFFMAN_FRAMES.has(marker)) {
      if (frame !== undefined) throw DataError.at(where, "a JPEG with two frame headers");
      frame = readFrame(bytes, view, segment, where);
    } else if (ARITHMETIC_FRAMES.has(marker)) {
      throw DataError.at(where, "an arithmetic-coded JPEG, which is not read");
    } else if (LOSSLESS_OR_DIFFERENTIAL.has(marker)) {
      throw DataError.at(where, "a lossless or hierarchical JPEG, which is not read");
    } else if (marker === START_OF_SCAN) {
      if (frame === undefined) throw DataError.at(where, "a JPEG scan before any frame header");
      const scanned = bytes.subarray(start + 1, Math.min(end, start + 1 + 2 * (bytes[start] ?? 0)));
      if (scans === undefined && !frame.progressive && scanned.length === 2 * frame.components) {
        // The only scan. In coded data FF is followed by 00 or a restart marker, so FF D9 can only be the end.
        const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        if (all.lastIndexOf("\xff\xd9", undefined, "latin1") < at) {
          throw notWhole(bytes, "inside scan 1", where);
        }
        return headerOf(frame, 0);
      }
      scans ??= new Scans(bytes.length, where);
      // A component's number, then its tables'.
      for (let i = 0; i < scanned.length; i += 2) scans.blocks += frame.blocks.get(scanned[i] as number) ?? 0;
      scans.end();
    } else if (marker === END_OF_IMAGE) {
      if (frame === undefined || scans === undefined)
        throw DataError.at(where, "a JPEG without a picture in it");
      return headerOf(frame, COEFFICIENTS_PER_BLOCK);
    }
  }
  throw notWhole(bytes, scans === undefined ? "inside its header" : `inside scan ${scans.count}`, where);
}

/** Of 64 coefficients, 16 bits each. */
const COEFFICIENTS_PER_BLOCK = 128;

function headerOf({ width, height, components, blocks }: Frame, perBlock: number): Header {
  const all = [...blocks.values()].reduce((sum, count) => sum + count, 0);
  return {
    format: "jpeg",
    width,
    height,
    grayscale: components === 1,
    coefficients: perBlock * all,
    // Every block of the largest component takes at least a bit.
    shortest: Math.ceil((Math.floor(width / 8) * Math.floor(height / 8)) / 8),
  };
}

/** What passing over a picture's blocks again and again may cost. */
class Scans {
  count = 0;
  /** Passed over in all of them. */
  blocks = 0;

  constructor(
    private readonly bytes: number,
    private readonly where: string,
  ) {}

  /** @throws DataError when it was one too many. */
  end(): void {
    this.count++;
    const allowed = FREE_BLOCKS + MAX_BLOCKS_PER_BYTE * this.bytes;
    if (this.count <= MAX_SCANS && this.blocks <= allowed) return;
    throw DataError.at(this.where, "a JPEG whose scans take more work than a file of its length is given", {
      expected: `at most ${MAX_SCANS} scans over ${grouped(allowed)} blocks together`,
      found: `${this.count} over ${grouped(this.blocks)} before its end`,
      hint: "Store it again as a JPEG of one scan, or leave it out",
    });
  }
}

interface Frame extends Size {
  readonly progressive: boolean;
  readonly components: number;
  /** How many each component has, by its number. */
  readonly blocks: ReadonlyMap<number, number>;
}

function readFrame(
  bytes: Uint8Array,
  view: DataView,
  { marker, at, start, end }: JpegSegment,
  where: string,
): Frame {
  const components = end - start < 6 ? 0 : view.getUint8(start + 5);
  if (end - start < 6 + 3 * components || components === 0)
    throw DataError.at(`${where}, byte ${at}`, "a JPEG frame header cut short");
  const precision = view.getUint8(start);
  if (precision !== 8) {
    throw DataError.at(where, "a JPEG of more than 8 bits", { expected: "8 bits", found: `${precision}` });
  }
  if (components !== 1 && components !== 3) {
    throw DataError.at(where, components === 4 ? "a CMYK JPEG" : "neither a grayscale nor a colour JPEG", {
      expected: "1 or 3 components",
      found: `${components}`,
      hint: "Convert it to RGB",
    });
  }
  const [height, width] = [view.getUint16(start + 1), view.getUint16(start + 3)];
  const parts = Array.from({ length: components }, (_, i) => {
    const [id = 0, sampling = 0] = bytes.subarray(start + 6 + 3 * i);
    return { id, h: sampling >> 4, v: sampling & 15 };
  });
  const most = { h: Math.max(1, ...parts.map(({ h }) => h)), v: Math.max(1, ...parts.map(({ v }) => v)) };
  const along = (side: number, share: number): number => Math.ceil(Math.ceil(side * share) / 8);
  const blocks = new Map(
    parts.map(({ id, h, v }) => [id, along(width, h / most.h) * along(height, v / most.v)] as const),
  );
  return { width, height, progressive: marker === PROGRESSIVE, components, blocks };
}

function pngHeader(bytes: Uint8Array, view: DataView, where: string): Header {
  if (bytes.length < 33) throw notWhole(bytes, "inside its header", where, "PNG");
  if (!startsWith(bytes, "IHDR", 12)) throw DataError.at(where, "not a PNG: it does not begin with IHDR");
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  const bits = view.getUint8(24) * (PNG_CHANNELS[view.getUint8(25)] ?? 1);
  const shortest = Math.floor((width * height * bits) / 8 / MAX_DEFLATION);
  return { ...plain, format: "png", width, height, shortest };
}

/** Of formats other than JPEG. */
const plain = { grayscale: false, coefficients: 0, shortest: 0 };

/** By colour type: gray, none, RGB, palette, gray with alpha, none, RGB with alpha. */
const PNG_CHANNELS: readonly number[] = [1, 1, 3, 1, 2, 1, 4];

function webpHeader(bytes: Uint8Array, view: DataView, where: string): Header {
  // Bytes 4..8 give the length of all that follows them.
  if (bytes.length < 30 || view.getUint32(4, true) + 8 > bytes.length) {
    throw notWhole(bytes, "before the length it declares", where, "WebP");
  }
  const webp = (width: number, height: number): Header => ({ ...plain, format: "webp", width, height });
  if (startsWith(bytes, "VP8 ", 12)) {
    return webp(view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff);
  }
  if (startsWith(bytes, "VP8L", 12)) {
    const packed = view.getUint32(21, true);
    return webp((packed & 0x3fff) + 1, ((packed >>> 14) & 0x3fff) + 1);
  }
  if (startsWith(bytes, "VP8X", 12)) {
    if (view.getUint8(20) & 0x02) throw DataError.at(where, "an animated WebP, which is not read");
    return webp(1 + (view.getUint32(24, true) & 0xffffff), 1 + (view.getUint32(26, true) >>> 8));
  }
  throw DataError.at(where, "a WebP without a picture in it");
}

function notWhole(bytes: Uint8Array, place: string, where: string, format = "JPEG"): DataError {
  return DataError.at(where, `not a whole ${format}: it ends after ${grouped(bytes.length)} bytes, ${place}`);
}

/** UTF-8 without control characters, as far as the first bytes tell. */
function isText(bytes: Uint8Array): boolean {
  const start = bytes.subarray(0, 256);
  try {
    // The last character may go on behind them.
    const text = new TextDecoder("utf-8", { fatal: true }).decode(start, { stream: bytes.length > 256 });
    return !/[^\P{Cc}\t\n\r]/u.test(text);
  } catch {
    return false;
  }
}

function startsWith(bytes: Uint8Array, text: string, at = 0): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}

/** 20113 -> "20,113", whatever the locale. */
function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}
