/** The page's arithmetic against the engine's own, which is held to Pillow's and TensorFlow's (render.test.ts). */

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { Draws, streams } from "../../src/core/random.js";
import { evaluationDecodings, evaluationTransform } from "../../src/data/pictures/augment.js";
import { renderInto } from "../../src/data/pictures/render.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { variantNames } from "../../src/models/variants.js";
import type { ModelDescription } from "../../src/run/checkpoint-state.js";
import { preprocessingOf } from "../../src/weights/export-metadata.js";
import { croppedBytes, networkInput } from "../../src/web/preprocess.js";

const CROP = 28;
const SIDE = 32;

/** Noise, with alpha that means nothing. */
function drawn(width: number, height: number): { rgb: Uint8Array; rgba: Uint8Array } {
  const draws = new Draws(3, streams.draw, width, height);
  const rgba = Uint8Array.from({ length: 4 * width * height }, () => draws.below(256));
  return { rgb: rgba.filter((_, i) => i % 4 < 3), rgba };
}

function preprocessing(
  pipeline: ModelDescription["pipeline"],
  variant: ModelDescription["variant"] = "torchvision",
) {
  const model = { pipeline, eval_resize: SIDE, image_size: CROP } as ModelDescription;
  return preprocessingOf(model, shuffleNetV2({ variant, width: 0.5, classes: 2 }));
}

suite("the part of a picture that the network sees", () => {
  // Enlarged, as it is, reduced; both ways round, and places that fall between two pixels.
  const sizes = [
    [SIDE, SIDE],
    [19, 23],
    [33, 47],
    [47, 33],
    [301, 97],
    [97, 302],
    [640, 427],
    [1, 50],
  ] as const;
  for (const pipeline of ["torchvision", "tensorflow"] as const) {
    test(`has the engine's bytes, by the rule of ${pipeline}`, async () => {
      for (const [width, height] of sizes) {
        const { rgb, rgba } = drawn(width, height);
        const engines = new Uint8Array(CROP * CROP * 3);
        const resize = { ...evaluationDecodings[pipeline], shorterSide: SIDE };
        await renderInto(
          { kind: "pixels", data: rgb, width, height, channels: 3 },
          "drawn",
          (known) => evaluationTransform(resize, known, CROP),
          engines,
          0,
        );
        const rule = preprocessing(pipeline);
        const what = `${width} x ${height}`;
        assert.deepEqual(croppedBytes({ data: rgb, width, height, channels: 3 }, rule), engines, what);
        assert.deepEqual(croppedBytes({ data: rgba, width, height, channels: 4 }, rule), engines, what);
      }
    });
  }

  test("is not guessed by a rule that is unknown", () => {
    const rule = { ...preprocessing("torchvision"), interpolation: "nearest" };
    const picture = { ...drawn(40, 40), width: 40, height: 40, channels: 4 } as const;
    assert.throws(() => croppedBytes({ ...picture, data: picture.rgba }, rule), /no such way: nearest/);
  });
});

suite("the network's input", () => {
  for (const variant of variantNames) {
    test(`is what the engine makes of the bytes, for the variant ${variant}`, () => {
      const { rgb } = drawn(SIDE, SIDE);
      const rule = preprocessing("torchvision", variant);
      const picture = { data: rgb, width: SIDE, height: SIDE, channels: 3 } as const;
      const bytes = croppedBytes(picture, rule);
      const { channelOrder, scale, shift } = shuffleNetV2({ variant, width: 0.5, classes: 2 }).input;
      const input = networkInput(picture, rule);
      assert.equal(input.length, 3 * CROP * CROP);
      input.forEach((value, i) => {
        const channel = channelOrder[Math.floor(i / CROP ** 2)] as number;
        const exact =
          (scale[channel] as number) * (bytes[3 * (i % CROP ** 2) + channel] as number) +
          (shift[channel] as number);
        // Means and deviations are written in six digits.
        const span = 255 * Math.abs(scale[channel] as number);
        assert.ok(Math.abs(value - exact) <= 2e-6 * span, `${i}: ${value}, ${exact}`);
      });
    });
  }
});
