import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { ShapeError, UsageError } from "../core/error.js";
import { convolutionNorm, type Layer, type Network } from "../models/layers.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { variantNames, widths, type VariantName, type Width } from "../models/variants.js";
import { compile } from "./compile.js";
import { totals } from "./print.js";
import { planeBytes } from "./program.js";
import { windowGeometry } from "./window.js";

const network = (variant: VariantName, width: Width): Network =>
  shuffleNetV2({ variant, width, classes: 1000 });

suite("trainable parameters at 1000 classes", () => {
  // tensorflow: counted in the lineage's checkpoints. torchvision: its documentation, "num_params".
  // megvii: torchvision's less 1000 biases; its uneven stage2.unit1 has, at 1.0x, (92*58 + 24*24) - (58*58 + 58*24) more.
  const published: Record<VariantName, [number, number, number, number]> = {
    tensorflow: [1_366_792, 2_275_374, 3_495_624, 6_697_904],
    torchvision: [1_366_792, 2_278_604, 3_503_624, 7_393_996],
    megvii: [1_365_792, 2_278_760, 3_506_720, 7_402_600],
  };
  for (const variant of variantNames) {
    widths.forEach((width, i) => {
      test(`${variant} ${width.toFixed(1)}x has ${published[variant][i]}`, () => {
        const program = compile(network(variant, width), { batch: 1, imageSize: 224, mode: "infer" });
        assert.equal(program.parameterCount, published[variant][i]);
        assert.equal(totals(program).parameters, published[variant][i]);
      });
    });
  }
});

suite("multiply-adds at 224 px", () => {
  // The paper's table 5, which is megvii's network; it prints 41M where the convolutions sum to 40.5M.
  const published: Record<Width, number> = { 0.5: 41, 1: 146, 1.5: 299, 2: 591 };
  for (const width of widths) {
    test(`${width.toFixed(1)}x needs ${published[width]}M`, () => {
      const program = compile(network("megvii", width), { batch: 1, imageSize: 224, mode: "infer" });
      const millions = totals(program).multiplyAdds / 1e6;
      assert.ok(Math.abs(millions - published[width]) < 0.55, `${millions}M`);
    });
  }
});

suite("compile", () => {
  for (const imageSize of [32, 33, 47, 64, 75, 96, 110, 224]) {
    for (const variant of variantNames) {
      test(`${variant} at ${imageSize} px ends at ceil(size / 32) pixels, training and inferring`, () => {
        for (const mode of ["train", "infer"] as const) {
          const program = compile(network(variant, 0.5), { batch: 3, imageSize, mode });
          assert.equal(program.planes.at(-1)?.height, Math.ceil(imageSize / 32));
        }
      });
    }
  }

  test("refuses an image too small for the network, with both numbers", () => {
    assert.throws(
      () => compile(network("tensorflow", 0.5), { batch: 1, imageSize: 7, mode: "infer" }),
      (error: unknown) => {
        assert.ok(error instanceof UsageError);
        assert.match(error.message, /from 32.*found 7/);
        return true;
      },
    );
  });

  for (const batch of [0, -1, 1.5, NaN]) {
    test(`refuses a batch of ${batch}`, () => {
      assert.throws(
        () => compile(network("tensorflow", 0.5), { batch, imageSize: 64, mode: "train" }),
        UsageError,
      );
    });
  }

  test("refuses to take statistics of single values", () => {
    assert.throws(
      () => compile(network("tensorflow", 0.5), { batch: 1, imageSize: 32, mode: "train" }),
      /only one value per channel/,
    );
    compile(network("tensorflow", 0.5), { batch: 1, imageSize: 32, mode: "infer" });
    compile(network("tensorflow", 0.5), { batch: 1, imageSize: 64, mode: "train" });
  });

  test("marks what decays by the variant's rule", () => {
    const decaying = (variant: VariantName): number =>
      compile(network(variant, 0.5), { batch: 2, imageSize: 64, mode: "train" }).parameters.filter(
        (p) => p.decay,
      ).length;
    assert.equal(decaying("tensorflow"), 38); // all `weights` of the lineage but `depthwise_weights`
    assert.equal(decaying("megvii"), 57); // every convolution and the classifier
    assert.equal(decaying("torchvision"), 170); // everything
  });

  test("names the layer that reads what nobody defines", () => {
    const base = network("tensorflow", 0.5);
    const stray = convolutionNorm(
      { name: "stray", input: "nowhere", channels: 4, kernel: 1, stride: 1, padding: "same" },
      { relu: true },
    );
    const layers = [...base.layers.slice(0, 3), ...stray, ...base.layers.slice(3)];
    assert.throws(
      () => compile({ ...base, layers }, { batch: 1, imageSize: 64, mode: "infer" }),
      (error: unknown) => {
        assert.ok(error instanceof ShapeError);
        assert.match(error.message, /"stray" reads "nowhere"/);
        return true;
      },
    );
  });

  test("refuses a 3x3 convolution that is not the stem", () => {
    const base = network("tensorflow", 0.5);
    const layers = base.layers.map((layer): Layer => {
      return layer.kind === "convolution" && layer.kernel === 3 ? { ...layer, stride: 1 } : layer;
    });
    assert.throws(() => compile({ ...base, layers }, { batch: 1, imageSize: 64, mode: "infer" }), /stride 2/);
  });
});

