/**
 * How the camera was held, by EXIF, taken out of a picture's file and made up for in its pixels. Browsers turn pictures of some formats
 * by it and not of others, and cannot be told not to, so here it is done to all alike, as src/data/pictures/orientation.ts does.
 * It imports nothing. Offsets are in bytes.
 */

/** Pixels of four bytes, row by row. */
export interface Rgba {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
}

/** A file that says nothing of how it is to be turned, and what it said: 1 to 8, 1 where it said nothing that makes sense. */
export interface StoredPicture {
  readonly file: Uint8Array;
  readonly orientation: number;
}

/** Of JPEG, PNG and WebP; any other file is left to the browser as it is. */
export function storedPicture(file: Uint8Array): StoredPicture {
  if (hasName(file, 0, "\xff\xd8")) return withoutExif(file, 2, jpegPart);
  if (hasName(file, 0, "\x89PNG")) return withoutExif(file, 8, pngPart);
  if (hasName(file, 0, "RIFF") && hasName(file, 8, "WEBP")) return withUnknownExif(file);
  return { file, orientation: 1 };
}

/** The pixels as the camera was held. */
export function upright(picture: Rgba, orientation: number): Rgba {
  const [swap, mirrorX, mirrorY] = TURNS[orientation - 1] ?? [false, false, false];
  if (!swap && !mirrorX && !mirrorY) return picture;
  const { width, height } = picture;
  const turned = swap ? { width: height, height: width } : { width, height };
  const from = new Uint32Array(picture.data.buffer, picture.data.byteOffset, width * height);
  const to = new Uint32Array(width * height);
  for (let y = 0; y < turned.height; y++) {
    const row = mirrorY ? turned.height - 1 - y : y;
    for (let x = 0; x < turned.width; x++) {
      const column = mirrorX ? turned.width - 1 - x : x;
      to[y * turned.width + x] = from[swap ? column * width + row : row * width + column] as number;
    }
  }
  return { ...turned, data: new Uint8Array(to.buffer) };
}

/** By orientation from 1: first columns and rows are exchanged, then left and right, then top and bottom. */
const TURNS: readonly (readonly [swap: boolean, mirrorX: boolean, mirrorY: boolean])[] = [
  [false, false, false],
  [false, true, false],
  [false, true, true],
  [false, false, true],
  [true, false, false],
  [true, true, false],
  [true, true, true],
  [true, false, true],
];

/** A piece of a file: where the next one begins, and its EXIF where it is some. */
interface Part {
  readonly next: number;
  readonly exif?: Uint8Array | undefined;
}

/** The piece at `at`; undefined where no more are to be looked at. */
type PartAt = (file: Uint8Array, at: number) => Part | undefined;

function withoutExif(file: Uint8Array, start: number, partAt: PartAt): StoredPicture {
  const kept: Uint8Array[] = [];
  const exifs: Uint8Array[] = [];
  let from = 0;
  for (let at = start; at + 12 <= file.length;) {
    const part = partAt(file, at);
    if (part === undefined || part.next > file.length) break;
    if (part.exif !== undefined) {
      exifs.push(part.exif);
      kept.push(file.subarray(from, at));
      from = part.next;
    }
    at = part.next;
  }
  kept.push(file.subarray(from));
  return { file: joined(kept), orientation: orientationIn(joined(exifs)) };
}

/** A segment: FF, marker, length that counts itself, content. Behind the start of a scan nothing is looked for. */
const jpegPart: PartAt = (file, at) => {
  if (file[at] !== 0xff || file[at + 1] === 0xda) return undefined;
  // A fill byte.
  if (file[at + 1] === 0xff) return { next: at + 1 };
  const next = at + 2 + Math.max(viewOf(file).getUint16(at + 2), 2);
  const isExif = file[at + 1] === 0xe1 && hasName(file, at + 4, MARK);
  return { next, exif: isExif ? file.subarray(at + 4 + MARK.length, next) : undefined };
};

/** A chunk: length, name, content, CRC. */
const pngPart: PartAt = (file, at) => {
  const end = at + 8 + viewOf(file).getUint32(at);
  return { next: end + 4, exif: hasName(file, at + 4, "eXIf") ? file.subarray(at + 8, end) : undefined };
};

/** A chunk: name, length, content, a byte more where that is odd. One whose name nobody knows is passed over. */
function withUnknownExif(file: Uint8Array): StoredPicture {
  const copy = file.slice();
  let orientation = 1;
  for (let at = 12; at + 8 <= copy.length;) {
    const end = at + 8 + viewOf(copy).getUint32(at + 4, true);
    if (hasName(copy, at, "EXIF")) {
      const start = hasName(copy, at + 8, MARK) ? at + 8 + MARK.length : at + 8;
      orientation = orientationIn(copy.subarray(start, end));
      copy[at] = "e".charCodeAt(0);
    }
    at = end + (end % 2);
  }
  return { file: copy, orientation };
}

const MARK = "Exif\0\0";
const ORIENTATION = 0x0112;
const SHORT = 3;
const LONG = 4;

/** The one number that is looked for in EXIF, a TIFF without its picture. */
function orientationIn(exif: Uint8Array): number {
  const little = hasName(exif, 0, "II*\0");
  if (exif.length < 8 || !(little || hasName(exif, 0, "MM\0*"))) return 1;
  const view = viewOf(exif);
  const directory = view.getUint32(4, little);
  if (directory + 2 > exif.length) return 1;
  const count = view.getUint16(directory, little);
  for (let at = directory + 2; at < directory + 2 + 12 * count && at + 12 <= exif.length; at += 12) {
    if (view.getUint16(at, little) !== ORIENTATION) continue;
    const type = view.getUint16(at + 2, little);
    if (view.getUint32(at + 4, little) !== 1 || (type !== SHORT && type !== LONG)) return 1;
    const value = type === SHORT ? view.getUint16(at + 8, little) : view.getUint32(at + 8, little);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

function hasName(file: Uint8Array, at: number, name: string): boolean {
  if (at + name.length > file.length) return false;
  return [...name].every((letter, i) => file[at + i] === letter.charCodeAt(0));
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
