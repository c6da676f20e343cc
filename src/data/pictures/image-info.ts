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
 * Source: ITU-T T.81 annex B; of the other formats raster-headers.ts.
 */

import { DataError } from "../../core/error.js";
import type { Size } from "./augment.js";
import { cutShort, type RasterFormat, rasterHeader, startsWith } from "./raster-headers.js";
import { END_OF_IMAGE, type JpegSegment, jpegSegments, START_OF_SCAN } from "./jpeg-segments.js";

/** A picture that can be decoded, as far as its header tells. */
export interface ImageInfo extends Size {
  readonly format: "jpeg" | RasterFormat;
  /** A JPEG of one component. */
  readonly grayscale: boolean;
  /** A JPEG of four components. */
  readonly cmyk: boolean;
  /** Whether more frames or pages follow the first, which is the one that is used. */
  readonly more: boolean;
  /** Bytes that a decoder holds at once beside what it puts out: a progressive JPEG's coefficients. */
  readonly coefficients: number;
}

/** 100 megapixels, 300 MB decoded, for what is decoded whole. */
const MAX_DECODED_PIXELS = 100_000_000;

/** Stitched and scanned photographs; a JPEG is decoded by rows, and reduced. */
export const MAX_PIXELS = 300_000_000;

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

/**
 * Reads the header of a picture.
 *
 * @throws DataError naming `where` when it is something else, cut short, of a kind not read (lossless,
 * 12 bits), larger than {@link MAX_PIXELS}, or of more scans or coefficients than are worth their time and memory.
 */
