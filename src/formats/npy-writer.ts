/**
 * Writes NumPy's `.npy` arrays (npy.ts reads them): version 1.0, C order, little-endian, padded so that the numbers begin
 * at a multiple of 64 bytes.
 *
 * Source: numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
 */

export type NpyNumbers = Float32Array | Int32Array | Uint8Array;

/** NumPy's name of a typed array's elements. */
export function npyType(data: NpyNumbers): "<f4" | "<i4" | "|u1" {
  return data instanceof Float32Array ? "<f4" : data instanceof Int32Array ? "<i4" : "|u1";
}

/** The file in two pieces, header and numbers; the second shares the memory of `data`. */
export function npyPieces(shape: readonly number[], data: NpyNumbers): [Uint8Array, Uint8Array] {
  const count = shape.reduce((product, length) => product * length, 1);
  if (count !== data.length)
    throw new RangeError(`shape [${shape.join(", ")}] is not of ${data.length} numbers`);
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const dict = `{'descr': '${npyType(data)}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const text = `${dict.padEnd(Math.ceil((PREFIX + dict.length + 1) / 64) * 64 - PREFIX - 1)}\n`;
  const header = Buffer.alloc(PREFIX + text.length);
  header.write("\x93NUMPY\x01\x00", "latin1");
  header.writeUInt16LE(text.length, 8);
  header.write(text, PREFIX, "latin1");
  return [header, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];
}

/** Magic, version and the header's length. */
const PREFIX = 10;
