import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { BinaryWriter } from "@bufbuild/protobuf/wire";
import fc from "fast-check";

import { needs, sharedPath } from "../../test/support/shared.js";
import { DataError } from "../core/error.js";
import { decodeExample, encodeExample, type Feature } from "./tf-example.js";
import { RecordReader } from "./tfrecord.js";

const bytes = (...values: (string | Uint8Array)[]): Feature => ({
  kind: "bytes",
  values: values.map((value) => Buffer.from(value)),
});
const floats = (...values: number[]): Feature => ({ kind: "floats", values: Float32Array.from(values) });
const ints = (...values: bigint[]): Feature => ({ kind: "ints", values });

/** Numbers and texts of a message, nested as it is. */
type Part = number | string | Uint8Array | readonly Part[];

/** A message by hand: arrays and texts become length-delimited, numbers and bytes stay as they are. */
function message(...parts: Part[]): Buffer {
  return Buffer.concat(
    parts.map((part) => {
      if (typeof part === "number") return Buffer.of(part);
      if (part instanceof Uint8Array) return part;
      const inner = typeof part === "string" ? Buffer.from(part) : message(...part);
      return Buffer.concat([new BinaryWriter().uint32(inner.length).finish(), inner]);
    }),
  );
}

/** Tags of length-delimited fields 1, 2 and 3. */
const [F1, F2, F3] = [0x0a, 0x12, 0x1a];

/** An Example with these entries, each [key part..., value part...]. */
const example = (...entries: (readonly Part[])[]) =>
  message(
    F1,
    entries.flatMap((entry) => [F1, entry]),
  );
const label = (...list: Part[]) => example([F1, "label", F2, [F3, list]]);

