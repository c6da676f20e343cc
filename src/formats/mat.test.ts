import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";
import { deflateSync } from "node:zlib";

import { needs, sharedPath } from "../../test/support/shared.js";
import { FormatError } from "../core/error.js";
import { type MatValue, parseMat } from "./mat.js";

/** Writes elements by hand, in either byte order. */
class Maker {
  constructor(private readonly littleEndian = true) {}

  file(...elements: Buffer[]): Buffer {
    const head = Buffer.alloc(128, " ");
    head.write("MATLAB 5.0 MAT-file");
    head.set(this.littleEndian ? [0, 1, 0x49, 0x4d] : [1, 0, 0x4d, 0x49], 124);
    return Buffer.concat([head, ...elements]);
  }

  element(type: number, data: Buffer, declared = data.length): Buffer {
    const padding = type === 15 ? 0 : (8 - (data.length % 8)) % 8;
    return Buffer.concat([this.ints(type, declared), data, Buffer.alloc(padding)]);
  }

  ints(...values: number[]): Buffer {
    const bytes = Buffer.alloc(4 * values.length);
    values.forEach((value, i) =>
      this.littleEndian ? bytes.writeInt32LE(value, 4 * i) : bytes.writeInt32BE(value, 4 * i),
    );
    return bytes;
  }

  doubles(...values: number[]): Buffer {
    const bytes = Buffer.alloc(8 * values.length);
    values.forEach((value, i) =>
      this.littleEndian ? bytes.writeDoubleLE(value, 8 * i) : bytes.writeDoubleBE(value, 8 * i),
    );
    return bytes;
  }

  matrix(kind: number, name: string, shape: readonly number[], ...parts: Buffer[]): Buffer {
    const head = [
      this.element(6, this.ints(kind, 0)),
      this.element(5, this.ints(...shape)),
      this.element(1, Buffer.from(name)),
    ];
    return this.element(14, Buffer.concat([...head, ...parts]));
  }

  packed(element: Buffer): Buffer {
    return this.element(15, deflateSync(element));
  }

  /** Two structs of a number and a text. */
  structs(name = "s"): Buffer {
    const names = Buffer.alloc(16);
    names.write("id");
    names.write("words", 8);
    const one = (id: number, words: string) => [
      this.matrix(6, "", [1, 1], this.element(9, this.doubles(id))),
      this.matrix(4, "", [1, words.length], this.element(16, Buffer.from(words))),
    ];
    // The length of the names in the short form.
    const width = Buffer.concat([this.ints(this.littleEndian ? 0x0004_0005 : 0x0004_0005), this.ints(8)]);
    return this.matrix(
      2,
      name,
      [2, 1],
      width,
      this.element(1, names),
      ...one(1, "kit fox"),
      ...one(2, "setter"),
    );
  }
}

const mat = new Maker();

function only(bytes: Uint8Array): MatValue | undefined {
  return [...parseMat(bytes, "test.mat").values()][0];
}

const structs: MatValue = {
  kind: "struct",
  shape: [2, 1],
  fields: new Map([
    ["id", [1, 2].map((id): MatValue => ({ kind: "numbers", shape: [1, 1], data: Float64Array.of(id) }))],
    [
      "words",
      ["kit fox", "setter"].map((row): MatValue => ({ kind: "text", shape: [1, row.length], rows: [row] })),
    ],
  ]),
};

suite("parseMat", () => {
  for (const littleEndian of [true, false]) {
    const maker = new Maker(littleEndian);
    const order = littleEndian ? "little-endian" : "big-endian";
    test(`reads structs, ${order}`, () => assert.deepEqual(only(maker.file(maker.structs())), structs));
    test(`reads compressed structs, ${order}`, () =>
      assert.deepEqual(only(maker.file(maker.packed(maker.structs()))), structs));
  }

  test("reads every type that numbers are stored in", () => {
    const types: readonly (readonly [number, Buffer, number[]])[] = [
      [1, Buffer.from(Int8Array.of(-1, 2).buffer), [-1, 2]],
      [2, Buffer.from(Uint8Array.of(255, 2).buffer), [255, 2]],
      [3, Buffer.from(Int16Array.of(-300, 2).buffer), [-300, 2]],
      [4, Buffer.from(Uint16Array.of(65535, 2).buffer), [65535, 2]],
      [5, Buffer.from(Int32Array.of(-70000, 2).buffer), [-70000, 2]],
      [6, Buffer.from(Uint32Array.of(2 ** 32 - 1, 2).buffer), [2 ** 32 - 1, 2]],
      [7, Buffer.from(Float32Array.of(0.5, 2).buffer), [0.5, 2]],
      [9, Buffer.from(Float64Array.of(0.1, 2).buffer), [0.1, 2]],
      [12, Buffer.from(BigInt64Array.of(-5n, 2n).buffer), [-5, 2]],
      [13, Buffer.from(BigUint64Array.of(5n, 2n).buffer), [5, 2]],
    ];
    for (const [type, data, expected] of types) {
      const value = only(mat.file(mat.matrix(6, "x", [1, 2], mat.element(type, data))));
      assert.deepEqual(value, { kind: "numbers", shape: [1, 2], data: Float64Array.from(expected) });
    }
  });

  test("reads rows of text from its columns, and text in 16 bits", () => {
    const columns = Buffer.from("adbecf");
    const value = only(mat.file(mat.matrix(4, "x", [2, 3], mat.element(16, columns))));
    assert.deepEqual(value, { kind: "text", shape: [2, 3], rows: ["abc", "def"] });
    const wide = only(
      mat.file(mat.matrix(4, "x", [1, 2], mat.element(4, Buffer.from("\u20acx", "utf16le")))),
    );
    assert.deepEqual(wide, { kind: "text", shape: [1, 2], rows: ["\u20acx"] });
  });

  test("reads cells, and empty places in them", () => {
    const empty = mat.element(14, Buffer.alloc(0));
    const two = mat.matrix(6, "", [1, 1], mat.element(2, Buffer.of(2)));
    const value = only(mat.file(mat.matrix(1, "x", [1, 2], empty, two)));
    assert.ok(value?.kind === "cell");
    assert.deepEqual(
      value.items.map((item) => item.shape),
      [[0, 0], [1, 1]], // prettier-ignore
    );
  });

  test(
    "reads the devkit's meta.mat: 1,860 structs of eight fields",
    needs("imagenet-devkit", "meta.mat"),
    () => {
      const synsets = parseMat(readFileSync(sharedPath("imagenet-devkit", "meta.mat")), "meta.mat").get(
        "synsets",
      );
      assert.ok(synsets?.kind === "struct");
      assert.deepEqual(synsets.shape, [1860, 1]);
      assert.equal(synsets.fields.size, 8);
      assert.deepEqual(synsets.fields.get("WNID")?.[0], { kind: "text", shape: [1, 9], rows: ["n02119789"] });
      assert.deepEqual(synsets.fields.get("words")?.[1859]?.kind, "text");
    },
  );
});

