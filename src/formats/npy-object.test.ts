import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";

import { needs, sharedPath } from "../../test/support/shared.js";
import { FormatError } from "../core/error.js";
import { encodeNpyDict, type NumpyValue, ObjectArray, parseNpyObject, readNpyObject } from "./npy-object.js";
import type { NpyArray } from "./npy.js";

/** A file of one object, whose pickle is this text in Latin-1. */
function file(pickle: string, shape = "()"): Buffer {
  const dict = `{'descr': '|O', 'fortran_order': False, 'shape': ${shape}, }`.padEnd(117) + "\n";
  return Buffer.from(`\x93NUMPY\x01\x00\x76\x00${dict}${pickle}`, "latin1");
}

/** An array of objects of shape (1,) around what `inner` pushes; protocol 2. */
function holding(inner: string): Buffer {
  const array = "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\x01btR(K\x01K\x01\x85";
  const dtype = "cnumpy\ndtype\n(U\x02O8K\0K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb";
  return file(`\x80\x02${array}${dtype}\x89](${inner}etb.`, "(1,)");
}

/** An ndarray of numbers: `shape` and `data` are pickle instructions. */
function ndarray(code: string, shape: string, data: string, order = "<", fortran = "\x89"): string {
  return (
    "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\x01btR(K\x01" +
    `${shape}cnumpy\ndtype\n(U\x02${code}K\0K\x01tR(K\x03U\x01${order}NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb${fortran}${data}tb`
  );
}

function first(bytes: Uint8Array): NumpyValue {
  return parseNpyObject(bytes, "test.npy").items[0] as NumpyValue;
}

suite("files that NumPy wrote", () => {
  // What numpy.load(path, allow_pickle=True, encoding="latin1") of NumPy 2.4.6 holds.
  test("a Python 2 dict of dicts of arrays", needs("npy", "det1.npy"), async () => {
    const { shape, items } = await readNpyObject(sharedPath("npy", "det1.npy"));
    assert.deepEqual(shape, []);
    const layers = items[0] as Map<string, Map<string, NpyArray>>;
    const weights = layers.get("conv4-2")?.get("weights");
    assert.deepEqual(weights?.shape, [1, 1, 32, 4]);
    assert.equal(weights.data[0], -0.0058697802014648914);
    const conv3 = layers.get("conv3")?.get("weights");
    assert.deepEqual(
      [conv3?.dtype, conv3?.shape, conv3?.data[0]],
      ["f4", [3, 3, 16, 32], 0.06602189689874649],
    );
  });

  // The published sizes of these three networks (MTCNN).
  const sums: readonly (readonly [string, number])[] = [
    ["det1.npy", 6632],
    ["det2.npy", 100178],
    ["det3.npy", 389040],
  ];
  for (const [name, numbers] of sums) {
    test(`${name} holds ${numbers} numbers, all finite`, needs("npy", name), async () => {
      const { items } = await readNpyObject(sharedPath("npy", name));
      let count = 0;
      for (const layer of (items[0] as Map<string, Map<string, NpyArray>>).values()) {
        for (const array of layer.values()) {
          count += array.data.length;
          assert.ok((array.data as Float32Array).every((value) => Number.isFinite(value)));
        }
      }
      assert.equal(count, numbers);
    });
  }

  test("an object array of arrays of different lengths", needs("npy", "dylanc2_boxes.npy"), async () => {
    const { shape, items } = await readNpyObject(sharedPath("npy", "dylanc2_boxes.npy"));
    assert.deepEqual(shape, [253]);
    const boxes = items[0] as NpyArray;
    assert.deepEqual([boxes.dtype, boxes.shape], ["f4", [7, 4]]);
    assert.deepEqual([...(boxes.data.slice(0, 2) as Float32Array)], [947.6461791992188, 601.7188720703125]);
  });

  test("a dict of lists of tuples", needs("npy", "arishalreja_boxes.npy"), async () => {
    const { items } = await readNpyObject(sharedPath("npy", "arishalreja_boxes.npy"));
    const [[name, objects] = []] = [...(items[0] as Map<string, unknown>)];
    assert.equal(name, "image00001442.jpg");
    assert.deepEqual((objects as unknown[])[0], [[701, 43], [1249, 893], "person", 0]);
  });

  for (const name of ["GielenLab_boxes.npy", "ssaz5_boxes.npy"]) {
    test(`${name}, which holds numbers, is refused here`, needs("npy", name), async () => {
      await assert.rejects(
        readNpyObject(sharedPath("npy", name)),
        /an array of numbers, where Python objects are expected/,
      );
    });
  }

  test("the lineage's boxes come back the same when we write them", needs("tf-reference", "records"), () => {
    const bytes = readFileSync(sharedPath("tf-reference", "records", "boxes.npy"));
    const boxes = first(bytes) as Map<string, NpyArray & { dtype: "f4" }>;
    assert.equal(boxes.size, 2079);
    const ours = Buffer.concat(
      encodeNpyDict(
        [...boxes].map(([name, { data }]) => [name, data] as const),
        4,
      ),
    );
    assert.deepEqual(first(ours), boxes);
  });
});

