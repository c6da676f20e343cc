import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { fillTensors } from "../../test/support/fill-tensors.js";
import { CheckpointError } from "../core/error.js";
import type { ParameterEntry, ParameterTable } from "./initialise.js";
import { exportWeights, schemes, tensorsOf, type Scheme } from "./tensor-names.js";

/** A convolution of 2 inputs and 3 outputs, a depthwise one over 3 planes, a classifier of 2 classes. */
const entries: ParameterEntry[] = [
  { name: "stage2.unit1.main.before.weight", role: "convolution", shape: [3, 2, 1, 1], offset: 0, size: 6 },
  { name: "stage2.unit1.main.before.gamma", role: "gamma", shape: [3], offset: 41, size: 3, plane: 0 },
  { name: "stage2.unit1.main.before.beta", role: "beta", shape: [3], offset: 47, size: 3, plane: 0 },
  { name: "stage3.unit2.side.depthwise.weight", role: "depthwise", shape: [3, 1, 3, 3], offset: 6, size: 27 },
  { name: "stage3.unit2.side.depthwise.gamma", role: "gamma", shape: [3], offset: 44, size: 3, plane: 3 },
  { name: "stage3.unit2.side.depthwise.beta", role: "beta", shape: [3], offset: 50, size: 3, plane: 3 },
  { name: "classifier.weight", role: "linear", shape: [2, 3], offset: 33, size: 6 },
  { name: "classifier.bias", role: "bias", shape: [2], offset: 39, size: 2 },
];
const table: ParameterTable = { parameters: entries, parameterCount: 53, planes: { length: 6 } };
/** Every element holds its own position, statistics 100 more. */
const weights = {
  parameters: Float32Array.from({ length: 53 }, (_, i) => i),
  statistics: Float32Array.from({ length: 12 }, (_, i) => 100 + i),
};

suite("names", () => {
  const named = (scheme: Scheme): string[] => tensorsOf(table, scheme).map(({ name }) => name);

  test("canonical ones are our own, moving statistics behind each beta", () => {
    assert.deepEqual(named("canonical").slice(0, 5), [
      "stage2.unit1.main.before.weight",
      "stage2.unit1.main.before.gamma",
      "stage2.unit1.main.before.beta",
      "stage2.unit1.main.before.moving_mean",
      "stage2.unit1.main.before.moving_variance",
    ]);
  });

  test("tensorflow's are the lineage's variables", () => {
    assert.deepEqual(
      [0, 2, 5, 6, 10, 11].map((i) => named("tensorflow")[i]),
      [
        "ShuffleNetV2/Stage2/unit_1/conv1x1_before/weights",
        "ShuffleNetV2/Stage2/unit_1/conv1x1_before/batch_norm/beta",
        "ShuffleNetV2/Stage3/unit_2/second_branch/depthwise/depthwise_weights",
        "ShuffleNetV2/Stage3/unit_2/second_branch/depthwise/batch_norm/gamma",
        "classifier/weights",
        "classifier/biases",
      ],
    );
  });

  test("torchvision's are its state_dict's keys", () => {
    assert.deepEqual(
      [0, 1, 3, 5, 9, 11].map((i) => named("torchvision")[i]),
      [
        "stage2.0.branch2.0.weight",
        "stage2.0.branch2.1.weight",
        "stage2.0.branch2.1.running_mean",
        "stage3.1.branch1.0.weight",
        "stage3.1.branch1.1.running_var",
        "fc.bias",
      ],
    );
  });

  test("megvii numbers its units through", () => {
    assert.deepEqual(
      [0, 5, 10].map((i) => named("megvii")[i]),
      ["features.0.branch_main.0.weight", "features.5.branch_proj.0.weight", "classifier.0.weight"],
    );
  });
});

suite("layouts", () => {
  const exported = exportWeights(table, "tensorflow", weights);

  test("a convolution becomes [kh, kw, in, out]", () => {
    const tensor = exported.get("ShuffleNetV2/Stage2/unit_1/conv1x1_before/weights");
    assert.deepEqual(tensor?.shape, [1, 1, 2, 3]);
    assert.deepEqual([...(tensor?.data ?? [])], [0, 2, 4, 1, 3, 5]);
  });

  test("a depthwise one becomes [3, 3, c, 1]", () => {
    const tensor = exported.get("ShuffleNetV2/Stage3/unit_2/second_branch/depthwise/depthwise_weights");
    assert.deepEqual(tensor?.shape, [3, 3, 3, 1]);
    assert.deepEqual([...(tensor?.data ?? [])].slice(0, 4), [6, 15, 24, 7]);
  });

  test("a classifier becomes [features, classes]", () => {
    assert.deepEqual([...(exported.get("classifier/weights")?.data ?? [])], [33, 36, 34, 37, 35, 38]);
  });

  test("moving statistics come from the second plane's place", () => {
    const mean = exported.get("ShuffleNetV2/Stage3/unit_2/second_branch/depthwise/batch_norm/moving_mean");
    assert.deepEqual([...(mean?.data ?? [])], [103, 104, 105]);
    const variance = exported.get(
      "ShuffleNetV2/Stage3/unit_2/second_branch/depthwise/batch_norm/moving_variance",
    );
    assert.deepEqual([...(variance?.data ?? [])], [109, 110, 111]);
  });
});

suite("fillTensor", () => {
  for (const scheme of schemes) {
    test(`brings back what exportWeights gave (${scheme})`, () => {
      const exported = exportWeights(table, scheme, weights);
      const back = { parameters: new Float32Array(53).fill(NaN), statistics: new Float32Array(12).fill(NaN) };
      fillTensors(table, scheme, (name) => exported.get(name), back);
      assert.deepEqual(back, weights);
    });
  }

  test("finds tensors by name when they lay in another order when they were written", () => {
    let end = 53;
    const reversed = entries.map((entry) => ({ ...entry, offset: (end -= entry.size) }));
    const exported = exportWeights(table, "canonical", weights);
    const moved = { parameters: new Float32Array(53).fill(NaN), statistics: new Float32Array(12) };
    fillTensors({ ...table, parameters: reversed }, "canonical", (name) => exported.get(name), moved);
    for (const [i, { offset, size }] of reversed.entries()) {
      const before = entries[i]?.offset ?? NaN;
      const original = weights.parameters.subarray(before, before + size);
      assert.deepEqual(moved.parameters.subarray(offset, offset + size), original);
    }
  });

  test("names the tensor of another shape, with both shapes", () => {
    const exported = exportWeights(table, "tensorflow", weights);
    exported.set("classifier/weights", { shape: [3, 5], data: new Float32Array(15) });
    assert.throws(
      () => fillTensors(table, "tensorflow", (name) => exported.get(name), weights),
      (error: unknown) => {
        assert.ok(error instanceof CheckpointError);
        assert.match(error.message, /classifier\/weights.*\[3, 2\].*\[3, 5\]/);
        return true;
      },
    );
  });
});
