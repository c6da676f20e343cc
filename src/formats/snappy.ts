/**
 * Uncompresses Snappy, the compression of blocks in TensorFlow's checkpoint indexes.
 *
 * What comes out is never larger than the caller's limit, nor than what so many bytes can stand for: the length a
 * block declares is checked against both before anything is allocated, and every copy against what is there.
 *
 * Lengths and offsets are in bytes.
 *
 * Source: github.com/google/snappy, format_description.txt.
 */

import { CheckpointError } from "../core/error.js";

/** Where the bytes lie, for messages, and how large the result may be. */
interface SnappyBlock {
  readonly where: string;
  /** Of the block's first byte in its file. */
  readonly offset: number;
  readonly limit: number;
}

/** @throws CheckpointError naming the byte at which the block stops being Snappy. */
export function uncompressSnappy(bytes: Uint8Array, { where, offset, limit }: SnappyBlock): Uint8Array {
  let at = 0;
  const fail = (what: string): never => {
    throw new CheckpointError({
      what: `a compressed block is damaged: ${what}`,
      where: `${where}, byte ${offset + Math.min(at, bytes.length)}`,
      safe: "The checkpoint is untouched",
    });
  };
  /** Little-endian, 1 to 4 bytes. */
  const integer = (length: number): number => {
    if (at + length > bytes.length) fail("it ends inside an element");
    let value = 0;
    for (let i = 0; i < length; i++) value += (bytes[at + i] as number) * 2 ** (8 * i);
    at += length;
    return value;
  };

  const declared = (() => {
    let value = 0;
    for (let i = 0; i < 5; i++) {
      const byte = integer(1);
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) return value;
    }
    return fail("its length takes more than five bytes");
  })();
  const most = Math.min(limit, MAX_RATIO * bytes.length);
  if (declared > most) fail(`it declares ${declared} bytes, at most ${most} are possible`);

  const out = new Uint8Array(declared);
  let filled = 0;
  while (at < bytes.length) {
    const tag = integer(1);
    const kind = tag & 3;
    if (kind === LITERAL) {
      const short = tag >>> 2;
      const length = 1 + (short < 60 ? short : integer(short - 59));
      if (at + length > bytes.length) fail(`a literal of ${length} bytes leaves it`);
      if (filled + length > declared) fail(`more than the ${declared} bytes it declares come out`);
      out.set(bytes.subarray(at, at + length), filled);
      at += length;
      filled += length;
    } else {
      const length = kind === SHORT_COPY ? 4 + ((tag >>> 2) & 7) : 1 + (tag >>> 2);
      const back = kind === SHORT_COPY ? (tag >>> 5) * 256 + integer(1) : integer(kind === COPY ? 2 : 4);
      if (back === 0 || back > filled) fail(`a copy from ${back} bytes back, where ${filled} are there`);
      if (filled + length > declared) fail(`more than the ${declared} bytes it declares come out`);
      // Byte by byte: a copy may overlap what it writes, which repeats a pattern.
      for (let i = 0; i < length; i++, filled++) out[filled] = out[filled - back] as number;
    }
  }
  if (filled !== declared) fail(`${filled} bytes come out, it declares ${declared}`);
  return out;
}

/** Two low bits of a tag; 3 is a copy with an offset of four bytes. */
const LITERAL = 0;
const SHORT_COPY = 1;
const COPY = 2;

/** A copy of 64 bytes takes three: no element gives more. */
const MAX_RATIO = 22;
