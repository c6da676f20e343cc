/**
 * CRC-32, the checksum of zip archives.
 *
 * Source: PKWARE APPNOTE 6.3, section 4.4.7; the polynomial of ISO 3309.
 */

/** Of `bytes`; `previous` continues a sum over the bytes before them. */
export function crc32(bytes: Uint8Array, previous = 0): number {
  table ??= makeTable();
  let crc = ~previous;
  for (let i = 0; i < bytes.length; i++) {
    crc = (table[(crc ^ (bytes[i] as number)) & 0xff] as number) ^ (crc >>> 8);
  }
  return ~crc >>> 0;
}

let table: Int32Array | undefined;

/** What each byte adds: the remainder of its bits by the polynomial, bits reversed. */
function makeTable(): Int32Array {
  return Int32Array.from({ length: 256 }, (_, byte) => {
    let rest = byte;
    for (let bit = 0; bit < 8; bit++) rest = (rest >>> 1) ^ (rest & 1 ? 0xedb88320 : 0);
    return rest;
  });
}
