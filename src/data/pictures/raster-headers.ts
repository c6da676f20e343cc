/**
 * What the headers of pictures other than JPEG say: their size, and how they stand in the file.
 *
 * Of a file of several frames or pages the first is meant. Nothing is decoded; every length is checked against the
 * bytes there are. Offsets are in bytes, sizes in pixels.
 *
 * Sources: W3C PNG section 11.2.2, RFC 9649 (WebP), GIF89a section 18, TIFF 6.0 section 2, ISO/IEC 23008-12 6.5.3 (AVIF's `ispe`).
 */

import type { Size } from "./augment.js";

/** Formats that sharp decodes. */
export type RasterFormat = "png" | "webp" | "gif" | "tiff" | "avif";

export interface RasterHeader extends Size {
  /** The fewest bytes that a file of its size can have. */
  readonly shortest: number;
  /** Whether more frames or pages follow the first; as far as the header tells. */
  readonly more: boolean;
}

/** @returns why it cannot be used, in words that follow the file's name, if so. */
export function rasterHeader(format: RasterFormat, bytes: Uint8Array): RasterHeader | string {
  return READERS[format](bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
}

const READERS: Readonly<Record<RasterFormat, (bytes: Uint8Array, view: DataView) => RasterHeader | string>> =
  { png: pngHeader, webp: webpHeader, gif: gifHeader, tiff: tiffHeader, avif: avifHeader };

/** What deflate gains at best (zlib.net, "zlib Technical Details"). */
const MAX_DEFLATION = 1032;

/** By colour type: gray, none, RGB, palette, gray with alpha, none, RGB with alpha. */
const PNG_CHANNELS: readonly number[] = [1, 1, 3, 1, 2, 1, 4];

function pngHeader(bytes: Uint8Array, view: DataView): RasterHeader | string {
  if (bytes.length < 33) return cutShort(bytes, "inside its header", "PNG");
  if (!startsWith(bytes, "IHDR", 12)) return "not a PNG: it does not begin with IHDR";
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  const bits = view.getUint8(24) * (PNG_CHANNELS[view.getUint8(25)] ?? 1);
  return { width, height, shortest: Math.floor((width * height * bits) / 8 / MAX_DEFLATION), more: false };
}

function webpHeader(bytes: Uint8Array, view: DataView): RasterHeader | string {
  // Bytes 4..8 give the length of all that follows them.
  if (bytes.length < 30 || view.getUint32(4, true) + 8 > bytes.length)
    return cutShort(bytes, "before the length it declares", "WebP");
  const webp = (width: number, height: number, more = false) => ({ width, height, shortest: 0, more });
  if (startsWith(bytes, "VP8 ", 12))
    return webp(view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff);
  if (startsWith(bytes, "VP8L", 12)) {
    const packed = view.getUint32(21, true);
    return webp((packed & 0x3fff) + 1, ((packed >>> 14) & 0x3fff) + 1);
  }
  if (startsWith(bytes, "VP8X", 12)) {
    const [width, height] = [view.getUint32(24, true) & 0xffffff, view.getUint32(26, true) >>> 8];
    return webp(1 + width, 1 + height, (view.getUint8(20) & 0x02) !== 0);
  }
  return "a WebP without a picture in it";
}

function gifHeader(bytes: Uint8Array, view: DataView): RasterHeader | string {
  if (bytes.length < 14) return cutShort(bytes, "inside its header", "GIF");
  // An animation says how often it repeats in front of its first frame.
  const more = placeOf("NETSCAPE2.0", bytes.subarray(0, 4096)) >= 0;
  return { width: view.getUint16(6, true), height: view.getUint16(8, true), shortest: 0, more };
}

const TIFF_WIDTH = 256;
const TIFF_HEIGHT = 257;
const TIFF_COLOURS = 262;
const TIFF_INKS = 5;
const TIFF_SHORT = 3;

function tiffHeader(bytes: Uint8Array, view: DataView): RasterHeader | string {
  const cut = cutShort(bytes, "inside its header", "TIFF");
  if (bytes.length < 8) return cut;
  const little = bytes[0] === 0x49;
  const directory = view.getUint32(4, little);
  if (directory + 2 > bytes.length) return cut;
  const entries = view.getUint16(directory, little);
  const end = directory + 2 + 12 * entries;
  if (end > bytes.length) return cut;
  const found = new Map<number, number>();
  for (let at = directory + 2; at < end; at += 12) {
    const short = view.getUint16(at + 2, little) === TIFF_SHORT;
    found.set(
      view.getUint16(at, little),
      short ? view.getUint16(at + 8, little) : view.getUint32(at + 8, little),
    );
  }
  const [width, height] = [found.get(TIFF_WIDTH), found.get(TIFF_HEIGHT)];
  if (width === undefined || height === undefined) return "a TIFF without a picture in it";
  if (found.get(TIFF_COLOURS) === TIFF_INKS) return "a CMYK TIFF; save it as RGB";
  const more = end + 4 <= bytes.length && view.getUint32(end, little) !== 0;
  return { width, height, shortest: 0, more };
}

/** The box that gives a picture's size stands among the first few hundred bytes. */
const AVIF_HEAD = 2 ** 16;

function avifHeader(bytes: Uint8Array, view: DataView): RasterHeader | string {
  const head = bytes.subarray(0, AVIF_HEAD);
  // Of several, thumbnails and alpha among them, the largest is the picture.
  let size: Size = { width: 0, height: 0 };
  for (
    let at = placeOf("ispe", head);
    at >= 0 && at + 16 <= head.length;
    at = placeOf("ispe", head, at + 4)
  ) {
    const [width, height] = [view.getUint32(at + 8), view.getUint32(at + 12)];
    if (width * height > size.width * size.height) size = { width, height };
  }
  if (size.width === 0) return "an AVIF without a picture in it";
  // Its decoder turns it by this box: quarters of a turn (ISO/IEC 23008-12 6.5.10).
  const turn = placeOf("irot", head);
  if (turn >= 0 && ((head[turn + 4] ?? 0) & 1) === 1) size = { width: size.height, height: size.width };
  return { ...size, shortest: 0, more: startsWith(bytes, "avis", 8) };
}

export function cutShort(bytes: Uint8Array, place: string, format: string): string {
  const count = String(bytes.length).replace(/\B(?=(\d{3})+$)/g, ",");
  return `not a whole ${format}: it ends after ${count} bytes, ${place}`;
}

/** Where a text begins, from `at` on; -1 where it is not. */
function placeOf(text: string, bytes: Uint8Array, at = 0): number {
  for (let place = at; place + text.length <= bytes.length; place++)
    if (startsWith(bytes, text, place)) return place;
  return -1;
}

export function startsWith(bytes: Uint8Array, text: string, at = 0): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}
