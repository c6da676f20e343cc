import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { parseNpy } from "./npy.js";
import { npyPieces } from "./npy-writer.js";

suite("npyPieces", () => {
  for (const [shape, data] of [
    [[2, 3], Float32Array.of(1, -2, 3.5, NaN, Infinity, 1e-30)],
    [[4], Int32Array.of(1, -1, 2 ** 31 - 1, 0)],
    [[1, 2, 1, 2], Uint8Array.of(0, 1, 254, 255)],
    [[], Float32Array.of(7)],
    [[3, 0], new Float32Array(0)],
  ] as const) {
    test(`is read back: [${shape.join(", ")}] of ${data.constructor.name}`, () => {
      const read = parseNpy(Buffer.concat(npyPieces(shape, data)), "written");
      assert.deepEqual(read.shape, [...shape]);
      assert.deepEqual(read.data, data);
    });
  }

  test("has the bytes that NumPy 1.24 writes", () => {
    const [header, numbers] = npyPieces([2], Float32Array.of(1, 2));
    const text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }".padEnd(117) + "\n";
    assert.equal(Buffer.from(header).toString("latin1"), `\x93NUMPY\x01\x00v\x00${text}`);
    assert.deepEqual([...numbers], [0, 0, 128, 63, 0, 0, 0, 64]);
  });

  test("refuses a shape of another number of elements", () => {
    assert.throws(() => npyPieces([2, 2], Float32Array.of(1, 2, 3)), RangeError);
  });
});
