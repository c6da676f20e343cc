/** native/decode/resize.cc as WebAssembly, which takes the place of the addon: against the addon bit for bit, and against the definition. */

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { assertClose } from "../../../test/support/compare.js";
import { needsNative } from "../../../test/support/native.js";
import { resizeReference } from "../../../test/support/resize-reference.js";
import { Draws, streams } from "../../core/random.js";
import { wasmPictures } from "../../core/wasm-file.js";
import { asItIs, type Transform } from "./augment.js";
import { type Pixels, renderInto } from "./render.js";

function noise(width: number, height: number, channels: 1 | 3): Pixels {
  const draws = new Draws(3, streams.draw, width, height);
  const data = Uint8Array.from({ length: width * height * channels }, () => draws.below(256));
  return { kind: "pixels", data, width, height, channels };
}

function resizeInto(
  { data, width, height, channels }: Pixels,
  transform: Transform,
  out: Uint8Array | Float32Array,
  offset: number,
): void {
  wasmPictures().resize(transform, data, [width, height, channels], out, offset);
}

const filters = ["tensorflow", "pillow", "pillow-bytes"] as const;

/** Picture, box, what it is resized to, and the window of that. */
const cases: [Pixels, Transform][] = [];
for (const [i, [width, height, x, y, boxWidth, boxHeight, resizedWidth, resizedHeight, size]] of (
  [
    [1, 1, 0, 0, 1, 1, 1, 1, 1],
    [1, 1, 0, 0, 1, 1, 5, 4, 4],
    [4, 1, 0, 0, 4, 1, 9, 9, 9],
    [1, 7, 0, 2, 1, 4, 3, 3, 2],
    [9, 7, 2, 1, 7, 6, 7, 7, 7],
    [33, 20, 0, 0, 33, 20, 16, 16, 16],
    [31, 47, 3, 5, 20, 30, 19, 30, 17],
    [64, 64, 1, 2, 61, 60, 96, 97, 33],
    [251, 120, 0, 0, 251, 120, 8, 6, 6],
    [301, 199, 13, 7, 280, 190, 112, 113, 112],
  ] as const
).entries()) {
  for (const filter of filters) {
    for (const flip of [false, true]) {
      const window = { x: resizedWidth - size, y: Math.floor((resizedHeight - size) / 2) };
      const transform: Transform = {
        ...asItIs(size),
        box: { x, y, width: boxWidth, height: boxHeight },
        resized: { width: resizedWidth, height: resizedHeight },
        window,
        filter,
        flip,
        // A third of them each: none, a shift that clips, no colour.
        shift: i % 3 === 1 ? [0.31, -0.27, 0.05] : [0, 0, 0],
        grayscale: i % 3 === 2,
      };
      cases.push([noise(width, height, i % 4 === 3 ? 1 : 3), transform]);
    }
  }
}

test("every filter, flip and colour over odd sizes is as the definition", () => {
  for (const [pixels, transform] of cases) {
    const out = new Uint8Array(3 * transform.size ** 2);
    resizeInto(pixels, transform, out, 0);
    // pillow-bytes rounds to 8 bits between its passes and after them, too.
    const absolute = transform.filter === "pillow-bytes" ? 1.501 : 0.501;
    const expected = resizeReference(pixels, transform);
    assertClose(JSON.stringify(transform), out, expected, { ofScale: 0, absolute });
  }
});

suite("against the addon", needsNative(process.arch === "x64" || "its compiler may fuse elsewhere"), () => {
  test("bytes and floats have the same bits", async () => {
    for (const [pixels, transform] of cases) {
      for (const kind of [Uint8Array, Float32Array]) {
        const [ours, theirs] = [new kind(3 * transform.size ** 2 + 2), new kind(3 * transform.size ** 2 + 2)];
        resizeInto(pixels, transform, ours, 1);
        await renderInto(pixels, "x", () => transform, theirs, 1);
        assert.deepEqual(ours, theirs, JSON.stringify(transform));
      }
    }
  });

  test("random boxes of random pictures, as training cuts them", async () => {
    const draws = new Draws(4, streams.draw, 0, 0);
    for (let i = 0; i < 60; i++) {
      const [width, height] = [1 + draws.below(140), 1 + draws.below(140)];
      const box = { width: 1 + draws.below(width), height: 1 + draws.below(height) };
      const transform: Transform = {
        ...asItIs(1 + draws.below(48)),
        box: { ...box, x: draws.below(width - box.width + 1), y: draws.below(height - box.height + 1) },
        filter: filters[i % 3] as (typeof filters)[number],
        flip: draws.below(2) === 1,
      };
      const pixels = noise(width, height, 3);
      const [ours, theirs] = [new Float32Array(3 * transform.size ** 2), new Float32Array(3 * transform.size ** 2)]; // prettier-ignore
      resizeInto(pixels, transform, ours, 0);
      await renderInto(pixels, "x", () => transform, theirs, 0);
      assert.deepEqual(ours, theirs, JSON.stringify(transform));
    }
  });
});

test("what does not fit together is refused before anything is written", () => {
  const pixels = noise(9, 7, 3);
  const whole = { x: 0, y: 0, width: 9, height: 7 };
  const fits: Transform = {
    ...asItIs(4),
    box: whole,
    resized: { width: 5, height: 4 },
    filter: "pillow-bytes",
  };
  const refused: [Partial<Transform>, RegExp][] = [
    [{ size: 6 }, /the window leaves/],
    [{ window: { x: 2, y: 0 } }, /the window leaves/],
    [{ size: 0 }, /no whole number/],
    [{ resized: { width: NaN, height: 4 } }, /no whole number/],
    [{ box: { ...whole, x: 1 } }, /the box leaves/],
    [{ box: { ...whole, height: 0 } }, /the box leaves/],
    [{ box: { ...whole, width: NaN }, filter: "pillow" }, /the box leaves/],
    [{ box: { ...whole, width: 8.5 } }, /whole pixels/],
  ];
  const out = new Uint8Array(3 * 4 * 4 + 1);
  for (const [change, words] of refused)
    assert.throws(() => resizeInto(pixels, { ...fits, ...change }, out, 0), words);
  assert.throws(() => resizeInto(pixels, fits, out, 2), /output buffer is too short/);
  assert.throws(() => resizeInto({ ...pixels, width: 8 }, fits, out, 0), /width \* height/);
  assert.deepEqual(new Set(out), new Set([0]));
  resizeInto(pixels, fits, out, 1);
  assert.notDeepEqual(new Set(out.subarray(1)), new Set([0]));
});

test("a picture larger than what is kept of memory leaves later ones as they are", () => {
  const large = noise(1, 1, 3);
  const [width, height] = [10_000, 9_500];
  const data = new Uint8Array(width * height * 3).fill(77);
  const out = new Uint8Array(3 * 2 * 2);
  const transform: Transform = {
    ...asItIs(2),
    box: { x: 0, y: 0, width, height },
    resized: { width: 2, height: 2 },
    filter: "pillow-bytes",
  };
  resizeInto({ ...large, data, width, height }, transform, out, 0);
  assert.deepEqual(new Set(out), new Set([77]));
  for (const [pixels, plain] of cases.slice(0, 6)) {
    const small = new Uint8Array(3 * plain.size ** 2);
    resizeInto(pixels, plain, small, 0);
    assertClose("after it", small, resizeReference(pixels, plain), {
      ofScale: 0,
      absolute: plain.filter === "pillow-bytes" ? 1.501 : 0.501,
    });
  }
});