export function imageInfo(bytes: Uint8Array, where: string): ImageInfo {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const info = readHeader(bytes, view, where);
  const { width, height } = info;
  if (width === 0 || height === 0) throw DataError.at(where, `a picture of ${width} x ${height} pixels`);
  const most = info.format === "jpeg" ? MAX_PIXELS : MAX_DECODED_PIXELS;
  if (width > MAX_SIDE || height > MAX_SIDE || width * height > most) {
    throw DataError.at(where, `${width} x ${height} pixels are more than is decoded`, {
      expected: `at most ${grouped(most)} pixels`,
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
  if (startsWith(bytes, "ftyp", 4)) {
    const brand = String.fromCharCode(...bytes.subarray(8, 12));
    if (brand === "avif" || brand === "avis") return "an AVIF";
    return /^(?:hei[cmsx]|hev[cmsx]|mif1|msf1)$/.test(brand) ? "a HEIC" : "a video";
  }
  if (startsWith(bytes, "%PDF")) return "a PDF";
  return isText(bytes) ? "a text file, not a picture" : "not a picture";
}

/** Whether its first bytes are those of a format that is read; whether it can be decoded is another question. */
export function isReadFormat(bytes: Uint8Array): boolean {
  const kind = kindOf(bytes);
  return kind === "a JPEG" || RASTERS.has(kind);
}

/** What the header says, and the fewest bytes that a file of its size can have. */
interface Header extends ImageInfo {
  readonly shortest: number;
}

function readHeader(bytes: Uint8Array, view: DataView, where: string): Header {
  const kind = kindOf(bytes);
  if (kind === "a JPEG") return jpegHeader(bytes, view, where);
  const format = RASTERS.get(kind);
  if (format !== undefined) {
    const header = rasterHeader(format, bytes);
    if (typeof header === "string") throw DataError.at(where, header);
    return { format, grayscale: false, cmyk: false, coefficients: 0, ...header };
  }
  if (kind === "a HEIC" || kind === "a BMP")
    throw DataError.at(where, `${kind}; save it as JPEG or PNG`, { expected: READ });
  throw DataError.at(where, bytes.length === 0 ? kind : `${kind}; ${READ} are read`);
}

const READ = "JPEG, PNG, WebP, GIF, TIFF and AVIF";

const RASTERS: ReadonlyMap<string, RasterFormat> = new Map([
  ["a PNG", "png"],
  ["a WebP", "webp"],
  ["a GIF", "gif"],
  ["a TIFF", "tiff"],
  ["an AVIF", "avif"],
]);

/** Frame headers by their marker's low byte; the others of C0..CF are tables, or of kinds that libjpeg does not decode. */
const FRAMES: ReadonlySet<number> = new Set([0xc0, 0xc1, 0xc2, 0xc9, 0xca]);
const LOSSLESS_OR_HIERARCHICAL: ReadonlySet<number> = new Set([
  0xc3, 0xc5, 0xc6, 0xc7, 0xcb, 0xcd, 0xce, 0xcf,
]);
const PROGRESSIVE: ReadonlySet<number> = new Set([0xc2, 0xca]);
const ARITHMETIC: ReadonlySet<number> = new Set([0xc9, 0xca]);

function jpegHeader(bytes: Uint8Array, view: DataView, where: string): Header {
  let frame: Frame | undefined;
  let scans: Scans | undefined;
  for (const segment of jpegSegments(bytes)) {
    const { marker, at, start, end } = segment;
    if (FRAMES.has(marker)) {
      if (frame !== undefined) throw DataError.at(where, "a JPEG with two frame headers");
      frame = readFrame(bytes, view, segment, where);
    } else if (LOSSLESS_OR_HIERARCHICAL.has(marker)) {
      throw DataError.at(where, "a lossless or hierarchical JPEG, which is not read");
    } else if (marker === START_OF_SCAN) {
      if (frame === undefined) throw DataError.at(where, "a JPEG scan before any frame header");
      const scanned = bytes.subarray(start + 1, Math.min(end, start + 1 + 2 * (bytes[start] ?? 0)));
      const first = scans === undefined;
      scans ??= new Scans(bytes.length, where);
      // A component's number, then its tables'.
      for (let i = 0; i < scanned.length; i += 2) scans.blocks += frame.blocks.get(scanned[i] as number) ?? 0;
      // Of a single scan of Huffman's codes the length in bytes bounds the work.
      const only = first && !frame.progressive && scanned.length === 2 * frame.components;
      if (!only || frame.arithmetic) scans.end();
      if (only) {
        // The only scan. In coded data FF is followed by 00 or a restart marker, so FF D9 can only be the end.
        let last = bytes.lastIndexOf(END_OF_IMAGE);
        while (last > at && bytes[last - 1] !== 0xff) last = bytes.lastIndexOf(END_OF_IMAGE, last - 1);
        if (last - 1 < at) {
          throw DataError.at(where, cutShort(bytes, "inside scan 1", "JPEG"));
        }
        return headerOf(frame, 0);
      }
    } else if (marker === END_OF_IMAGE) {
      if (frame === undefined || scans === undefined)
        throw DataError.at(where, "a JPEG without a picture in it");
      return heldAtOnce(headerOf(frame, COEFFICIENTS_PER_BLOCK), where);
    }
  }
  throw DataError.at(
    where,
    cutShort(bytes, scans === undefined ? "inside its header" : `inside scan ${scans.count}`, "JPEG"),
  );
}

/** Of 64 coefficients, 16 bits each. */
const COEFFICIENTS_PER_BLOCK = 128;

/** Of a picture of several scans all are held until its last one: as many as 100 megapixels in full colour have. */
const MAX_COEFFICIENTS = (3 * MAX_DECODED_PIXELS * COEFFICIENTS_PER_BLOCK) / 64;

function heldAtOnce(header: Header, where: string): Header {
  if (header.coefficients <= MAX_COEFFICIENTS) return header;
  throw DataError.at(where, "a JPEG of several scans that takes more memory than is given to one picture", {
    expected: `at most ${grouped(MAX_COEFFICIENTS)} bytes of coefficients`,
    found: grouped(header.coefficients),
    hint: "Store it as a JPEG of one scan (baseline), which is decoded row by row, or smaller",
  });
}

function headerOf({ width, height, components, arithmetic, blocks }: Frame, perBlock: number): Header {
  const all = [...blocks.values()].reduce((sum, count) => sum + count, 0);
  return {
    format: "jpeg",
    width,
    height,
    grayscale: components === 1,
    cmyk: components === 4,
    more: false,
    coefficients: perBlock * all,
    // Every block of the largest component takes at least a bit, by Huffman's codes.
    shortest: arithmetic ? 0 : Math.ceil((Math.floor(width / 8) * Math.floor(height / 8)) / 8),
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
  readonly arithmetic: boolean;
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
  if (components !== 1 && components !== 3 && components !== 4) {
    throw DataError.at(where, "neither a grayscale nor a colour JPEG", {
      expected: "1, 3 or 4 components",
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
  const kind = { progressive: PROGRESSIVE.has(marker), arithmetic: ARITHMETIC.has(marker) };
  return { width, height, ...kind, components, blocks };
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

/** 20113 -> "20,113", whatever the locale. */
function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}
