/** Makes `.npy` bytes as NumPy writes them, for tests that need one of a certain kind. */
export function npyBytes(descr: string, shape: readonly number[], data: ArrayBufferView): Uint8Array {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  return npyFromHeader(`{'descr': '${descr}', 'fortran_order': False, 'shape': ${tuple}, }`, data);
}

/** The same around any header text, padded to 64 bytes. */
export function npyFromHeader(header: string, data: ArrayBufferView): Uint8Array {
  const text = header + " ".repeat((64 - ((10 + header.length + 1) % 64)) % 64) + "\n";
  const bytes = Buffer.alloc(10 + text.length + data.byteLength);
  bytes.write("\x93NUMPY\x01\x00", 0, "latin1");
  bytes.writeUInt16LE(text.length, 8);
  bytes.write(text, 10, "latin1");
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 10 + text.length);
  return bytes;
}
