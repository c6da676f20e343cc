import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";

import fc from "fast-check";

import { needs, sharedPath } from "../../test/support/shared.js";
import { npyBytes, npyFromHeader } from "../../test/support/numpy-bytes.js";
import { FormatError } from "../core/error.js";
import { type NpyArray, parseNpy, toFloat64 } from "./npy.js";

const nothing = new Uint8Array(0);

suite("parseNpy", () => {
  for (const [descr, data] of [
    ["|u1", Uint8Array.of(1, 255)],
    ["|i1", Int8Array.of(-1, 127)],
    ["<i2", Int16Array.of(-2, 30000)],
    ["<u2", Uint16Array.of(2, 60000)],
    ["<i4", Int32Array.of(-3, 2e9)],
    ["<f4", Float32Array.of(-0.5, 1e30)],
    ["<f8", Float64Array.of(-0.5, 1e300)],
    ["<i8", BigInt64Array.of(-5n, 1n << 60n)],
  ] as const) {
    test(`gives ${descr} as it was written`, () => {
      const array = parseNpy(npyBytes(descr, [2, 1], data), "x.npy");
      assert.deepEqual(array.shape, [2, 1]);
      assert.deepEqual(array.data, data);
    });
  }

  test("reads a scalar, an empty array and text", () => {
    assert.deepEqual(parseNpy(npyBytes("<f4", [], Float32Array.of(7)), "x").shape, []);
    assert.equal(parseNpy(npyBytes("<f4", [0, 4], nothing), "x").data.length, 0);
    const text = Uint32Array.from("abc\0de\0\0", (c) => c.codePointAt(0) as number);
    assert.deepEqual(parseNpy(npyBytes("<U4", [2], text), "x").data, ["abc", "de"]);
  });

  test("reads data that is not aligned in its buffer", () => {
    const bytes = npyBytes("<f8", [2], Float64Array.of(1.5, -2));
    const moved = new Uint8Array(bytes.length + 3).subarray(3);
    moved.set(bytes);
    assert.deepEqual(parseNpy(moved, "x").data, Float64Array.of(1.5, -2));
    // A Buffer's slice() is a view, not the copy that a Uint8Array's is.
    const buffer = Buffer.from(moved.buffer, 3);
    assert.deepEqual(parseNpy(buffer, "x").data, Float64Array.of(1.5, -2));
  });

  for (const [why, header, message] of [
    ["object arrays", "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", /Python objects/],
    ["half floats", "{'descr': '<f2', 'fortran_order': False, 'shape': (1,), }", /element type is not read/],
    ["named fields", "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", /structured/],
    ["a key twice", "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", /twice/],
    ["a missing key", "{'descr': '<f4', 'shape': (1,), }", /missing/],
    ["an expression", "{'descr': '<f4', 'fortran_order': False, 'shape': (1+1,), }", /not the dict/],
    ["a call", "__import__('os').system('true')", /not the dict/],
    [
      "something after the dict",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } or 1",
      /not the dict/,
    ],
    [
      "a shape past all memory",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (9999999, 9999999, 9999999), }",
      /addressed/,
    ],
    [
      "a shape longer than the file",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000), }",
      /cut short/,
    ],
  ] as const) {
    test(`refuses ${why}`, () => {
      assert.throws(
        () => parseNpy(npyFromHeader(header, Float32Array.of(1)), "x.npy"),
        (error: unknown) => error instanceof FormatError && message.test(error.message),
      );
    });
  }

  test("says how many bytes a short file lacks", () => {
    const bytes = npyBytes("<f4", [3], Float32Array.of(1, 2, 3));
    assert.throws(
      () => parseNpy(bytes.subarray(0, 138), "a.npy"),
      /a\.npy, byte 138: cut short.*140 bytes, found 138/,
    );
    assert.throws(() => parseNpy(Buffer.concat([bytes, nothing, Buffer.of(0)]), "a.npy"), /left over/);
  });

  test("throws nothing but FormatError on damaged bytes", () => {
    const whole = npyBytes("<f4", [2, 3], new Float32Array(6));
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 4 }),
        fc.nat(whole.length),
        (edits, length) => {
          const bytes = Uint8Array.from(whole);
          for (const [at, value] of edits) bytes[at] = value;
          try {
            parseNpy(bytes.subarray(0, length), "x");
          } catch (error) {
            assert.ok(error instanceof FormatError, String(error));
          }
        },
      ),
      { numRuns: 3000 },
    );
  });
});

test("toFloat64 refuses 64-bit integers that f64 cannot hold", () => {
  const array = parseNpy(npyBytes("<i8", [2], BigInt64Array.of(5n, (1n << 53n) + 1n)), "x");
  assert.throws(() => toFloat64(array, "x"), /element 1 is 9007199254740993/);
});

suite("parseNpy on real files", needs("npy"), () => {
  const read = (file: string): NpyArray => parseNpy(readFileSync(sharedPath("npy", file)), file);

  test("reads plain arrays", () => {
    assert.deepEqual(read("GielenLab_boxes.npy").shape, [1, 500, 4]);
    assert.deepEqual(read("ssaz5_boxes.npy").shape, [545, 4]);
  });

  for (const file of ["arishalreja_boxes.npy", "det1.npy", "det2.npy", "det3.npy", "dylanc2_boxes.npy"]) {
    test(`refuses the pickle in ${file} by name`, () => {
      assert.throws(() => read(file), /Python objects/);
    });
  }
});
