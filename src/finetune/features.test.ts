import assert from "node:assert/strict";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import type { Weights } from "../backends/backend.js";
import { referenceBackend } from "../backends/reference/reference.js";
import { augmentations, evaluationDecodings } from "../data/pictures/augment.js";
import type { Dataset } from "../data/dataset.js";
import { evaluationBatches, type LoadedBatch } from "../data/loader.js";
import { openClasses } from "../data/image-folder.js";
import { initialise, initialStatistics } from "../models/initialise.js";
import type { VariantName } from "../models/variants.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { drawFolder } from "../prepare/draw/draw-folder.js";
import { compile } from "../program/compile.js";
import type { HeadStep } from "../program/program.js";
import { fastBackend } from "../../test/support/fast-backend.js";
import { scratch } from "../../test/support/tiny-run.js";
import { type FeatureOptions, featuresOf } from "./features.js";
import { featureProgram, type Features } from "./feature-views.js";

const folder = scratch();
const side = 32;
const resize = { ...evaluationDecodings.torchvision, shorterSide: 36 };
let set: Dataset;

suite("features", () => {
  before(async () => {
    const drawn = join(folder, "drawn");
    await drawFolder({ folder: drawn, seed: 4, size: 40, train: 40, validation: 10 });
    set = openClasses(join(drawn, "train"));
  });

  for (const variant of ["torchvision", "tensorflow", "megvii"] as const) ofVariant(variant);
});

function ofVariant(variant: VariantName): void {
  suite(`of the ${variant} network`, () => {
    const network = shuffleNetV2({ variant, width: 0.5, classes: 10 });
    const program = featureProgram(network, side);
    const parameters = new Float32Array(program.parameterCount);
    initialise(program, { version: "he_normal", seed: 3 }, parameters);
    const weights: Weights = { parameters, statistics: Float32Array.from(initialStatistics(program)) };

    const find = (
      more: Partial<FeatureOptions> = {},
      threads = 1,
      backend = fastBackend,
    ): Promise<Features> =>
      featuresOf(backend, { threads }, program, weights, set, {
        samples: Array.from({ length: set.size }, (_, i) => i),
        imageSize: side,
        resize,
        augmentation: augmentations.torchvision,
        views: 4,
        seed: 1,
        maxBadImages: 0,
        known: [],
        ...more,
      });

    test("are what its classifier reads: W x + b are the logits that the engine gives", async () => {
      const { values, features, plain, samples, labels } = await find();
      const whole = compile(network, { batch: set.size, imageSize: side, mode: "infer" });
      const run = fastBackend.infer(whole, { threads: 1 });
      await run.load(weights);
      const source = evaluationBatches(set, { batch: set.size, imageSize: side, resize, maxBadImages: 0 });
      const batch = (await source[Symbol.asyncIterator]().next()).value as LoadedBatch;
      const logits = await run.infer(batch.images, batch.count);
      const head = whole.steps.at(-1) as HeadStep;
      assert.deepEqual([plain, features], [set.size, head.inputs.length]);
      let most = 0;
      const differences: number[] = [];
      for (let row = 0; row < plain; row++) {
        assert.deepEqual([samples[row], labels[row]], [row, set.label(row)]);
        for (let k = 0; k < 10; k++) {
          let z = head.bias < 0 ? 0 : (parameters[head.bias + k] as number);
          for (let f = 0; f < features; f++)
            z +=
              (values[row * features + f] as number) *
              (parameters[head.weights + k * features + f] as number);
          const own = logits[row * 10 + k] as number;
          differences.push(Math.abs(z - own));
          most = Math.max(most, Math.abs(own));
        }
      }
      assert.ok(most > 0 && Math.max(...differences) < 1e-4 * most, `${Math.max(...differences)} of ${most}`);
      run.close();
      await source.close();
    });

    if (variant !== "torchvision") return;

    test("are of four views unless training varies less, each of them another and all of a sample's", async () => {
      const all = await find();
      const row = (i: number): Float32Array => all.values.subarray(i * all.features, (i + 1) * all.features);
      assert.equal(all.labels.length, 4 * set.size);
      for (let view = 1; view < 4; view++) {
        assert.equal(all.samples[view * set.size + 5], 5);
        for (let before = 0; before < view; before++)
          assert.notDeepEqual(row(view * set.size + 5), row(before * set.size + 5));
      }
      const views = async (more: Partial<FeatureOptions>): Promise<number> =>
        (await find(more)).labels.length / set.size;
      assert.equal(await views({ views: 2 }), 2);
      assert.equal(await views({ augmentation: { ...augmentations.torchvision, flip: 0 }, views: 2 }), 2);
      assert.equal(await views({ augmentation: augmentations.none }), 1);
    });

    test("have the same bits for any number of threads, and are those of the f64 twin", async () => {
      const few = { samples: [7, 3, 21] };
      const one = await find(few);
      assert.deepEqual(await find(few, 3), one);
      assert.deepEqual([...one.samples.subarray(0, 3)], [7, 3, 21]);
      const exact = await find(few, 1, referenceBackend);
      one.values.forEach((value, i) => assert.ok(Math.abs(value - (exact.values[i] as number)) < 1e-4));
    });
  });
}