suite("tf.train.Example", () => {
  test("is written byte for byte as the message of example.proto, keys in order", () => {
    const written = encodeExample([
      ["label", ints(5n, -1n)],
      ["image", bytes("ab")],
      ["box", floats(1, -2)],
      ["none", floats()],
    ]);
    const float = (value: number) => [...new Uint8Array(Float32Array.of(value).buffer)];
    const minusOne = [255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
    const wanted = example(
      [F1, "box", F2, [F2, [F1, [...float(1), ...float(-2)]]]],
      [F1, "image", F2, [F1, [F1, "ab"]]],
      [F1, "label", F2, [F3, [F1, [5, ...minusOne]]]],
      [F1, "none", F2, [F2, []]],
    );
    assert.deepEqual(Buffer.from(written), wanted);
  });

  test("is read back as it was written", () => {
    const feature = fc.oneof(
      fc.array(fc.uint8Array({ maxLength: 1500 }), { maxLength: 4 }).map((values) => bytes(...values)),
      fc.float32Array({ maxLength: 40 }).map((values): Feature => ({ kind: "floats", values })),
      fc.array(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })).map((values) => ints(...values)),
    );
    const key = fc
      .string({ unit: "grapheme", minLength: 1, maxLength: 20 })
      .filter((text) => !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text));
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.tuple(key, feature), { selector: ([name]) => name, maxLength: 8 }),
        (features) => {
          const read = decodeExample(encodeExample(features));
          assert.equal(read.size, features.length);
          for (const [name, { kind, values }] of features) {
            const found = read.get(name);
            assert.equal(found?.kind, kind);
            assert.deepEqual(Array.from(found?.values ?? [], plain), Array.from(values, plain));
          }
        },
      ),
    );
  });

  test(
    "made by TensorFlow is read, and written again to as many bytes",
    needs("tf-reference", "records"),
    async () => {
      const reader = await RecordReader.open(sharedPath("tf-reference", "records", "shard-0002.tfrecords"));
      let boxes = 0;
      for await (const { payload } of reader) {
        const read = decodeExample(payload);
        assert.deepEqual([...read.keys()].sort(), ["image", "label", "xmax", "xmin", "ymax", "ymin"]);
        boxes += read.get("xmin")?.values.length ?? 0;
        assert.equal(encodeExample(read).length, payload.length);
      }
      await reader.close();
      assert.ok(boxes > 0);
    },
  );

  test("may hold its numbers unpacked, or in several packed runs", () => {
    assert.deepEqual(decodeExample(label(0x08, 7)).get("label"), ints(7n));
    assert.deepEqual(decodeExample(label(F1, [1, 2], 0x08, 3, F1, [4])).get("label"), ints(1n, 2n, 3n, 4n));
    const half = [0, 0, 0, 0x3f];
    const xs = example([F1, "x", F2, [F2, [0x0d, ...half, F1, [...half, ...half]]]]);
    assert.deepEqual(decodeExample(xs).get("x"), floats(0.5, 0.5, 0.5));
  });

  test("may be empty, and a feature without a list counts as absent", () => {
    assert.equal(decodeExample(new Uint8Array(0)).size, 0);
    assert.equal(decodeExample(example([F1, "x", F2, []])).size, 0);
    assert.equal(decodeExample(example([F1, "x"])).size, 0);
  });

  test("with a key twice is not written", () => {
    assert.throws(
      () =>
        encodeExample([
          ["a", ints(1n)],
          ["a", ints(2n)],
        ]),
      /"a" comes twice/,
    );
  });

  test("keeps names that JavaScript gives a meaning as plain keys", () => {
    const read = decodeExample(
      encodeExample([
        ["__proto__", ints(1n)],
        ["constructor", ints(2n)],
      ]),
    );
    assert.deepEqual([...read.keys()], ["__proto__", "constructor"]);
  });

  const entry = [F1, "x", F2, [F3, [F1, [1]]]];
  const refusals: [name: string, bytes: Buffer, message: RegExp][] = [
    ["a key twice", example(entry, entry), /the key "x" comes twice/],
    ["its features twice", Buffer.concat([example(entry), example(entry)]), /field 1 twice/],
    ["an unknown field", message(0x28, 1), /unknown field 5/],
    ["the lists of a SequenceExample", message(F1, [], F2, [F1, "x"]), /SequenceExample/],
    ["an entry without key", example([F2, [F3, [F1, [1]]]]), /no key/],
    ["two keys in an entry", example([F1, "x", F1, "y"]), /field 1 twice/],
    ["two lists in a feature", example([F1, "x", F2, [F3, [F1, [1]], F1, [F1, "a"]]]), /two lists/],
    ["an unknown kind of list", example([F1, "x", F2, [0x22, []]]), /unknown field 4/],
    ["an unknown field in a list", label(F2, [1]), /unknown field 2/],
    ["an integer of 4 bytes", label(0x0d, 0, 0, 0, 0), /integer of wire type 5/],
    ["a float as varint", example([F1, "x", F2, [F2, [0x08, 1]]]), /float of wire type 0/],
    ["bytes as varint", example([F1, "x", F2, [F1, [0x08, 1]]]), /a value of wire type 0/],
    ["features as varint", message(0x08, 1), /the features of wire type 0/],
    [
      "packed floats of 5 bytes",
      example([F1, "x", F2, [F2, [F1, [0, 0, 0, 0, 0]]]]),
      /end inside a number|protobuf/,
    ],
    ["an integer that does not end", label(F1, [0x80]), /end inside a number|protobuf/],
    ["an integer of 11 bytes", label(0x08, Buffer.alloc(10, 0x80), 1), /invalid varint/],
    ["a key that is not UTF-8", example([F1, [0xff]]), /not UTF-8/],
    ["an empty key", example([F1, ""]), /empty or holds control/],
    ["a key that would steer a terminal", example([F1, "a\x1b[2J"]), /control characters/],
    ["a key of 1,025 bytes", example([F1, "k".repeat(1025)]), /a key of 1025 bytes/],
    [
      "a length beyond the message",
      message(F1, [F1, [F1, "x", F2]]).fill(200, 1, 2),
      /of which \d+ are there|leaves/,
    ],
    ["a length of 2^32 + 5", Buffer.of(F1, 0x85, 0x80, 0x80, 0x80, 0x10, 0, 0, 0, 0, 0), /4 GiB or more/],
    [
      "an inner length beyond its outer one",
      example(entry).fill(3, 8, 9),
      /of 3 bytes, of which 1 are there/,
    ],
    ["a group", message(0x0b, 0x0c), /wire type 3/],
    ["field number 0", message(0x02, []), /illegal tag/],
    ["a megabyte of integers", label(F1, [Buffer.alloc(2 ** 20 + 1, 1)]), /integers of more than/],
  ];
  for (const [name, broken, wording] of refusals) {
    test(`with ${name} is refused by name, and says at which byte`, () => {
      assert.throws(
        () => decodeExample(broken, "s#3"),
        (error: unknown) => {
          assert.ok(error instanceof DataError, String(error));
          assert.match(error.message, /^s#3: no tf\.train\.Example, at byte \d+/);
          assert.match(error.message, wording);
          return true;
        },
      );
    });
  }

  test("cut short anywhere is refused or is a shorter Example", () => {
    const whole = encodeExample([
      ["image", bytes("picture")],
      ["label", ints(300n)],
      ["x", floats(1)],
    ]);
    for (let length = 1; length < whole.length; length++) {
      assert.throws(() => decodeExample(whole.subarray(0, length)), DataError);
    }
  });
});

test("no mutation of an Example does anything but be read or be refused", () => {
  const valid = encodeExample([
    ["image", bytes("\xff\xd8\xff picture")],
    ["label", ints(300n, -1n)],
    ["xmin", floats(0.25, 0.5)],
    ["empty", floats()],
    ["__proto__", ints(1n)],
  ]);
  Object.freeze(Object.prototype);
  let read = 0;
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      fc.boolean(),
      (changes, cut) => {
        let mutated = Buffer.from(valid);
        for (const [at, value] of changes) mutated[at] = value;
        if (cut) mutated = mutated.subarray(0, changes[0]?.[0]);
        try {
          let numbers = 0;
          for (const { values } of decodeExample(mutated).values()) numbers += values.length;
          assert.ok(numbers <= mutated.length);
          read++;
        } catch (error) {
          assert.ok(error instanceof DataError, String(error));
        }
      },
    ),
    { numRuns: Number(process.env["RIFFLE_FUZZ"] ?? 20_000) },
  );
  assert.ok(read > 0);
});

/** NaNs and zeros of both signs compare by their text. */
function plain(value: number | bigint | Uint8Array): string {
  return value instanceof Uint8Array
    ? Buffer.from(value).toString("hex")
    : Object.is(value, -0)
      ? "-0"
      : String(value);
}
