/**
 * Where the network looks: class activation and Grad-CAM of both backends are PyTorch's, on drawn pictures and, where they are
 * at hand, on ten photographs.
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";

import type { Weights } from "../../src/backends/backend.js";
import { referenceBackend } from "../../src/backends/reference/reference.js";
import { UsageError } from "../../src/core/error.js";
import { pictureAlone } from "../../src/inference/evaluate.js";
import {
  EXPLAINED_LAYERS,
  type ExplainedLayer,
  Explainer,
  type Explanation,
} from "../../src/inference/explain.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { fillTensor, tensorsOf } from "../../src/models/tensor-names.js";
import { compile } from "../../src/program/compile.js";
import { importWeights } from "../../src/weights/import-weights.js";
import { fastBackend } from "../support/fast-backend.js";
import { batchByRule, tensorByRule } from "../support/rule.js";
import { needs, sharedPath, storedPath } from "../support/shared.js";

/** Of the largest value of a map. What is left to f32 is some 1e-5. */
const TOLERANCE = 1e-3;

suite("an explanation of a drawn picture", () => {
  const { size, seed, asked } = golden<{
    size: number;
    seed: number;
    asked: {
      image: number;
      output: number;
      logits: string;
      activation: string;
      gradCam: Record<ExplainedLayer, string>;
    }[];
  }>("torch-explained-0.5x-64.json");
  const { images } = batchByRule(4, size, 10, seed);
  const model = { variant: "torchvision", width: 0.5, classes: 10, image_size: size } as const;

  for (const backend of [fastBackend, referenceBackend]) {
    test(`is PyTorch's (${backend.name})`, async () => {
      const explainer = await Explainer.open(model, weightsByRule(seed), { threads: 2, backend });
      for (const { image, output, ...expected } of asked) {
        const bytes = size * size * 3;
        const found = await explainer.explain(images.subarray(image * bytes, (image + 1) * bytes), output);
        compare("logits", found.logits, f32(expected.logits));
        compare("activation", found.activation.values, f32(expected.activation));
        for (const layer of EXPLAINED_LAYERS)
          compare(layer, found.gradCam[layer].values, f32(expected.gradCam[layer]));
      }
      explainer.close();
    });
  }

  test("adds up: the mean of the class activation and the bias are the logit, and Grad-CAM of conv5 is its clipped share", async () => {
    const explainer = await Explainer.open(model, weightsByRule(seed), {
      threads: 1,
      backend: fastBackend,
    });
    const { activation, gradCam, logits } = await explainer.explain(images.subarray(0, size * size * 3), 3);
    const places = activation.values.length;
    const mean = activation.values.reduce((sum, value) => sum + value, 0) / places;
    const bias = tensorByRule("fc.bias", [10], seed)[3] as number;
    // Sums in f32: 2.4e-5 by SSE2, less by wider registers.
    assert.ok(Math.abs(mean + bias - (logits[3] as number)) < 5e-5);
    compare(
      "conv5",
      gradCam.conv5.values,
      activation.values.map((value) => Math.max(0, value) / places),
    );
    await assert.rejects(explainer.explain(images.subarray(0, size * size * 3), 10), UsageError);
    explainer.close();
  });
});

test(
  "an explanation of ten photographs by the pretrained 1.0x is PyTorch's",
  // By SSE2, and so by WebAssembly, Grad-CAM behind many ReLUs is 1e-2 away.
  fastBackend.name === "native"
    ? needs("hymenoptera")
    : { skip: "its bounds are those of the native engine" },
  async () => {
    const { pictures } = golden<{
      pictures: {
        file: string;
        sha256: string;
        output: number;
        activation: string;
        most: Record<ExplainedLayer, number>;
        gradCam: Record<ExplainedLayer, string>;
      }[];
    }>("torch-explained-photographs.json");
    assert.equal(pictures.length, 10);
    const { weights, model } = await importWeights(
      sharedPath("torch-checkpoints", "torchvision_shufflenet_v2_x1_0_pretrained.pth"),
    );
    const explainer = await Explainer.open(model, weights, { backend: fastBackend });
    const seen: { pixels: Uint8Array; output: number; found: Explanation }[] = [];
    for (const { file, sha256, output, ...expected } of pictures) {
      const bytes = readFileSync(sharedPath(file));
      assert.equal(createHash("sha256").update(bytes).digest("hex"), sha256, file);
      const pixels = await pictureAlone(bytes, file, model);
      const found = await explainer.explain(pixels, output);
      seen.push({ pixels, output, found });
      assert.equal(found.logits.indexOf(Math.max(...found.logits)), output, file);
      compare(`${file}, activation`, found.activation.values, f32(expected.activation));
      for (const layer of EXPLAINED_LAYERS) {
        const shares = new Uint16Array(buffer(expected.gradCam[layer]));
        const map = Float32Array.from(shares, (share) => (share / 65535) * expected.most[layer]);
        compare(`${file}, ${layer}`, found.gradCam[layer].values, map);
      }
    }
    explainer.close();
    // The reference, of which a picture takes seconds, on the first.
    const [first] = seen;
    assert.ok(first !== undefined);
    const reference = await Explainer.open(model, weights, { backend: referenceBackend });
    const { gradCam, activation } = await reference.explain(first.pixels, first.output);
    compare("activation", first.found.activation.values, activation.values, 1e-4);
    for (const layer of EXPLAINED_LAYERS)
      compare(layer, first.found.gradCam[layer].values, gradCam[layer].values, 1e-4);
  },
);

function golden<T>(name: string): T {
  return JSON.parse(readFileSync(storedPath("golden", name), "utf8")) as T;
}

function buffer(base64: string): ArrayBuffer {
  return new Uint8Array(Buffer.from(base64, "base64")).buffer;
}

function f32(base64: string): Float32Array {
  return new Float32Array(buffer(base64));
}

function compare(what: string, found: Float32Array, expected: Float32Array, tolerance = TOLERANCE): void {
  assert.equal(found.length, expected.length, what);
  const most = expected.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  const worst = expected.reduce((a, b, i) => Math.max(a, Math.abs(b - (found[i] as number))), 0);
  assert.ok(worst <= tolerance * most, `${what}: off by ${worst} of ${most}`);
}

/** As make_torch.py has them. */
function weightsByRule(seed: number): Weights {
  const network = shuffleNetV2({ variant: "torchvision", width: 0.5, classes: 10 });
  const table = compile(network, { batch: 1, imageSize: 64, mode: "infer" });
  const weights = {
    parameters: new Float32Array(table.parameterCount),
    statistics: new Float32Array(2 * table.planes.length),
  };
  for (const tensor of tensorsOf(table, "torchvision"))
    fillTensor(
      tensor,
      { shape: tensor.shape, data: tensorByRule(tensor.name, tensor.shape, seed) },
      weights[tensor.array],
    );
  return weights;
}
