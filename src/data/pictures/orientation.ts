/**
 * How a picture is turned to stand upright: EXIF's orientation in JPEG, PNG, WebP and TIFF, and what it does to sizes,
 * boxes and pixels. native/decode/turned.h turns the pixels of training
 * where there is an addon.
 *
 * Of EXIF nothing but this one number is looked for. Every offset is checked against the bytes there are; what is cut
 * short or makes no sense means "as stored", and is never an error, since the pixels are whole. A GIF has none; an AVIF
 * is turned by its own boxes, which its decoder follows. XMP is not read.
 *
 * Offsets are in bytes, sizes in pixels. Sources: CIPA DC-008 (EXIF 2.32) 4.6.4, tag 0112; TIFF 6.0 section 2; W3C PNG
 * 11.3.3.4 (eXIf); RFC 9649 2.7.1.5 (EXIF). Pillow's ImageOps.exif_transpose turns the same files the same way.
 */

import type { Box, ObjectBox, Size } from "./augment.js";
import type { ImageInfo } from "./image-info.js";
import { jpegSegments, START_OF_SCAN } from "./jpeg-segments.js";
import { startsWith } from "./raster-headers.js";

/** Where the first row and the first column of what is stored belong: 1 is upright, 6 a camera held with its right side down. */
export type Orientation = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8;

/** What is done with it. */
export const orientationRules = ["apply", "ignore"] as const;
export type OrientationRule = (typeof orientationRules)[number];

/** The orientation that a file gives; 1 where it gives none that makes sense. */
export function exifOrientation(format: ImageInfo["format"], bytes: Uint8Array): Orientation {
  const exif = READERS[format]?.(bytes);
  return exif === undefined ? 1 : orientationIn(exif);
}

/** First columns and rows are exchanged, then left and right, then top and bottom. */
const TURNS: Readonly<Record<Orientation, readonly [swap: boolean, mirrorX: boolean, mirrorY: boolean]>> = {
  1: [false, false, false],
  2: [false, true, false],
  3: [false, true, true],
  4: [false, false, true],
  5: [true, false, false],
  6: [true, true, false],
  7: [true, true, true],
  8: [true, false, true],
};

/** What turns a turned picture back. */
export function undone(orientation: Orientation): Orientation {
  return orientation === 6 ? 8 : orientation === 8 ? 6 : orientation;
}

export function turnSize({ width, height }: Size, orientation: Orientation): Size {
  return TURNS[orientation][0] ? { width: height, height: width } : { width, height };
}

/** A box of a picture of `size`, in the turned picture. */
export function turnBox(box: Box, size: Size, orientation: Orientation): Box {
  const [swap, mirrorX, mirrorY] = TURNS[orientation];
  const { x, y, width, height } = swap ? { x: box.y, y: box.x, width: box.height, height: box.width } : box;
  const turned = turnSize(size, orientation);
  return {
    x: mirrorX ? turned.width - x - width : x,
    y: mirrorY ? turned.height - y - height : y,
    width,
    height,
  };
}

/** The same of boxes in shares of the picture. */
export function turnObjects(
  boxes: readonly ObjectBox[] | undefined,
  orientation: Orientation,
): readonly ObjectBox[] | undefined {
  if (boxes === undefined || orientation === 1) return boxes;
  const [swap, mirrorX, mirrorY] = TURNS[orientation];
  return boxes.map((box) => {
    const { xmin, ymin, xmax, ymax } = swap
      ? { xmin: box.ymin, ymin: box.xmin, xmax: box.ymax, ymax: box.xmax }
      : box;
    return {
      xmin: mirrorX ? 1 - xmax : xmin,
      ymin: mirrorY ? 1 - ymax : ymin,
      xmax: mirrorX ? 1 - xmin : xmax,
      ymax: mirrorY ? 1 - ymin : ymax,
    };
  });
}

