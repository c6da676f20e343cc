/**
 * The checksum of TFRecord files and TensorFlow's checkpoints: CRC-32C, masked.
 *
 * A file that stores a CRC beside the bytes it covers gives the CRC of both a fixed value, which a checksum over
 * the whole file would then miss; the mask prevents that.
 *
 * Source: tensorflow/tsl/lib/hash/crc32c.h, `Mask`. The sum itself is native/decode/crc32c.cc, since threads that read
 * records need it there.
 */

import { loadAddon } from "../core/addon.js";

let native: ((bytes: Uint8Array, previous: number) => number) | undefined;

/** CRC-32C of `bytes`; `previous` continues one over the bytes before them. */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  native ??= (loadAddon() as { crc32c: NonNullable<typeof native> }).crc32c;
  return native(bytes, previous);
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
