/** Cyclic redundancy checks of 32 bits over reversed bits, byte by byte: CRC-32 and CRC-32C differ in their polynomial alone. */

export type Sum = (bytes: Uint8Array, previous?: number) => number;

/**
 * @param polynomial its bits reversed
 * @returns the sum of `bytes`; `previous` continues one over the bytes before them
 */
export function crcOf(polynomial: number): Sum {
  let table: Int32Array | undefined;
  return (bytes, previous = 0) => {
    table ??= tableOf(polynomial);
    let crc = ~previous;
    for (let i = 0; i < bytes.length; i++) {
      crc = (table[(crc ^ (bytes[i] as number)) & 0xff] as number) ^ (crc >>> 8);
    }
    return ~crc >>> 0;
  };
}

/** What each byte adds: the remainder of its bits by the polynomial. */
function tableOf(polynomial: number): Int32Array {
  return Int32Array.from({ length: 256 }, (_, byte) => {
    let rest = byte;
    for (let bit = 0; bit < 8; bit++) rest = (rest >>> 1) ^ (rest & 1 ? polynomial : 0);
    return rest;
  });
}
