import assert from "node:assert/strict";
import { suite, test } from "node:test";

import {
  initialise,
  initialStatistics,
  type InitialisationVersion,
  type ParameterEntry,
  type ParameterTable,
} from "./initialise.js";

/** conv1 [24, 3, 3, 3], a pointwise [64, 32, 1, 1], a depthwise [32, 1, 3, 3], a classifier [10, 400] and its bias. */
const entries: ParameterEntry[] = [];
let end = 0;
const add = (name: string, role: ParameterEntry["role"], shape: number[], plane?: number): void => {
  const size = shape.reduce((a, b) => a * b, 1);
  entries.push({ name, role, shape, offset: end, size, ...(plane === undefined ? {} : { plane }) });
  end += size;
};
add("conv1.weight", "convolution", [24, 3, 3, 3]);
add("a.weight", "convolution", [64, 32, 1, 1]);
add("b.weight", "depthwise", [32, 1, 3, 3]);
add("classifier.weight", "linear", [10, 400]);
add("classifier.bias", "bias", [10]);
add("a.gamma", "gamma", [64], 0);
add("a.beta", "beta", [64], 0);
const table: ParameterTable = {
  parameters: entries,
  parameterCount: end,
  planes: { length: 64 },
};

function draw(name: string, version: InitialisationVersion, seed = 7): Float32Array {
  const entry = entries.find((candidate) => candidate.name === name);
  assert.ok(entry);
  return initialise(table, { version, seed }).slice(entry.offset, entry.offset + entry.size);
}

suite("initialise", () => {
  // Limits worked out by hand; a depthwise tensor of c channels has TensorFlow fans 9c and 9.
  const limits: [string, InitialisationVersion, number][] = [
    ["conv1.weight", "xavier_uniform", Math.sqrt(6 / (27 + 216))],
    ["a.weight", "xavier_uniform", Math.sqrt(6 / 96)],
    ["b.weight", "xavier_uniform", Math.sqrt(6 / (288 + 9))],
    ["classifier.weight", "xavier_uniform", Math.sqrt(6 / 410)],
    ["a.weight", "he_uniform", Math.sqrt(6 / 32)],
    ["b.weight", "he_uniform", Math.sqrt(6 / 288)],
    ["b.weight", "torch", 1 / 3],
    ["a.weight", "torch", Math.sqrt(1 / 32)],
    ["classifier.bias", "torch", 1 / 20],
  ];
  for (const [name, version, limit] of limits) {
    test(`${version} fills ${name} up to ${limit.toFixed(4)} and not beyond`, () => {
      const largest = draw(name, version).reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      assert.ok(largest <= limit, `${largest} exceeds ${limit}`);
      // Of n uniform draws the largest falls short of 80 % of the limit once in 0.8^-n times: n >= 10.
      assert.ok(largest > 0.6 * limit, `${largest} is far below ${limit}`);
    });
  }

  const deviations: [string, InitialisationVersion, number][] = [
    ["a.weight", "he_normal", Math.sqrt(2 / 32)],
    ["classifier.weight", "xavier_normal", Math.sqrt(2 / 410)],
    ["conv1.weight", "megvii", 0.01],
    ["a.weight", "megvii", 1 / 32],
    ["classifier.weight", "megvii", 0.01],
  ];
  for (const [name, version, deviation] of deviations) {
    test(`${version} gives ${name} a deviation of ${deviation.toFixed(4)}`, () => {
      const values = draw(name, version);
      const measured = Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length);
      // The measured deviation itself deviates by 1 / sqrt(2n); four times that.
      const slack = 4 / Math.sqrt(2 * values.length);
      assert.ok(Math.abs(measured / deviation - 1) < slack, `${measured} against ${deviation}`);
    });
  }

  test("gamma is 1 and beta 0, megvii's beta 0.0001", () => {
    assert.ok(draw("a.gamma", "he_uniform").every((v) => v === 1));
    assert.ok(draw("a.beta", "he_uniform").every((v) => v === 0));
    assert.ok(draw("a.beta", "megvii").every((v) => v === Math.fround(1e-4)));
  });

  test("the same seed gives the same numbers, another seed others", () => {
    assert.deepEqual(draw("a.weight", "torch", 1), draw("a.weight", "torch", 1));
    assert.notDeepEqual(draw("a.weight", "torch", 1), draw("a.weight", "torch", 2));
  });

  test("tensors do not repeat each other", () => {
    assert.notEqual(draw("conv1.weight", "torch")[0], draw("a.weight", "torch")[0]);
  });
});

test("moving statistics start at mean 0 and variance 1", () => {
  const statistics = initialStatistics(table);
  assert.equal(statistics.length, 128);
  assert.ok(statistics.subarray(0, 64).every((v) => v === 0));
  assert.ok(statistics.subarray(64).every((v) => v === 1));
});
