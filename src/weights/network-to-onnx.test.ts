import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { fastBackend } from "../../test/support/fast-backend.js";
import { onnxInputOf } from "../../test/support/onnx-input.js";
import { decodeOnnx, integersOf } from "../../test/support/onnx-reader.js";
import { runOnnx } from "../../test/support/onnx-run.js";
import { unlikeWeights } from "../../test/support/untrained-run.js";
import { Draws, streams } from "../core/random.js";
import { encodeOnnx, type OnnxModel } from "../formats/onnx.js";
import { channelsOf, convolutionNorm, IMAGE, type Network, normalised } from "../models/layers.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { variantNames, type Width } from "../models/variants.js";
import { compile } from "../program/compile.js";
import { networkToOnnx, onnxInputs, type OnnxExportOptions } from "./network-to-onnx.js";

const plain = {
  keepBatchNorm: false,
  input: "normalised",
  producerVersion: "1",
  metadata: new Map(),
} as const;

function drawnImages(count: number, size: number): Uint8Array {
  const draws = new Draws(6, streams.draw, 0, 1);
  return Uint8Array.from({ length: count * size ** 2 * 3 }, () => draws.below(256));
}

function reopened(model: OnnxModel): OnnxModel {
  return decodeOnnx(Buffer.concat(encodeOnnx(model)), "exported.onnx");
}

/** Largest difference between the engine's logits and those of the exported graph, and the largest logit. */
async function compare(
  network: Network,
  imageSize: number,
  options: Omit<OnnxExportOptions, "imageSize">,
): Promise<{ difference: number; largest: number; model: OnnxModel }> {
  const count = 2;
  const program = compile(network, { batch: count, imageSize, mode: "infer" });
  const weights = unlikeWeights(program);
  const images = drawnImages(count, imageSize);
  const run = fastBackend.infer(program, { threads: 1 });
  await run.load(weights);
  const expected = await run.infer(images, count);
  run.close();
  const model = reopened(networkToOnnx(network, program, weights, { ...options, imageSize }));
  const data = Float64Array.from(onnxInputOf(network, images, imageSize, options.input));
  const found = runOnnx(model, new Map([[IMAGE, { shape: [count, 3, imageSize, imageSize], data }]])).get(
    "logits",
  );
  assert.deepEqual(found?.shape, [count, network.classes]);
  return {
    difference: Math.max(...expected.map((logit, i) => Math.abs(logit - (found.data[i] as number)))),
    largest: Math.max(...expected.map(Math.abs)),
    model,
  };
}

suite("an exported network gives the engine's logits", () => {
  for (const variant of variantNames) {
    for (const width of [0.5, 1] as Width[]) {
      for (const keepBatchNorm of [false, true]) {
        test(`${variant} ${width}x, batch norm ${keepBatchNorm ? "kept" : "folded"}`, async () => {
          const network = shuffleNetV2({ variant, width, classes: 7 });
          const { difference, largest } = await compare(network, 64, { ...plain, keepBatchNorm });
          assert.ok(
            largest > 0.1 && difference <= 1e-4 * Math.max(1, largest),
            `${difference} of ${largest}`,
          );
        });
      }
    }
    // 33: odd sides all the way (33, 17, 9, 5, 3, 2); 50: even and odd ones in turn.
    for (const imageSize of [33, 50]) {
      for (const input of onnxInputs) {
        test(`${variant} at ${imageSize} px from ${input}`, async () => {
          const network = shuffleNetV2({ variant, width: 0.5, classes: 3 });
          const { difference, largest } = await compare(network, imageSize, { ...plain, input });
          assert.ok(
            largest > 0.1 && difference <= 1e-4 * Math.max(1, largest),
            `${difference} of ${largest}`,
          );
        });
      }
    }
  }
});

suite("the graph", () => {
  const network = shuffleNetV2({ variant: "tensorflow", width: 0.5, classes: 3 });
  const program = compile(network, { batch: 1, imageSize: 64, mode: "infer" });
  const exported = (options: Partial<OnnxExportOptions> = {}): OnnxModel =>
    reopened(
      networkToOnnx(network, program, unlikeWeights(program), { ...plain, imageSize: 64, ...options }),
    );
  const operators = (model: OnnxModel): Map<string, number> => {
    const counts = new Map<string, number>();
    for (const { operator } of model.graph.nodes) counts.set(operator, (counts.get(operator) ?? 0) + 1);
    return counts;
  };

  test("leaves the number of images free and nothing else", () => {
    const { inputs, outputs } = exported().graph;
    assert.deepEqual(inputs, [{ name: "image", shape: ["N", 3, 64, 64] }]);
    assert.deepEqual(outputs, [{ name: "logits", shape: ["N", 3] }]);
  });

  test("has a convolution a layer, a bias in each, and no batch norm unless it is kept", () => {
    const [folded, kept] = [operators(exported()), operators(exported({ keepBatchNorm: true }))];
    // conv1, conv5, three downsampling units of 5 and 13 others of 3.
    assert.equal(folded.get("Conv"), 2 + 3 * 5 + 13 * 3);
    assert.equal(folded.get("BatchNormalization"), undefined);
    assert.equal(kept.get("BatchNormalization"), kept.get("Conv"));
  });

  for (const variant of variantNames) {
    test(`${variant} shuffles by Reshape, Transpose and Split, never channel by channel`, () => {
      const net = shuffleNetV2({ variant, width: 0.5, classes: 3 });
      const table = compile(net, { batch: 1, imageSize: 64, mode: "infer" });
      const counts = operators(
        reopened(networkToOnnx(net, table, unlikeWeights(table), { ...plain, imageSize: 64 })),
      );
      assert.equal(counts.get("Gather"), undefined);
      assert.equal(counts.get("Split"), 13);
      // torchvision's stages end in a shuffle, the others in a join.
      assert.equal(counts.get("Transpose"), variant === "torchvision" ? 16 : 13);
    });
  }

  test("pads an even side after, as TensorFlow does", () => {
    const pads = exported()
      .graph.nodes.find(({ name }) => name === "conv1")
      ?.attributes.get("pads");
    assert.deepEqual(pads, { kind: "ints", value: [0, 0, 1, 1] });
  });

  test("gathers an arrangement that is no shuffle", async () => {
    const reversed = [...channelsOf("pool1", 4)].reverse();
    const odd: Network = {
      ...network,
      layers: [
        ...convolutionNorm(
          { name: "conv1", input: IMAGE, channels: 4, kernel: 3, stride: 2, padding: "same" },
          { relu: true },
        ),
        { kind: "maxPool", name: "pool1", input: normalised("conv1"), padding: "same" },
        { kind: "arrange", name: "reversed", channels: reversed },
        ...convolutionNorm(
          { name: "conv5", input: "reversed", channels: 5, kernel: 1, stride: 1, padding: "same" },
          { relu: true },
        ),
        { kind: "globalAveragePool", name: "pool5", input: normalised("conv5") },
        { kind: "linear", name: "classifier", input: "pool5", classes: 3, bias: true, dropout: 0 },
      ],
    };
    const { difference, model } = await compare(odd, 32, plain);
    assert.ok(difference <= 1e-5, `${difference}`);
    const order = model.graph.initializers.get("reversed.channels");
    assert.deepEqual(order && integersOf(order), [3, 2, 1, 0]);
  });
});
