import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { DataError, UsageError } from "../../core/error.js";
import type { Feature } from "../../formats/tf-example.js";
import { boxesOf, detectKeys, labelOf, parseKeys, pictureOf } from "./record-keys.js";

const ints = (...values: bigint[]): Feature => ({ kind: "ints", values });
const floats = (...values: number[]): Feature => ({ kind: "floats", values: Float32Array.from(values) });
const picture: Feature = { kind: "bytes", values: [Buffer.from("jpeg")] };

const ours = new Map([
  ["image", picture],
  ["label", ints(3n)],
  ["xmin", floats(0.25)],
  ["ymin", floats(0)],
  ["xmax", floats(0.5)],
  ["ymax", floats(1)],
]);
const keys = detectKeys(ours, undefined, "s#0");

suite("--keys", () => {
  test("names features by role, spaces around allowed", () => {
    const parsed = parseKeys("image=image/encoded, label = image/class/label");
    assert.deepEqual(
      [...parsed],
      [
        ["image", "image/encoded"],
        ["label", "image/class/label"],
      ],
    );
  });

  const refusals: [text: string, message: RegExp][] = [
    ["", /not NAME=KEY/],
    ["image", /not NAME=KEY.*found image/],
    ["image=", /not NAME=KEY/],
    ["picture=x", /no such name.*expected image, label, xmin.*found picture/],
    ["__proto__=x", /no such name/],
    ["image=a,image=b", /image is given twice/],
    ["image=a,xmin=b", /needs all its sides.*found xmin/],
    ["image=a\x1b[2J", /control characters/],
  ];
  for (const [text, message] of refusals) {
    test(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(
        () => parseKeys(text),
        (e: unknown) => e instanceof UsageError && message.test(e.message),
      );
    });
  }
});

suite("the keys of records", () => {
  test("are found under the lineage's names and TensorFlow's", () => {
    assert.equal(keys.image, "image");
    const slim = new Map([
      ["image/encoded", picture],
      ["image/class/label", ints(3n)],
    ]);
    assert.deepEqual(detectKeys(slim, undefined, "s#0"), {
      image: "image/encoded",
      label: "image/class/label",
      xmin: "xmin",
      ymin: "ymin",
      xmax: "xmax",
      ymax: "ymax",
    });
    slim.set("image/object/bbox/xmin", floats());
    assert.equal(detectKeys(slim, undefined, "s#0").ymax, "image/object/bbox/ymax");
  });

  test("are those given, the rest being found", () => {
    const found = detectKeys(new Map([...ours, ["y", ints(1n)]]), parseKeys("label=y"), "s#0");
    assert.deepEqual([found.image, found.label], ["image", "y"]);
  });

  test("that are not there are refused with the keys there are", () => {
    const other = new Map([
      ["x", picture],
      ["y", ints(1n)],
    ]);
    const lists = /s#0: .*no picture.*expected image or image\/encoded, found x \(bytes\), y \(ints\)/;
    assert.throws(
      () => detectKeys(other, undefined, "s#0"),
      (e: unknown) => e instanceof DataError && lists.test(e.message),
    );
    assert.throws(() => detectKeys(ours, parseKeys("label=y"), "s#0"), /no label.*expected y, found image/);
  });
});

suite("an Example of a picture", () => {
  const changed = (key: string, feature: Feature) => new Map([...ours, [key, feature]]);

  test("gives picture, label and boxes", () => {
    assert.equal(Buffer.from(pictureOf(ours, keys, "s#0")).toString(), "jpeg");
    assert.equal(labelOf(ours, keys, "s#0"), 3);
    assert.deepEqual(boxesOf(ours, keys, "s#0"), [{ xmin: 0.25, ymin: 0, xmax: 0.5, ymax: 1 }]);
  });

  test("may have its label once per object, and no boxes", () => {
    assert.equal(labelOf(changed("label", ints(-2n, -2n)), keys, "s#0"), -2);
    assert.deepEqual(boxesOf(new Map([["image", picture]]), keys, "s#0"), []);
    const empty = new Map(["xmin", "ymin", "xmax", "ymax"].map((side) => [side, ints()]));
    assert.deepEqual(boxesOf(empty, keys, "s#0"), []);
  });

  const refusals: [name: string, run: () => unknown, message: RegExp][] = [
    ["no picture", () => pictureOf(new Map(), keys, "s#0"), /no such key among no keys/],
    [
      "a number as picture",
      () => pictureOf(changed("image", ints(1n)), keys, "s#0"),
      /"image".*found 1 of ints/,
    ],
    [
      "no label",
      () => labelOf(changed("label", ints()), keys, "s#0"),
      /"label".*one integer.*found 0 of ints/,
    ],
    ["a label in floats", () => labelOf(changed("label", floats(1)), keys, "s#0"), /found 1 of floats/],
    [
      "several labels",
      () => labelOf(changed("label", ints(1n, 2n)), keys, "s#0"),
      /several labels.*found 1, 2/,
    ],
    ["a label of 2^31", () => labelOf(changed("label", ints(2n ** 31n)), keys, "s#0"), /32-bit.*2147483648/],
    [
      "half a box",
      () => boxesOf(changed("ymax", floats()), keys, "s#0"),
      /without all sides.*found 1, 1, 1, 0/,
    ],
    [
      "a box that is NaN",
      () => boxesOf(changed("ymax", floats(NaN)), keys, "s#0"),
      /box 0 is not made of numbers/,
    ],
    ["a box in integers", () => boxesOf(changed("ymax", ints(1n)), keys, "s#0"), /"ymax".*list of floats/],
  ];
  for (const [name, run, message] of refusals) {
    test(`with ${name} is refused`, () => {
      assert.throws(
        run,
        (e: unknown) => e instanceof DataError && e.message.startsWith("s#0") && message.test(e.message),
      );
    });
  }
});
