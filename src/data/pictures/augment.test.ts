import assert from "node:assert/strict";
import { suite, test } from "node:test";

import fc from "fast-check";

import { needs, sharedPath } from "../../../test/support/shared.js";
import { DataError } from "../../core/error.js";
import { Draws, streams } from "../../core/random.js";
import { openNpz } from "../../formats/npz.js";
import {
  type Augmentation,
  augmentations,
  type Box,
  evaluationDecodings,
  evaluationSide,
  evaluationTransform,
  type Picture,
  trainingTransform,
} from "./augment.js";
import type { ObjectBox } from "./augment.js";

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

  test("tensorflow: an object smaller than a pixel cannot be covered, so the picture is shown whole", () => {
    const boxes = [{ xmin: 0.5, ymin: 0.5, xmax: 0.5004, ymax: 0.9 }];
    for (let i = 0; i < 20; i++) {
      const { box } = trainingTransform(
        augmentations.tensorflow,
        { width: 500, height: 375, boxes },
        96,
        drawsFor(i),
      );
      assert.deepEqual(box, { x: 0, y: 0, width: 500, height: 375 });
    }
  });

  test("tensorflow: a box that leaves the picture is refused with its corners", () => {
    for (const xmax of [1.5, -0.1, NaN]) {
      const boxes = [{ xmin: 0, ymin: 0, xmax, ymax: 1 }];
      assert.throws(
        () => trainingTransform(augmentations.tensorflow, { width: 9, height: 9, boxes }, 8, drawsFor(0)),
        (error: unknown) => error instanceof DataError && error.message.includes(`xmax ${xmax}`),
      );
    }
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

suite(
  "tensorflow's crop against 2,000 draws of sample_distorted_bounding_box",
  needs("tf-reference", "ops.npz"),
  () => {
    for (const i of [0, 1, 2]) {
      test(`case ${i}: area, aspect and coverage are distributed alike (Kolmogorov-Smirnov p > 0.01), every crop is allowed`, async () => {
        const npz = await openNpz(sharedPath("tf-reference", "ops.npz"));
        const numbers = async (name: string) => [
          ...((await npz.read(`crop${i}_${name}`)).data as Float32Array),
        ];
        const [height, width] = (await numbers("image_size")) as [number, number];
        const corners = await numbers("boxes_ymin_xmin_ymax_xmax");
        const begin = await numbers("begin");
        const size = await numbers("size");
        const boxes = groups(corners, 4).map(
          ([ymin, xmin, ymax, xmax]) => ({ xmin, ymin, xmax, ymax }) as ObjectBox,
        );
        assert.equal(boxes.length, [0, 1, 3][i]);
        const picture = { width, height, boxes };
        const theirs = groups(begin, 2).map(
          ([y, x], at) => ({ x, y, width: size[2 * at + 1], height: size[2 * at] }) as Box,
        );
        const ours = Array.from(
          { length: 20_000 },
          (_, sample) => trainingTransform(augmentations.tensorflow, picture, 224, drawsFor(sample, 3)).box,
        );
        for (const [what, of] of [
          ["area", areaOf],
          ["aspect", (box) => box.width / box.height],
          ["coverage", (box) => coverage(box, picture)],
          // Not asked for, but a crop has a place too.
          ["x", (box) => box.x],
          ["y", (box) => box.y],
        ] as readonly (readonly [string, (box: Box) => number])[]) {
          const p = kolmogorovSmirnov(ours.map(of), theirs.map(of));
          assert.ok(p > 0.01, `${what}: p = ${p}`);
        }
        const whole = width * height;
        for (const box of [...ours, ...theirs]) {
          const found = JSON.stringify(box);
          assert.ok(
            box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height,
            found,
          );
          // TensorFlow covers a quarter of the object in whole pixels, whose corners are up to a pixel off the true ones.
          assert.ok(
            coverage(box, picture) >= 0.25 - slack(picture),
            `${found} covers ${coverage(box, picture)}`,
          );
          // The fallback has the picture's own aspect.
          if (areaOf(box) === whole) continue;
          assert.ok(areaOf(box) >= 0.08 * whole - 0.01 && areaOf(box) < whole, found);
          // The width is the height times the aspect, rounded.
          assert.ok(box.width >= 0.75 * box.height - 0.51 && box.width <= 1.33 * box.height + 0.51, found);
        }
      });
    }

    test("the comparison sees a difference: crops around the whole picture are not those around an object", async () => {
      const npz = await openNpz(sharedPath("tf-reference", "ops.npz"));
      const size = groups([...((await npz.read("crop1_size")).data as Int32Array)], 2);
      const theirs = size.map(([h, w]) => (h as number) * (w as number));
      const ours = draw(augmentations.tensorflow, 500, 375).map(({ box }) => areaOf(box));
      assert.ok(kolmogorovSmirnov(ours, theirs) < 0.01);
    });
  },
);

function areaOf({ width, height }: Box): number {
  return width * height;
}

/** The largest share of an object, in its true corners, that the crop holds. */
function coverage(crop: Box, { width, height, boxes = [] }: Picture): number {
  const objects = boxes.length > 0 ? boxes : [{ xmin: 0, ymin: 0, xmax: 1, ymax: 1 }];
  const along = (from: number, length: number, low: number, high: number) =>
    Math.max(0, Math.min(from + length, high) - Math.max(from, low)) / (high - low);
  return Math.max(
    ...objects.map(
      ({ xmin, ymin, xmax, ymax }) =>
        along(crop.x, crop.width, xmin * width, xmax * width) *
        along(crop.y, crop.height, ymin * height, ymax * height),
    ),
  );
}

/** How much coverage a pixel on each axis of the smallest object is. */
function slack({ width, height, boxes = [] }: Picture): number {
  return Math.max(
    0,
    ...boxes.map(({ xmin, ymin, xmax, ymax }) => 1 / ((xmax - xmin) * width) + 1 / ((ymax - ymin) * height)),
  );
}

/** [1, 2, 3, 4] by two: [[1, 2], [3, 4]]. */
function groups(values: readonly number[], by: number): number[][] {
  return Array.from({ length: values.length / by }, (_, i) => values.slice(i * by, (i + 1) * by));
}

/**
 * Probability that two samples of one distribution differ as much as these (two-sided, asymptotic).
 *
 * Source: Stephens 1970, as in Numerical Recipes, 3rd edition, section 14.3.3.
 */
function kolmogorovSmirnov(a: readonly number[], b: readonly number[]): number {
  const [x, y] = [a, b].map((values) => [...values].sort((p, q) => p - q)) as [number[], number[]];
  let distance = 0;
  for (let i = 0, j = 0; i < x.length && j < y.length;) {
    const at = Math.min(x[i] as number, y[j] as number);
    while (x[i] === at) i++;
    while (y[j] === at) j++;
    distance = Math.max(distance, Math.abs(i / x.length - j / y.length));
  }
  const root = Math.sqrt((x.length * y.length) / (x.length + y.length));
  const lambda = (root + 0.12 + 0.11 / root) * distance;
  // The series alternates for ever at zero, where the answer is 1.
  if (lambda < 0.2) return 1;
  let p = 0;
  for (let k = 1; k <= 100; k++) p += 2 * (-1) ** (k - 1) * Math.exp(-2 * k * k * lambda * lambda);
  return Math.min(1, p);
}
