import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { Draws, streams } from "../core/random.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "../program/compile.js";
import type { Program } from "../program/program.js";
import type { Features } from "./feature-views.js";
import { newClassifier, type NewClassifier } from "./new-classifier.js";

const features = 200;
const classes = 4;
const outputs = 6;
const perClass = 5;

/** Six directions, of which four tell the classes apart; in all others the features are noise, and a louder one. */
const directions = drawn(outputs * features, 1);

function drawn(count: number, seed: number): Float32Array {
  const draws = new Draws(seed, streams.draw, 0, 0);
  return Float32Array.from({ length: count }, () => draws.uniform(-1, 1));
}

function found(seed: number): Features {
  const rows = classes * perClass;
  const values = drawn(rows * features, seed);
  const labels = Int32Array.from({ length: rows }, (_, row) => row % classes);
  labels.forEach((label, row) => {
    for (let f = 0; f < features; f++) {
      const at = row * features + f;
      values[at] = 3 * (values[at] as number) + 0.9 * (directions[label * features + f] as number);
    }
  });
  return { features, values, labels, samples: Uint32Array.from(labels.keys()), plain: rows };
}

/** One whose classifier has biases, or none. */
function programOf(biased: boolean): Program {
  const network = shuffleNetV2({ variant: biased ? "torchvision" : "megvii", width: 0.5, classes });
  return compile(network, { batch: 1, imageSize: 32, mode: "infer" });
}

function solved(earlier?: Float32Array, biased = true): Promise<NewClassifier> {
  const pause = (): Promise<void> => Promise.resolve();
  return newClassifier(found(2), programOf(biased), { balanced: false, views: 1, earlier, pause });
}

/** Share of other pictures that are named right. */
function right({ weight, bias }: NewClassifier): number {
  const { values, labels } = found(3);
  const named = Array.from(labels, (_, row) => {
    const z = Array.from({ length: classes }, (_, k) => {
      let sum = bias[k] as number;
      for (let f = 0; f < features; f++)
        sum += (weight[k * features + f] as number) * (values[row * features + f] as number);
      return sum;
    });
    return z.indexOf(Math.max(...z));
  });
  return named.filter((k, row) => k === labels[row]).length / labels.length;
}

/** How much of a classifier's longest row the directions cannot make up, relative, by Gram and Schmidt. */
function outside({ weight }: NewClassifier): number {
  const basis: number[][] = [];
  const strip = (v: readonly number[]): readonly number[] =>
    basis.reduce<readonly number[]>((rest, b) => {
      const along = rest.reduce((sum, x, i) => sum + x * (b[i] as number), 0);
      return rest.map((x, i) => x - along * (b[i] as number));
    }, v);
  const rowsOf = (from: Float32Array): number[][] =>
    Array.from({ length: from.length / features }, (_, i) => [...from.subarray(i * features, (i + 1) * features)]); // prettier-ignore
  for (const direction of rowsOf(directions)) {
    const rest = strip(direction);
    const length = Math.hypot(...rest);
    basis.push(rest.map((x) => x / length));
  }
  return Math.max(...rowsOf(weight).map((row) => Math.hypot(...strip(row)) / Math.hypot(...row)));
}

suite("a classifier solved where there was another", () => {
  for (const biased of [true, false]) {
    test(`is made of its directions where pictures held out say so, ${biased ? "with" : "without"} biases`, async () => {
      const [after, alone] = [await solved(directions, biased), await solved(undefined, biased)];
      assert.deepEqual([after.says.space, alone.says.space], ["earlier_outputs", "features"]);
      assert.ok(right(after) >= 0.9 && right(after) > right(alone), `${right(after)} and ${right(alone)}`);
      assert.ok(after.bias.some((b) => b !== 0) === biased);
      // Rounding to f32 of each weight, of about the size of the row's mean.
      assert.ok(outside(after) < 1e-6 && outside(alone) > 0.1, `${outside(after)} and ${outside(alone)}`);
    });
  }

  test("is that of the features, to the bit, where its directions mean nothing here, or are too many to ask", async () => {
    const others = drawn(3 * features, 9);
    const alone = await solved();
    assert.deepEqual(await solved(others), alone);
    assert.deepEqual(await solved(new Float32Array(4e9 / (classes * perClass) + features)), alone);
  });
});
