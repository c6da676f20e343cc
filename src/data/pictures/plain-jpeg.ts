/**
 * What libjpeg passes over without losing a pixel, taken out of a JPEG's bytes: for libvips, which can be told to refuse
 * every warning of libjpeg's or none, and of damage must refuse every one. So whoever decodes, the verdict is that of
 * native/decode/jpeg.cc (Warn), and of Pillow and TensorFlow.
 *
 * - Bytes between segments that belong to nothing, as some editors leave them.
 * - A sequential scan's bounds (Ss, Se, Ah, Al) other than 0, 63, 0, 0: many phones and cameras write others, which mean
 *   nothing there.
 * - A JFIF version or an Adobe transform that does not exist: libjpeg goes by the components then.
 *
 * Coded data stays as it is. Offsets are in bytes. Sources: ITU-T T.81 B.2.3; libjpeg-turbo 2.1.5, jdhuff.c
 * (start_pass_huff_decoder), jdmarker.c (next_marker), jdapimin.c (default_decompress_parms).
 */

import { jpegSegments, START_OF_SCAN } from "./jpeg-segments.js";

/** The same picture, by any decoder; the bytes themselves where nothing is odd. */
export function plainJpeg(bytes: Uint8Array): Uint8Array {
  const parts = [bytes.subarray(0, 2)];
  let from = 2;
  let odd = false;
  let coded = false;
  const frame = frameOf(bytes);
  for (const segment of jpegSegments(bytes)) {
    const { marker, at, start, end } = segment;
    // What lies before a segment is a scan's data or belongs to nothing.
    if (coded) parts.push(bytes.subarray(from, at));
    else odd ||= at > from;
    const repaired = repair(bytes.subarray(start, end), marker, frame);
    parts.push(bytes.subarray(at, start), repaired ?? bytes.subarray(start, end));
    odd ||= repaired !== undefined;
    coded = marker === START_OF_SCAN;
    from = end;
  }
  parts.push(bytes.subarray(from));
  return odd ? Buffer.concat(parts) : bytes;
}

interface Frame {
  readonly sequential: boolean;
  readonly components: number;
}

function frameOf(bytes: Uint8Array): Frame {
  for (const { marker, start } of jpegSegments(bytes)) {
    if (marker >= 0xc0 && marker <= 0xcf && !TABLES.has(marker))
      return { sequential: SEQUENTIAL.has(marker), components: bytes[start + 5] ?? 0 };
  }
  return { sequential: false, components: 0 };
}

const SEQUENTIAL: ReadonlySet<number> = new Set([0xc0, 0xc1, 0xc9]);
/** Of C0..CF those that are no frames. */
const TABLES: ReadonlySet<number> = new Set([0xc4, 0xc8, 0xcc]);
const JFIF = 0xe0;
const ADOBE = 0xee;

/** A segment's content with what is odd in it put right; undefined where nothing is. */
function repair(content: Uint8Array, marker: number, frame: Frame): Uint8Array | undefined {
  if (marker === START_OF_SCAN && frame.sequential) {
    const at = 1 + 2 * (content[0] ?? 0);
    return at + 3 <= content.length ? changed(content, at, [0, 63, 0]) : undefined;
  }
  if (marker === JFIF && content.length >= 14 && isText(content, "JFIF\0")) return changed(content, 5, [1]);
  if (marker === ADOBE && isAdobe(content)) {
    const transform = content[ADOBE_TRANSFORM] as number;
    // What libjpeg assumes where it warns: YCbCr of three components, YCCK of four.
    if (frame.components === 3 && transform > 1) return changed(content, ADOBE_TRANSFORM, [1]);
    if (frame.components === 4 && transform !== 0) return changed(content, ADOBE_TRANSFORM, [2]);
  }
  return undefined;
}

const ADOBE_TRANSFORM = 11;

function isAdobe(content: Uint8Array): boolean {
  return content.length > ADOBE_TRANSFORM && isText(content, "Adobe");
}

function isText(content: Uint8Array, text: string): boolean {
  return Buffer.from(content.buffer, content.byteOffset, text.length).toString("latin1") === text;
}

function changed(content: Uint8Array, at: number, values: readonly number[]): Uint8Array | undefined {
  if (values.every((value, i) => content[at + i] === value)) return undefined;
  const copy = Uint8Array.from(content);
  copy.set(values, at);
  return copy;
}
