import assert from "node:assert/strict";
import { suite, test } from "node:test";

import fc from "fast-check";

import { Draws, streams } from "../core/random.js";
import {
  type Augmentation,
  augmentations,
  evaluationDecodings,
  evaluationSide,
  evaluationTransform,
  trainingTransform,
} from "./augment.js";

const drawsFor = (sample: number, seed = 1) => new Draws(seed, streams.augment, 0, sample);

/** Transforms of `count` samples of one size. */
function draw(augmentation: Augmentation, width: number, height: number, count = 2000) {
  return Array.from({ length: count }, (_, i) =>
    trainingTransform(augmentation, { width, height }, 96, drawsFor(i)),
  );
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

suite("trainingTransform", () => {
  test("every crop lies in the picture and is resized to the whole window", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(augmentations.tensorflow, augmentations.torchvision),
        fc.integer({ min: 1, max: 700 }),
        fc.integer({ min: 1, max: 700 }),
        fc.nat(1e6),
        (augmentation, width, height, sample) => {
          const { box, resized, window } = trainingTransform(
            augmentation,
            { width, height },
            96,
            drawsFor(sample),
          );
          assert.ok(box.x >= 0 && box.y >= 0 && box.width > 0 && box.height > 0);
          assert.ok(box.x + box.width <= width && box.y + box.height <= height);
          assert.deepEqual({ ...resized, ...window }, { width: 96, height: 96, x: 0, y: 0 });
        },
      ),
      { numRuns: 2000 },
    );
  });

  test("is decided by seed, epoch and sample alone", () => {
    const { tensorflow } = augmentations;
    const size = { width: 300, height: 200 };
    const first = trainingTransform(tensorflow, size, 96, new Draws(1, streams.augment, 2, 3));
    assert.deepEqual(trainingTransform(tensorflow, size, 96, new Draws(1, streams.augment, 2, 3)), first);
    for (const other of [
      new Draws(2, streams.augment, 2, 3),
      new Draws(1, streams.augment, 3, 3),
      new Draws(1, streams.augment, 2, 4),
    ]) {
      assert.notDeepEqual(trainingTransform(tensorflow, size, 96, other), first);
    }
  });

  test("torchvision: area uniform in 0.08 .. 1 where it fits, aspect between 3/4 and 4/3", () => {
    const boxes = draw(augmentations.torchvision, 1000, 1000, 4000).map(({ box }) => box);
    const areas = boxes.map(({ width, height }) => (width * height) / 1e6);
    assert.ok(Math.min(...areas) > 0.079 && Math.min(...areas) < 0.09);
    // Crops that do not fit are drawn again, which only happens near area 1: below 0.7 the law is uniform.
    const low = areas.filter((area) => area < 0.39).length;
    const high = areas.filter((area) => area >= 0.39 && area < 0.7).length;
    assert.ok(Math.abs(low / (low + high) - 0.5) < 4 / Math.sqrt(4 * (low + high)), `${low} and ${high}`);
    const aspects = boxes.map(({ width, height }) => width / height);
    assert.ok(Math.min(...aspects) > 0.745 && Math.max(...aspects) < 1.34);
    assert.ok(Math.abs(mean(aspects.map(Math.log))) < 0.01, "log aspect has mean 0");
    // Places: the free space to the left is half of all on average.
    assert.ok(Math.abs(mean(boxes.map(({ x, width }) => x / (1001 - width))) - 0.5) < 0.02);
  });

  test("torchvision: a picture too long for any crop gives its centre", () => {
    const { crop } = augmentations.torchvision;
    const augmentation: Augmentation = { ...augmentations.torchvision, crop: { ...crop, area: [0.9, 1] } };
    for (const { box } of draw(augmentation, 900, 90, 20)) {
      assert.deepEqual(box, { x: 390, y: 0, width: 120, height: 90 });
    }
    for (const { box } of draw(augmentation, 90, 900, 20)) {
      assert.deepEqual(box, { x: 0, y: 390, width: 90, height: 120 });
    }
  });

  test("tensorflow: a crop holds a quarter of the picture, or is all of it", () => {
    const { tensorflow } = augmentations;
    for (const { box } of draw(tensorflow, 320, 240)) assert.ok(box.width * box.height >= 0.25 * 320 * 240);
    const none: Augmentation = { ...tensorflow, crop: { ...tensorflow.crop, minimumCovered: 2 } };
    for (const { box } of draw(none, 32, 24, 5)) assert.deepEqual(box, { x: 0, y: 0, width: 32, height: 24 });
  });

  test("flips half, shifts a quarter and greys a twentieth", () => {
    const transforms = draw(augmentations.tensorflow, 64, 64, 8000);
    const share = (of: (t: (typeof transforms)[0]) => boolean) =>
      transforms.filter(of).length / transforms.length;
    // Four standard errors of 8,000 draws.
    assert.ok(Math.abs(share(({ flip }) => flip) - 0.5) < 0.0224);
    assert.ok(Math.abs(share(({ shift }) => shift.some((s) => s !== 0)) - 0.25) < 0.0194);
    assert.ok(Math.abs(share(({ grayscale }) => grayscale) - 0.05) < 0.0098);
    const red = transforms.map(({ shift }) => Math.abs(shift[0]));
    assert.ok(Math.max(...red) <= 32 / 255 + 0.1402 && Math.max(...red) > 0.2);
    assert.ok(
      draw(augmentations.torchvision, 64, 64).every(({ shift, grayscale }) => !grayscale && shift[0] === 0),
    );
  });

  test("none is what evaluation sees", () => {
    const size = { width: 300, height: 200 };
    const resize = { ...evaluationDecodings.torchvision, shorterSide: evaluationSide(96) };
    assert.deepEqual(
      trainingTransform(augmentations.none, size, 96, drawsFor(0)),
      evaluationTransform(resize, size, 96),
    );
  });
});