suite("parseMat refuses", () => {
  const number = mat.matrix(6, "x", [1, 1], mat.element(2, Buffer.of(7)));
  const withFlags = (flags: number) => {
    const bytes = Buffer.from(number);
    bytes.writeUInt32LE(flags, 16);
    return bytes;
  };
  const hdf5 = Buffer.alloc(600);
  hdf5.write("MATLAB 7.3 MAT-file");
  const deep = (depth: number): Buffer =>
    depth === 0 ? mat.element(14, Buffer.alloc(0)) : mat.matrix(1, "", [1, 1], deep(depth - 1));
  const cases: readonly (readonly [string, Buffer, RegExp])[] = [
    ["an empty file", Buffer.alloc(0), /shorter than its header.*128 bytes, found 0/],
    ["a picture", Buffer.alloc(500, 0xff), /byte 126: no MAT file/],
    ["version 7.3", hdf5, /version 7\.3 \(HDF5\)/],
    [
      "an element past the end",
      mat.file(mat.element(14, Buffer.alloc(16), 1 << 30)),
      /longer than what is left.*1073741824/,
    ],
    [
      "a matrix inside past its end",
      mat.file(mat.matrix(6, "x", [1, 1], mat.element(9, Buffer.alloc(8), 99))),
      /longer than/,
    ],
    [
      "dimensions of 2^62",
      mat.file(mat.matrix(6, "x", [2 ** 31 - 1, 2 ** 31 - 1], mat.element(9, Buffer.alloc(8)))),
      /another length than their dimensions/,
    ],
    [
      "a cell of 2^31 places",
      mat.file(mat.matrix(1, "x", [2 ** 31 - 1, 1])),
      /ends where another element should begin/,
    ],
    [
      "a negative dimension",
      mat.file(mat.matrix(6, "x", [-1, 1], mat.element(9, Buffer.alloc(8)))),
      /negative dimension.*-1/,
    ],
    ["a sparse matrix", mat.file(mat.matrix(5, "x", [1, 1])), /a sparse matrix is not read/],
    ["an object", mat.file(mat.matrix(3, "x", [1, 1])), /an object of MATLAB's is not read/],
    ["an unknown class", mat.file(withFlags(99)), /unknown class of matrix.*99/],
    ["complex numbers", mat.file(withFlags(6 | 0x0800)), /complex numbers/],
    ["no matrix", mat.file(mat.element(9, Buffer.alloc(8))), /a matrix is expected here.*type 9/],
    ["a name twice", mat.file(number, number), /"x" twice/],
    ["cells nested too deep", mat.file(deep(40)), /nested more than 16 deep/],
    [
      "text shorter than its dimensions",
      mat.file(mat.matrix(4, "x", [1, 9], mat.element(16, Buffer.from("ab")))),
      /expected 9 characters, found 2/,
    ],
    [
      "text that is not UTF-8",
      mat.file(mat.matrix(4, "x", [1, 1], mat.element(16, Buffer.of(0xff)))),
      /not UTF-8/,
    ],
    ["damaged deflate", mat.file(mat.element(15, Buffer.alloc(40, 7))), /cannot be unpacked/],
    [
      "an integer beyond 2^53",
      mat.file(mat.matrix(6, "x", [1, 1], mat.element(13, Buffer.alloc(8, 0xff)))),
      /beyond 2\^53/,
    ],
    [
      "two matrices in one packet",
      mat.file(mat.packed(Buffer.concat([number, number]))),
      /more than one matrix/,
    ],
    ["a bomb: 100 MB in 100 kB", mat.file(mat.packed(Buffer.alloc(100_000_000))), /unpacks to too much/],
  ];
  for (const [name, bytes, words] of cases) {
    test(name, () => {
      assert.throws(
        () => parseMat(bytes, "test.mat"),
        (error: unknown) => {
          assert.ok(error instanceof FormatError, String(error));
          assert.match(error.message, words);
          return true;
        },
      );
    });
  }

  test("a struct cut anywhere", () => {
    const whole = mat.file(mat.structs());
    // The last bytes are padding.
    for (let length = 136; length < whole.length - 8; length++) {
      assert.throws(() => parseMat(whole.subarray(0, length), "cut.mat"), FormatError);
    }
  });
});
