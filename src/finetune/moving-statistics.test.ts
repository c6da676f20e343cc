import assert from "node:assert/strict";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { augmentations, evaluationDecodings } from "../data/pictures/augment.js";
import type { Dataset } from "../data/dataset.js";
import { openClasses } from "../data/image-folder.js";
import { trainingBatches } from "../data/loader.js";
import { initialise } from "../models/initialise.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { drawFolder } from "../prepare/draw/draw-folder.js";
import { compile } from "../program/compile.js";
import type { Program } from "../program/program.js";
import { fastBackend } from "../../test/support/fast-backend.js";
import { scratch } from "../../test/support/tiny-run.js";
import { featuresOf } from "./features.js";
import { featureProgram, type Features } from "./feature-views.js";
import { measureStatistics } from "./moving-statistics.js";
import { statisticsFit } from "./statistics-fit.js";

const folder = scratch();
const side = 32;
const network = shuffleNetV2({ variant: "torchvision", width: 0.5, classes: 10 });
const program = featureProgram(network, side);
const looking = {
  imageSize: side,
  augmentation: augmentations.none,
  seed: 1,
  maxBadImages: 0,
  known: [],
};
let set: Dataset;

before(async () => {
  const drawn = join(folder, "drawn");
  await drawFolder({ folder: drawn, seed: 4, size: side, train: 40, validation: 10 });
  set = openClasses(join(drawn, "train"));
});

function parametersOf(of: Program): Promise<Float32Array> {
  return Promise.resolve(initialise(of, { version: "he_normal", seed: 3 }));
}

function measured(batch: number): Promise<Float32Array | undefined> {
  return measureStatistics(fastBackend, { threads: 1 }, network, parametersOf, set, { ...looking, batch });
}

/** As a few steps leave them: near 0 and 1. */
function early(): Float32Array {
  const planes = program.planes.length;
  return Float32Array.from({ length: 2 * planes }, (_, i) => (i < planes ? 1e-3 : 0.99));
}

async function featuresBy(statistics: Float32Array): Promise<Features> {
  const weights = { parameters: await parametersOf(program), statistics };
  return featuresOf(fastBackend, { threads: 1 }, program, weights, set, {
    ...looking,
    samples: Array.from({ length: set.size }, (_, i) => i),
    resize: { ...evaluationDecodings.torchvision, shorterSide: side },
    views: 1,
  });
}

suite("moving statistics", () => {
  test("of few steps do not fit, those measured do", async () => {
    const parameters = await parametersOf(program);
    const [few, anew] = [early(), (await measured(20)) as Float32Array];
    const fit = async (statistics: Float32Array): Promise<boolean> =>
      statisticsFit(program, { parameters, statistics }, await featuresBy(statistics));
    assert.deepEqual([await fit(few), await fit(anew)], [false, true]);
  });

  test("are as large as gamma and beta say, to a factor of 8", async () => {
    const parameters = await parametersOf(program);
    const count = program.planes.length;
    const statistics = early();
    // Of N(0, 1) cut off at 0 the mean is 1 / sqrt(2 pi), of N(-1, 1) it is 0.0833.
    for (const [beta, mean] of [
      [0, 0.39894],
      [-1, 0.08332],
      [2, 2.0085],
    ] as const) {
      for (const plane of program.kept[0]?.planes ?? []) {
        parameters[program.planes[plane]?.beta as number] = beta;
      }
      for (const [times, fits] of [
        [1, true],
        [7.9, true],
        [8.1, false],
        [1 / 7.9, true],
        [1 / 8.1, false],
      ] as const) {
        // prettier-ignore
        const values = new Float32Array(3 * 1024).fill(mean * times);
        const found = { features: 1024, values } as Features;
        assert.equal(statisticsFit(program, { parameters, statistics }, found), fits, `${beta}, ${times}`);
      }
    }
    const dead = { features: 1024, values: new Float32Array(1024).fill(NaN) } as Features;
    assert.equal(statisticsFit(program, { parameters, statistics }, dead), false);
    // Folded into the weights: what comes out is right, whatever its size.
    const none = Float32Array.from(statistics, (_, i) => (i < count ? 0 : 1 - 1e-5));
    assert.equal(statisticsFit(program, { parameters, statistics: none }, dead), true);
  });

  test("are the mean of the batches' own, weighed as a moving mean weighs them", async () => {
    const batch = 40;
    const anew = (await measured(batch)) as Float32Array;
    // One batch of all pictures, in any order: what a step moves the statistics to, from 0.
    const training = compile(network, { batch, imageSize: side, mode: "train" });
    const run = fastBackend.train(training, { threads: 1 });
    await run.writeState({ parameters: await parametersOf(training) });
    const source = trainingBatches(set, { ...looking, batch, firstStep: 0, shuffle: false });
    for await (const { images, labels } of source) {
      const loss = { labelSmoothing: 0, weightDecay: 0 };
      const update = { learningRate: 0, momentum: 0, nesterov: false, weightDecay: 0, averageDecay: 0 };
      await run.step({ images, labels }, loss, update);
      break;
    }
    await source.close();
    const { statistics } = await run.readState();
    statistics.forEach((value, i) => {
      const expected = value / (1 - training.batchNorm.momentum);
      const off = Math.abs((anew[i] as number) - expected);
      assert.ok(off <= 1e-3 * Math.abs(expected) + 1e-5, `${i}: ${anew[i]} for ${expected}`);
    });
    run.close();
  });
});
