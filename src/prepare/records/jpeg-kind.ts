/**
 * What a file is by its first bytes, and whether it goes into a record as it is, as colour, or not at all.
 *
 * The name is never asked: ImageNet's n02105855_2933.JPEG is a PNG, and 22 of its JPEGs are CMYK. Only headers are
 * read, as the original did, so a picture damaged further in is kept; decoding it is what `--verify` is for. EXIF and
 * every other application segment is stepped over by its length (the one exception is Adobe's single byte), because
 * many of ImageNet's are corrupt.
 *
 * Offsets are in bytes, sizes in pixels.
 *
 * Sources: ITU-T T.81 annex B; Adobe Technical Note 5116 section 18 (APP14); create_tfrecords.py of
 * TropComplique/shufflenet-v2-tensorflow @ 22e5615 for what is kept.
 */

import { otherKind } from "../../data/pictures/image-info.js";

export type PictureKind = JpegKind | OtherKind;

/** What a JPEG's headers say of it. */
export interface JpegKind {
  readonly format: "jpeg";
  readonly width: number;
  readonly height: number;
  /** 1 is grayscale, 3 is colour, 4 is CMYK or YCCK. */
  readonly components: number;
  /** Bits per sample. */
  readonly precision: number;
  readonly coding: Coding;
  /** The colour transform that Adobe's segment names: 0 none, 1 YCbCr, 2 YCCK; undefined without that segment. */
  readonly adobeTransform: number | undefined;
}

export type Coding = "baseline" | "progressive" | "arithmetic" | "lossless or hierarchical";

/** Anything that is no JPEG with a whole header. */
export interface OtherKind {
  readonly format: "other";
  /** "a PNG, not a JPEG", "an empty file". */
  readonly what: string;
}

/** What becomes of a picture: its bytes as they are, made RGB first, or left out for a reason. */
export type Verdict = "keep" | "grayscale" | { readonly skip: string };

/** The original keeps what Pillow opens as a JPEG of mode RGB, and L after making it RGB; we name what it left out. */
export function judge(kind: PictureKind): Verdict {
  if (kind.format === "other") return { skip: kind.what };
  if (kind.coding === "arithmetic" || kind.coding === "lossless or hierarchical") {
    return { skip: `a JPEG of ${kind.coding} coding` };
  }
  if (kind.precision !== 8) return { skip: `a JPEG of ${kind.precision} bits per sample, not 8` };
  if (kind.width === 0 || kind.height === 0) {
    return { skip: `a JPEG of ${kind.width} x ${kind.height} pixels` };
  }
  if (kind.components === 3) return "keep";
  if (kind.components === 1) return "grayscale";
  if (kind.components === 4) return { skip: kind.adobeTransform === 2 ? "a YCCK JPEG" : "a CMYK JPEG" };
  return { skip: `a JPEG of ${kind.components} components` };
}

/** Reads a picture's header; never throws, whatever the bytes are. */
export function pictureKind(bytes: Uint8Array): PictureKind {
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return jpegKind(bytes);
  if (bytes.length === 0) return other("an empty file");
  if (startsWith(bytes, "\x89PNG\r\n\x1a\n")) return other("a PNG, not a JPEG");
  if (startsWith(bytes, "RIFF") && startsWith(bytes, "WEBP", 8)) return other("a WebP, not a JPEG");
  const what = otherKind(bytes);
  return other(what.endsWith("not a picture") ? what : `${what}, not a JPEG`);
}

const APP14 = 0xee;
const START_OF_SCAN = 0xda;
const END_OF_IMAGE = 0xd9;

/** Frame headers among the markers C0..CF; the other three are Huffman tables, a reserved one and arithmetic tables. */
function codingOf(marker: number): Coding | undefined {
  if (marker === 0xc0 || marker === 0xc1) return "baseline";
  if (marker === 0xc2) return "progressive";
  if (marker < 0xc0 || marker > 0xcf || marker === 0xc4 || marker === 0xc8 || marker === 0xcc)
    return undefined;
  return marker === 0xc9 || marker === 0xca ? "arithmetic" : "lossless or hierarchical";
}

/** Walks the segments up to the first scan. Adobe's may stand before the frame header or behind it. */
function jpegKind(bytes: Uint8Array): PictureKind {
  let frame: Omit<JpegKind, "adobeTransform"> | undefined;
  let adobeTransform: number | undefined;
  for (let at = 2; ;) {
    // Fill bytes: any number of FF may stand before a marker.
    while (bytes[at] === 0xff && bytes[at + 1] === 0xff) at++;
    const marker = bytes[at + 1];
    if (marker === undefined) return cutShort(bytes);
    if (bytes[at] !== 0xff || marker === 0) return other(`a JPEG damaged at byte ${at}`);
    if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
      at += 2; // markers that stand alone
      continue;
    }
    if (marker === END_OF_IMAGE) return other("a JPEG without a picture in it");
    const length = word(bytes, at + 2);
    if (length === undefined || at + 2 + length > bytes.length) return cutShort(bytes);
    if (length < 2) return other(`a JPEG damaged at byte ${at}`);
    const coding = codingOf(marker);
    if (coding !== undefined) {
      if (length < 8) return other(`a JPEG damaged at byte ${at}`);
      frame ??= {
        format: "jpeg",
        precision: bytes[at + 4] as number,
        height: word(bytes, at + 5) as number,
        width: word(bytes, at + 7) as number,
        components: bytes[at + 9] as number,
        coding,
      };
    } else if (marker === APP14 && length >= 14 && startsWith(bytes, "Adobe", at + 4)) {
      adobeTransform = bytes[at + 15];
    } else if (marker === START_OF_SCAN) {
      return frame === undefined
        ? other("a JPEG whose scan has no frame header")
        : { ...frame, adobeTransform };
    }
    at += 2 + length;
  }
}

function cutShort(bytes: Uint8Array): OtherKind {
  return other(`a JPEG that ends inside its header, after ${bytes.length} bytes`);
}

function other(what: string): OtherKind {
  return { format: "other", what };
}

/** Two bytes, the higher first. */
function word(bytes: Uint8Array, at: number): number | undefined {
  const low = bytes[at + 1];
  return low === undefined ? undefined : ((bytes[at] as number) << 8) | low;
}

function startsWith(bytes: Uint8Array, text: string, at = 0): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}
