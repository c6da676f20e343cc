import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { Draws } from "../core/random.js";
import { evaluationDecodings, evaluationTransform, trainingTransform } from "../data/pictures/augment.js";
import { augmentationOf } from "./augmentation.js";

const photograph = { width: 500, height: 375 };
const given = { augment: "none", crop_area_min: 0.08, flip: true, image_size: 96 } as const;

suite("augmentationOf", () => {
  for (const [what, settings, shorterSide] of [
    ["the usual share of the shorter side", { eval_crop: 224 / 256 }, 110],
    ["--eval_crop", { eval_crop: 0.75 }, 128],
    ["--eval_resize before --eval_crop", { eval_crop: 0.75, eval_resize: 100 }, 100],
  ] as const) {
    test(`trains centred pictures as evaluation shows them, by ${what}`, () => {
      const augmentation = augmentationOf({ eval_resize: undefined, ...given, ...settings });
      const { box, resized, window } = trainingTransform(augmentation, photograph, 96, new Draws(1, 2, 3, 4));
      const shown = evaluationTransform({ ...evaluationDecodings.torchvision, shorterSide }, photograph, 96);
      assert.deepEqual(
        { box, resized, window },
        { box: shown.box, resized: shown.resized, window: shown.window },
      );
    });
  }
});
