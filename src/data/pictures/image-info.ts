/**
 * What a picture's first bytes say: format, size, and why it cannot be used, before anything is decoded.
 *
 * The format is judged by content, never by the file's name. EXIF is skipped unread, its orientation too, as
 * TensorFlow's decode_jpeg and torchvision's loader do, so that accuracies compare.
 *
 * Offsets are in bytes, sizes in pixels.
 *
 * Sources: ITU-T T.81 annex B (JPEG), W3C PNG section 11.2.2, RFC 9649 (WebP).
 */

import { DataError } from "../../core/error.js";

/** A picture that can be decoded, as far as its header tells. */
export interface ImageInfo {
  readonly format: "jpeg" | "png" | "webp";
  readonly width: number;
  readonly height: number;
}

/** 100 megapixels, 300 MB decoded; larger than any camera's, smaller than a decompression bomb. */
export const MAX_PIXELS = 100_000_000;

/** WebP's largest side is 16,383, JPEG's 65,535; a PNG may claim 2^31. */
const MAX_SIDE = 65_535;

/**
 * Reads the header of a JPEG, PNG or WebP.
 *
 * @throws DataError naming `where` when it is something else, cut short, of a kind not read (CMYK, arithmetic
 * coding, 12 bits), or larger than {@link MAX_PIXELS}.
 */
export function imageInfo(bytes: Uint8Array, where: string): ImageInfo {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const info = readHeader(bytes, view, where);
  const { width, height } = info;
  if (width === 0 || height === 0)
    throw new DataError({ where, what: `a picture of ${width} x ${height} pixels` });
  if (width > MAX_SIDE || height > MAX_SIDE || width * height > MAX_PIXELS) {
    throw new DataError({
      where,
      what: `${width} x ${height} pixels are more than is decoded`,
      expected: `at most ${grouped(MAX_PIXELS)} pixels`,
      found: grouped(width * height),
      hint: "Store it smaller, or leave it out",
    });
  }
  return info;
}

function readHeader(bytes: Uint8Array, view: DataView, where: string): ImageInfo {
  if (bytes.length === 0) throw new DataError({ where, what: "an empty file: 0 bytes" });
  if (startsWith(bytes, "\xff\xd8\xff")) return jpegInfo(bytes, view, where);
  if (startsWith(bytes, "\x89PNG\r\n\x1a\n")) return pngInfo(bytes, view, where);
  if (startsWith(bytes, "RIFF") && startsWith(bytes, "WEBP", 8)) return webpInfo(bytes, view, where);
  throw new DataError({ where, what: `${otherKind(bytes)}; JPEG, PNG and WebP are read` });
}

/** Frame headers by their marker's low byte; the others of C0..CF are tables or arithmetic-coded. */
const HUFFMAN_FRAMES: ReadonlySet<number> = new Set([0xc0, 0xc1, 0xc2]);
const LOSSLESS_OR_DIFFERENTIAL: ReadonlySet<number> = new Set([0xc3, 0xc5, 0xc6, 0xc7]);
const ARITHMETIC_FRAMES: ReadonlySet<number> = new Set([0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf]);
const START_OF_SCAN = 0xda;
const END_OF_IMAGE = 0xd9;

function jpegInfo(bytes: Uint8Array, view: DataView, where: string): ImageInfo {
  let info: ImageInfo | undefined;
  for (let at = 2; ;) {
    // Fill bytes: any number of FF may stand before a marker.
    while (bytes[at] === 0xff && bytes[at + 1] === 0xff) at++;
    if (at + 4 > bytes.length) throw notWhole(bytes, "inside its header", where);
    const marker = bytes[at + 1] as number;
    if (bytes[at] !== 0xff || marker === 0) {
      throw new DataError({ where: `${where}, byte ${at}`, what: "not a JPEG: a marker is missing" });
    }
    if (marker === END_OF_IMAGE) throw new DataError({ where, what: "a JPEG without a picture in it" });
    if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
      at += 2;
      continue;
    }
    const length = view.getUint16(at + 2);
    if (at + 2 + length > bytes.length) throw notWhole(bytes, "inside its header", where);
    if (HUFFMAN_FRAMES.has(marker)) info = frameInfo(view, at, length, where);
    else if (ARITHMETIC_FRAMES.has(marker)) {
      throw new DataError({ where, what: "an arithmetic-coded JPEG, which is not read" });
    } else if (LOSSLESS_OR_DIFFERENTIAL.has(marker)) {
      throw new DataError({ where, what: "a lossless or hierarchical JPEG, which is not read" });
    } else if (marker === START_OF_SCAN) {
      if (info === undefined) throw new DataError({ where, what: "a JPEG scan before any frame header" });
      // In coded data FF is followed by 00 or a restart marker, so FF D9 can only be the end.
      const end = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).lastIndexOf(
        "\xff\xd9",
        undefined,
        "latin1",
      );
      if (end < at) throw notWhole(bytes, `inside scan ${countScans(bytes, at)}`, where);
      return info;
    }
    at += 2 + length;
  }
}

