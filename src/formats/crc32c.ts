/**
 * The checksum of TFRecord files and TensorFlow's checkpoints: CRC-32C, masked.
 *
 * A file that stores a CRC beside the bytes it covers gives the CRC of both a fixed value, which a checksum over
 * the whole file would then miss; the mask prevents that.
 *
 * The sum itself is native/decode/crc32c.cc, since threads that read records need it there. Where the addon is not built it is
 * worked out here, so that every format can be read without it: to the same sum, only slower.
 *
 * Source: tensorflow/tsl/lib/hash/crc32c.h, `Mask`; the polynomial of RFC 3720, appendix B.4.
 */

import { addonOrUndefined } from "../core/addon.js";
import { crcOf, type Sum } from "./crc.js";

let chosen: Sum | undefined;

/** CRC-32C of `bytes`; `previous` continues one over the bytes before them. */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  chosen ??= (addonOrUndefined() as { crc32c: Sum } | undefined)?.crc32c ?? plainCrc32c;
  return chosen(bytes, previous);
}

/** As stored: rotated right by 15 bits, plus a constant. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** Eight hexadecimal digits, as manifests and messages show it. */
export function hex32(value: number): string {
  return value.toString(16).padStart(8, "0");
}

/** The sum without the addon, byte by byte. */
export const plainCrc32c = crcOf(0x82f63b78);