suite("parseNpyObject", () => {
  test("reads numbers of every type, and bytes as each protocol keeps them", () => {
    const one = (code: string, data: string) => first(holding(ndarray(code, "K\x01\x85", data)));
    assert.deepEqual(one("f4", "U\x04\0\0\x80?"), { dtype: "f4", shape: [1], data: Float32Array.of(1) });
    assert.deepEqual(one("i8", "C\x08\x02\0\0\0\0\0\0\0"), {
      dtype: "i8",
      shape: [1],
      data: BigInt64Array.of(2n),
    });
    const encoded = "c_codecs\nencode\nX\x03\0\0\0\xc3\xbf\0X\x06\0\0\0latin1\x86R";
    assert.deepEqual(one("i2", encoded), { dtype: "i2", shape: [1], data: Int16Array.of(255) });
    assert.deepEqual(one("b1", "U\x01\x01"), { dtype: "bool", shape: [1], data: Uint8Array.of(1) });
  });

  test("turns Fortran order into C order", () => {
    const array = first(
      holding(ndarray("u1", "K\x02K\x03\x86", "C\x06\x00\x03\x01\x04\x02\x05", "|", "\x88")),
    );
    assert.deepEqual(array, { dtype: "u1", shape: [2, 3], data: Uint8Array.of(0, 1, 2, 3, 4, 5) });
    const cube = first(holding(ndarray("u1", "K\x02K\x01K\x02\x87", "C\x04\x00\x02\x01\x03", "|", "\x88")));
    assert.deepEqual(cube, { dtype: "u1", shape: [2, 1, 2], data: Uint8Array.of(0, 1, 2, 3) });
  });

  test("reads NumPy 2's protocol 5, and scalars", () => {
    const dtype = "cnumpy\ndtype\n(U\x02f4K\0K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb";
    const buffer = `cnumpy._core.numeric\n_frombuffer\n(C\x04\0\0\0@${dtype}K\x01\x85U\x01CtR`;
    assert.deepEqual(first(holding(buffer)), { dtype: "f4", shape: [1], data: Float32Array.of(2) });
    assert.equal(first(holding(`cnumpy._core.multiarray\nscalar\n${dtype}C\x04\0\0\0@\x86R`)), 2);
  });

  test("keeps an array of objects in an array of objects", () => {
    const inner = holding("K\x07")
      .toString("latin1")
      .slice(128 + 2, -1);
    assert.deepEqual(first(holding(inner)), new ObjectArray([1], [7]));
  });

  const refused: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ["os.system, by name", file("cos\nsystem\n(S'true'\ntR."), /names os\.system, which is not data/],
    ["bytes after the pickle", Buffer.concat([holding("N"), Buffer.of(0)]), /1 bytes left over/],
    ["a bare value", file("N."), /not the array of objects/],
    [
      "another shape than the header's",
      file(holding("N").toString("latin1").slice(128), "(2,)"),
      /not the array of objects/,
    ],
    ["a list that holds itself", holding("]q\0h\0a"), /contains itself/],
    ["lists nested too deep", holding("](".repeat(80) + "e".repeat(80)), /nested more than 64 deep/],
    ["too few bytes", holding(ndarray("f4", "K\x02\x85", "U\x04\0\0\0\0")), /shape \[2\] of f4 with 4 bytes/],
    [
      "a shape of 10^18",
      holding(ndarray("f4", "J\0\xca\x9a\x3bJ\0\xca\x9a\x3b\x86", "U\x01x")),
      /with 1 bytes/,
    ],
    [
      "a negative length",
      holding(ndarray("f4", "J\xff\xff\xff\xff\x85", "U\x04\0\0\0\0")),
      /no whole number/,
    ],
    ["big-endian numbers", holding(ndarray("f4", "K\x01\x85", "U\x04\0\0\0\0", ">")), /big-endian/],
    ["an unknown type", holding(ndarray("c8", "K\x01\x85", "U\x04\0\0\0\0")), /"c8" is not read/],
    ["text beyond bytes", holding(ndarray("u1", "K\x01\x85", "X\x03\0\0\0\xe2\x82\xac")), /text where bytes/],
    ["the function itself", holding("cnumpy\ndtype\n"), /bare name/],
  ];
  for (const [name, bytes, words] of refused) {
    test(`refuses ${name}`, () => {
      assert.throws(
        () => parseNpyObject(bytes, "test.npy"),
        (error: unknown) => error instanceof FormatError && words.test(error.message),
      );
    });
  }

  test("bytes named by many arrays cannot become more than the file", () => {
    const big = "x".repeat(20_000);
    const stored = `X${String.fromCharCode(0x20, 0x4e, 0, 0)}${big}q\x05`;
    const array = ndarray("u1", "M\x20\x4e\x85", "h\x05", "|");
    assert.throws(() => first(holding(`]${stored}a0](${array.repeat(500)}e`)), /larger than the file/);
  });

  test("lists that share lists are converted once each", () => {
    // 40 lists, each the one before twice: 2^40 without sharing.
    let text = "]q\0";
    for (let i = 0; i < 40; i++)
      text += `](h${String.fromCharCode(i)}h${String.fromCharCode(i)}eq${String.fromCharCode(i + 1)}`;
    const list = first(holding(`(${text}t`));
    assert.ok(Array.isArray(list));
  });
});