function frameInfo(view: DataView, at: number, length: number, where: string): ImageInfo {
  if (length < 8)
    throw new DataError({ where: `${where}, byte ${at}`, what: "a JPEG frame header cut short" });
  const precision = view.getUint8(at + 4);
  const components = view.getUint8(at + 9);
  if (precision !== 8) {
    throw new DataError({
      where,
      what: "a JPEG of more than 8 bits",
      expected: "8 bits",
      found: `${precision}`,
    });
  }
  if (components === 4) {
    throw new DataError({
      where,
      what: "a CMYK JPEG, which is not read",
      expected: "1 or 3 components",
      found: "4",
      hint: "Convert it to RGB",
    });
  }
  if (components !== 1 && components !== 3) {
    throw new DataError({
      where,
      what: "neither a grayscale nor a colour JPEG",
      expected: "1 or 3 components",
      found: `${components}`,
    });
  }
  return { format: "jpeg", height: view.getUint16(at + 5), width: view.getUint16(at + 7) };
}

/** Which scan the data that begins at `from` breaks off in, from 1. */
function countScans(bytes: Uint8Array, from: number): number {
  let scans = 0;
  for (let at = from; at + 1 < bytes.length; at++) {
    if (bytes[at] === 0xff && bytes[at + 1] === START_OF_SCAN) scans++;
  }
  return scans;
}

function pngInfo(bytes: Uint8Array, view: DataView, where: string): ImageInfo {
  if (bytes.length < 33) throw notWhole(bytes, "inside its header", where, "PNG");
  if (!startsWith(bytes, "IHDR", 12))
    throw new DataError({ where, what: "not a PNG: it does not begin with IHDR" });
  return { format: "png", width: view.getUint32(16), height: view.getUint32(20) };
}

function webpInfo(bytes: Uint8Array, view: DataView, where: string): ImageInfo {
  // Bytes 4..8 give the length of all that follows them.
  if (bytes.length < 30 || view.getUint32(4, true) + 8 > bytes.length) {
    throw notWhole(bytes, "before the length it declares", where, "WebP");
  }
  const webp = (width: number, height: number): ImageInfo => ({ format: "webp", width, height });
  if (startsWith(bytes, "VP8 ", 12)) {
    return webp(view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff);
  }
  if (startsWith(bytes, "VP8L", 12)) {
    const packed = view.getUint32(21, true);
    return webp((packed & 0x3fff) + 1, ((packed >>> 14) & 0x3fff) + 1);
  }
  if (startsWith(bytes, "VP8X", 12)) {
    if (view.getUint8(20) & 0x02) throw new DataError({ where, what: "an animated WebP, which is not read" });
    return webp(1 + (view.getUint32(24, true) & 0xffffff), 1 + (view.getUint32(26, true) >>> 8));
  }
  throw new DataError({ where, what: "a WebP without a picture in it" });
}

function notWhole(bytes: Uint8Array, place: string, where: string, format = "JPEG"): DataError {
  return new DataError({
    where,
    what: `not a whole ${format}: it ends after ${grouped(bytes.length)} bytes, ${place}`,
  });
}

/** What a file that is no JPEG, PNG or WebP probably is, for a message: "a GIF". */
export function otherKind(bytes: Uint8Array): string {
  if (startsWith(bytes, "GIF8")) return "a GIF";
  if (startsWith(bytes, "BM")) return "a BMP";
  if (startsWith(bytes, "II*\0") || startsWith(bytes, "MM\0*")) return "a TIFF";
  if (startsWith(bytes, "ftyp", 4)) return "a HEIC, AVIF or video file";
  if (startsWith(bytes, "%PDF")) return "a PDF";
  return isText(bytes) ? "a text file, not a picture" : "not a picture";
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