/** Pixels [height, width, channels], turned. */
export function turnPixels(
  data: Uint8Array,
  size: Size,
  channels: number,
  orientation: Orientation,
): Uint8Array {
  const turned = turnSize(size, orientation);
  const place = (x: number, y: number): number => {
    const to = turnBox({ x, y, width: 1, height: 1 }, size, orientation);
    return (to.y * turned.width + to.x) * channels;
  };
  const origin = place(0, 0);
  // How far a step to the right, and one down, leads in the turned picture.
  const [right, down] = [place(1, 0) - origin, place(0, 1) - origin];
  const out = new Uint8Array(data.length);
  let from = 0;
  for (let y = 0; y < size.height; y++) {
    let to = origin + y * down;
    for (let x = 0; x < size.width; x++, to += right)
      for (let c = 0; c < channels; c++) out[to + c] = data[from++] as number;
  }
  return out;
}

/** A file's EXIF: a TIFF without its picture, or with it. */
const READERS: Partial<Record<ImageInfo["format"], (bytes: Uint8Array) => Uint8Array | undefined>> = {
  jpeg: exifOfJpeg,
  png: exifOfPng,
  webp: exifOfWebp,
  tiff: (bytes) => bytes,
};

const APP1 = 0xe1;
const MARK = "Exif\0\0";

/** EXIF that is longer than a segment goes on in the next ones. */
function exifOfJpeg(bytes: Uint8Array): Uint8Array | undefined {
  const parts: Uint8Array[] = [];
  for (const { marker, start, end } of jpegSegments(bytes)) {
    if (marker === START_OF_SCAN) break;
    const content = bytes.subarray(start, end);
    if (marker === APP1 && startsWith(content, MARK)) parts.push(content.subarray(MARK.length));
  }
  return parts.length > 1 ? Uint8Array.from(parts.flatMap((part) => [...part])) : parts[0];
}

/** A chunk: length, name, content, CRC. */
function exifOfPng(bytes: Uint8Array): Uint8Array | undefined {
  const view = viewOf(bytes);
  for (let at = 8; at + 12 <= bytes.length;) {
    const end = at + 8 + view.getUint32(at);
    if (end > bytes.length) return undefined;
    if (startsWith(bytes, "eXIf", at + 4)) return bytes.subarray(at + 8, end);
    at = end + 4;
  }
  return undefined;
}

/** A chunk: name, length, content, a byte more where that is odd. */
function exifOfWebp(bytes: Uint8Array): Uint8Array | undefined {
  const view = viewOf(bytes);
  for (let at = 12; at + 8 <= bytes.length;) {
    const start = at + 8;
    const length = view.getUint32(at + 4, true);
    if (start + length > bytes.length) return undefined;
    if (startsWith(bytes, "EXIF", at)) {
      const content = bytes.subarray(start, start + length);
      return startsWith(content, MARK) ? content.subarray(MARK.length) : content;
    }
    at = start + length + (length % 2);
  }
  return undefined;
}

const ORIENTATION = 0x0112;
/** Of an entry: tag, type, count, value. */
const ENTRY = 12;
const SHORT = 3;
const LONG = 4;

function orientationIn(exif: Uint8Array): Orientation {
  const view = viewOf(exif);
  const little = startsWith(exif, "II*\0");
  if (exif.length < 8 || !(little || startsWith(exif, "MM\0*"))) return 1;
  const directory = view.getUint32(4, little);
  if (directory + 2 > exif.length) return 1;
  const count = view.getUint16(directory, little);
  for (let i = 0; i < count; i++) {
    const at = directory + 2 + i * ENTRY;
    if (at + ENTRY > exif.length) return 1;
    if (view.getUint16(at, little) !== ORIENTATION) continue;
    const type = view.getUint16(at + 2, little);
    if (view.getUint32(at + 4, little) !== 1 || (type !== SHORT && type !== LONG)) return 1;
    const value = type === SHORT ? view.getUint16(at + 8, little) : view.getUint32(at + 8, little);
    return value >= 1 && value <= 8 ? (value as Orientation) : 1;
  }
  return 1;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