suite("the flat parameter array", () => {
  const program = compile(network("torchvision", 1), { batch: 2, imageSize: 64, mode: "train" });
  const byOffset = [...program.parameters].sort((a, b) => a.offset - b.offset).map(({ name }) => name);

  test("lies in the order in which backward finishes, a step's tensors side by side", () => {
    assert.deepEqual(byOffset.slice(0, 6), [
      "classifier.weight",
      "classifier.bias",
      "conv5.weight",
      "conv5.gamma",
      "conv5.beta",
      "stage4.unit4.main.after.weight",
    ]);
    assert.deepEqual(byOffset.slice(-3), ["conv1.weight", "conv1.gamma", "conv1.beta"]);
  });

  test("is listed in the network's order, by which weights are drawn and files are written", () => {
    const listed = program.parameters.map(({ name }) => name);
    assert.deepEqual(listed.slice(0, 4), ["conv1.weight", "conv1.gamma", "conv1.beta", "stage2.unit1.main.before.weight"]); // prettier-ignore
    assert.deepEqual(listed.slice(-2), ["classifier.weight", "classifier.bias"]);
  });

  test("is cut into buckets of a quarter of a megabyte, one step more at most, final in turn", () => {
    const { buckets, steps, parameterCount } = program;
    assert.ok(buckets.length >= 4, `${buckets.length} buckets`);
    assert.deepEqual(
      buckets.map(({ begin }) => begin),
      [0, ...buckets.slice(0, -1).map(({ end }) => end)],
    );
    assert.equal(buckets.at(-1)?.end, parameterCount);
    assert.equal(buckets[0]?.afterStep, steps.length - 1);
    assert.equal(buckets.at(-1)?.afterStep, 0);
    for (const { begin, end } of buckets.slice(0, -1)) assert.ok(4 * (end - begin) >= 2 ** 18);
  });
});

suite("planned memory", () => {
  test("has no limit of 8 GiB", () => {
    const batch = 2048;
    const program = compile(network("tensorflow", 1), { batch, imageSize: 224, mode: "train" });
    assert.ok(program.memory.size > 2 ** 33, `${program.memory.size} bytes`);
    const last = Math.max(...program.memory.value, ...program.memory.gradient);
    assert.ok(last > 2 ** 33 && last < program.memory.size, `the last buffer begins at ${last}`);
  });

  for (const width of widths) {
    test(`${width.toFixed(1)}x trains in little more than its values alone`, () => {
      const batch = 4;
      const program = compile(network("tensorflow", width), { batch, imageSize: 224, mode: "train" });
      const values = program.planes.reduce((sum, plane) => sum + planeBytes(plane, batch), 0);
      // Measured: 1.03 to 1.08; values and gradients side by side would be 2.
      assert.ok(program.memory.size <= 1.1 * values, `${program.memory.size / values} of the values`);
    });
  }

  test("inference keeps only planes that are still to be read", () => {
    const batch = 4;
    const program = compile(network("tensorflow", 1), { batch, imageSize: 224, mode: "infer" });
    const values = program.planes.reduce((sum, plane) => sum + planeBytes(plane, batch), 0);
    assert.ok(program.memory.size <= 0.15 * values, `${program.memory.size / values} of the values`);
  });
});

suite("windowGeometry", () => {
  test("pads an even size after only (same), or on both sides (one)", () => {
    assert.equal(windowGeometry(224, 2, "same").padTop, 0);
    assert.equal(windowGeometry(224, 2, "one").padTop, 1);
  });

  for (const size of [1, 2, 7, 112, 113]) {
    for (const padding of ["same", "one"] as const) {
      test(`${size} pixels, padding ${padding}: stride 1 keeps the size and pads 1`, () => {
        const { outputHeight, padTop } = windowGeometry(size, 1, padding);
        assert.deepEqual([outputHeight, padTop], [size, 1]);
      });
      test(`${size} pixels, padding ${padding}: stride 2 gives ceil(size / 2)`, () => {
        assert.equal(windowGeometry(size, 2, padding).outputWidth, Math.ceil(size / 2));
      });
    }
  }
});
