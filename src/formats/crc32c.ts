/**
 * The checksum of TFRecord files and TensorFlow's checkpoints: CRC-32C, masked.
 *
 * A file that stores a CRC beside the bytes it covers gives the CRC of both a fixed value, which a checksum over
 * the whole file would then miss; the mask prevents that.
 *
 * Source: tensorflow/tsl/lib/hash/crc32c.h, `Mask`.
 */

import { crc32c as checksum } from "@node-rs/crc32";

/** CRC-32C of `bytes`; `previous` continues one over the bytes before them. */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  return checksum(bytes, previous);
}

/** As stored: rotated right by 15 bits, plus a constant. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const crc = checksum(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** Eight hexadecimal digits, as manifests and messages show it. */
export function hex32(value: number): string {
  return value.toString(16).padStart(8, "0");
}