suite("evaluationTransform", () => {
  test("usual sizes are in proportion to 256 for 224", () => {
    assert.deepEqual(
      [224, 96, 128, 32].map((size) => evaluationSide(size)),
      [256, 110, 146, 37],
    );
    assert.equal(evaluationSide(96, 0.75), 128);
  });

  test("torchvision cuts the longer side off, TensorFlow rounds it half to even", () => {
    const of = (recipe: "tensorflow" | "torchvision", width: number, height: number) =>
      evaluationTransform({ ...evaluationDecodings[recipe], shorterSide: 256 }, { width, height }, 224);
    // 500 * 256 / 375 = 341.33; 501 * 256 / 375 = 342.016; 767 * 256 / 512 = 383.5; 769 * 256 / 512 = 384.5.
    assert.deepEqual(of("torchvision", 500, 375).resized, { width: 341, height: 256 });
    assert.deepEqual(of("torchvision", 767, 512).resized, { width: 383, height: 256 });
    assert.deepEqual(of("tensorflow", 767, 512).resized, { width: 384, height: 256 });
    assert.deepEqual(of("tensorflow", 512, 769).resized, { width: 256, height: 384 });
    // CenterCrop: (341 - 224) / 2 = 58.5 to 58; (343 - 224) / 2 = 59.5 to 60; TensorFlow always down.
    assert.deepEqual(of("torchvision", 500, 375).window, { x: 58, y: 16 });
    assert.deepEqual(of("torchvision", 503, 375).window, { x: 60, y: 16 });
    assert.deepEqual(of("tensorflow", 503, 375).window, { x: 59, y: 16 });
  });

  test("a shorter side below the network's size is refused", () => {
    const resize = { ...evaluationDecodings.torchvision, shorterSide: 40 };
    assert.throws(() => evaluationTransform(resize, { width: 64, height: 64 }, 96), /at least 96, found 40/);
  });
});
