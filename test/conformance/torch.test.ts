/**
 * One training step of the `torchvision` variant against PyTorch 2.13: logits, loss, every gradient, moving
 * statistics, momentum and weights after a Nesterov step, and logits of evaluation before and after it.
 *
 * README.md says how the numbers were made and why these tolerances mean something.
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";

import type { Backend, TrainingArrays, Weights } from "../../src/backends/backend.js";
import { referenceBackend } from "../../src/backends/reference/reference.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import type { Width } from "../../src/models/variants.js";
import { takeTensor, tensorsOf, type WeightTensor } from "../../src/models/tensor-names.js";
import { compile } from "../../src/program/compile.js";
import type { Program } from "../../src/program/program.js";
import { fastBackend } from "../support/fast-backend.js";
import { assertClose } from "../support/compare.js";
import { batchByRule, momentumByRule, tensorByRule, uniform } from "../support/rule.js";
import { storedPath } from "../support/shared.js";
import { trainOn } from "../support/run.js";

/** What a named tensor of the file says about PyTorch's float64 result. */
interface TensorSummary {
  readonly name: string;
  readonly norm: number;
  /** Dot product with uniform("projection:" + name). */
  readonly projection: number;
  /** Little-endian f32 in base64: all values, or every floor(size / 64)-th of more than 128. */
  readonly thinned: string;
}

interface Golden {
  readonly width: Width;
  readonly imageSize: number;
  readonly batch: number;
  readonly classes: number;
  readonly seed: number;
  readonly labelSmoothing: number;
  readonly update: { readonly learningRate: number; readonly momentum: number; readonly weightDecay: number };
  readonly crossEntropy: number;
  readonly logits: readonly number[];
  readonly evaluationLogits: readonly number[];
  readonly evaluationLogitsAfter: readonly number[];
  readonly gradients: readonly TensorSummary[];
  readonly weights: readonly TensorSummary[];
  readonly momentum: readonly TensorSummary[];
  readonly statistics: readonly TensorSummary[];
}

/** Largest error allowed, as a share of an array's scale or a tensor's norm. */
interface Precision {
  readonly backend: Backend;
  readonly share: number;
  /** For the 19 gradients that are zero in exact arithmetic: a constant added before batch norm changes nothing. */
  readonly ofZero: number;
}

const backends: readonly Precision[] = [
  // f64 inside; gradients, weights and the stored values are f32: two roundings of 6e-8, and room for sums.
  { backend: referenceBackend, share: 3e-7, ofZero: 1e-12 },
  // As near as PyTorch's own float32 comes to its float64; 2.1e-7 at the zeros (README.md, "Sharpness").
  { backend: fastBackend, share: 2.2e-5, ofZero: 5e-7 },
];

const files = ["torch-0.5x-64", "torch-0.5x-75", "torch-1.0x-64", "torch-1.0x-75"];

test("the golden files are those that README.md describes", () => {
  const readme = readFileSync(storedPath("golden", "README.md"), "utf8");
  for (const file of [...files, "torch-groups-0.5x-64"]) {
    const bytes = readFileSync(storedPath("golden", `${file}.json`));
    const hash = createHash("sha256").update(bytes).digest("hex");
    assert.ok(readme.includes(`| ${hash} | ${file}.json |`), `${file}.json has sha256 ${hash}`);
  }
});

for (const file of files) {
  const golden = JSON.parse(readFileSync(storedPath("golden", `${file}.json`), "utf8")) as Golden;
  for (const precision of backends) {
    suite(`${file}, ${precision.backend.name} backend`, () => {
      compareStep(golden, precision);
    });
  }
}

/** Of torch-0.5x-64's step, with PyTorch's two groups of parameters. */
const groups = JSON.parse(readFileSync(storedPath("golden", "torch-groups-0.5x-64.json"), "utf8")) as {
  readonly classifierRate: number;
  readonly weights: readonly TensorSummary[];
};

for (const { backend, share, ofZero } of backends) {
  test(`a classifier with a rate of its own moves as in a group of PyTorch's SGD (${backend.name} backend)`, async () => {
    const golden = JSON.parse(readFileSync(storedPath("golden", "torch-0.5x-64.json"), "utf8")) as Golden;
    const { batch, imageSize, classes, seed, labelSmoothing } = golden;
    const network = shuffleNetV2({ variant: "torchvision", width: golden.width, classes });
    const { classifierRate } = groups;
    const program = compile(network, { batch, imageSize, mode: "train", classifierRate });
    const tensors = new Map(tensorsOf(program, "torchvision").map((tensor) => [tensor.name, tensor]));
    const state = stateByRule(program, [...tensors.values()], seed);
    const run = trainOn(backend, program, state, { threads: 0 });
    const loss = { labelSmoothing, weightDecay: golden.update.weightDecay };
    const update = { ...golden.update, nesterov: true, averageDecay: 0 };
    await run.step(batchByRule(batch, imageSize, classes, seed), loss, update);
    run.close();
    for (const summary of groups.weights) {
      const tensor = tensors.get(summary.name);
      assert.ok(tensor, summary.name);
      const actual = takeTensor(tensor, state.parameters);
      compareTensor(`weights of ${summary.name}`, actual, summary, seed, share, ofZero);
    }
  });
}

function compareStep(golden: Golden, { backend, share, ofZero }: Precision): void {
  const { batch, imageSize, classes, seed, labelSmoothing } = golden;
  const network = shuffleNetV2({ variant: "torchvision", width: golden.width, classes });
  const program = compile(network, { batch, imageSize, mode: "train" });
  const tensors = new Map(tensorsOf(program, "torchvision").map((tensor) => [tensor.name, tensor]));
  const state = stateByRule(program, [...tensors.values()], seed);
  const { images, labels } = batchByRule(batch, imageSize, classes, seed);
  const run = trainOn(backend, program, state, { threads: 0 });
  const close = (what: string, actual: ArrayLike<number>, expected: readonly number[]): void => {
    assertClose(what, actual, expected, { ofScale: share });
  };
  const evaluate = async (): Promise<Float32Array> => {
    const inference = backend.infer(compile(network, { batch, imageSize, mode: "infer" }), { threads: 0 });
    await inference.load(state);
    const logits = await inference.infer(images, batch);
    inference.close();
    return logits;
  };

  test("evaluation of the starting weights gives PyTorch's logits", async () => {
    close("logits", await evaluate(), golden.evaluationLogits);
  });

  test("a training step gives PyTorch's loss and logits", async () => {
    const loss = { labelSmoothing, weightDecay: golden.update.weightDecay };
    const update = { ...golden.update, nesterov: true, averageDecay: 0 };
    const result = await run.step({ images, labels }, loss, update);
    assert.ok(result.finite);
    close("cross-entropy", [result.crossEntropy], [golden.crossEntropy]);
    close("logits", run.logits(), golden.logits);
  });

  for (const [what, array] of [
    ["gradients", state.gradients],
    ["weights", state.parameters],
    ["momentum", state.momentum],
    ["statistics", state.statistics],
  ] as const) {
    test(`${what} are PyTorch's, every tensor`, () => {
      const summaries = golden[what];
      const kind = what === "statistics" ? "statistics" : "parameters";
      assert.equal(summaries.length, [...tensors.values()].filter((tensor) => tensor.array === kind).length);
      for (const summary of summaries) {
        const tensor = tensors.get(summary.name);
        assert.ok(tensor, `no tensor is called ${summary.name}`);
        const actual = takeTensor(tensor, array);
        compareTensor(`${what} of ${summary.name}`, actual, summary, seed, share, ofZero);
      }
    });
  }

  test("evaluation after the step gives PyTorch's logits", async () => {
    close("logits", await evaluate(), golden.evaluationLogitsAfter);
    run.close();
  });
}

function stateByRule(program: Program, tensors: readonly WeightTensor[], seed: number): TrainingArrays {
  const parameters = (): Float32Array => new Float32Array(program.parameterCount);
  const weights: Weights = {
    parameters: parameters(),
    statistics: new Float32Array(2 * program.planes.length),
  };
  const momentum = parameters();
  for (const tensor of tensors) {
    weights[tensor.array].set(tensorByRule(tensor.name, tensor.shape, seed), tensor.offset);
    if (tensor.array === "parameters") {
      momentum.set(momentumByRule(tensor.name, tensor.size, seed), tensor.offset);
    }
  }
  return { ...weights, momentum, averages: parameters(), gradients: parameters() };
}

function compareTensor(
  what: string,
  actual: Float32Array,
  expected: TensorSummary,
  seed: number,
  share: number,
  ofZero: number,
): void {
  const absolute = share * expected.norm + ofZero;
  const direction = uniform(`projection:${expected.name}`, actual.length, seed);
  const projection = actual.reduce((sum, x, i) => sum + x * (direction[i] as number), 0);
  const norm = Math.sqrt(actual.reduce((sum, x) => sum + x * x, 0));
  assertClose(`norm of the ${what}`, [norm], [expected.norm], { ofScale: 0, absolute });
  assertClose(`projection of the ${what}`, [projection], [expected.projection], { ofScale: 0, absolute });
  const stride = actual.length <= 128 ? 1 : Math.floor(actual.length / 64);
  const bytes = Buffer.from(expected.thinned, "base64");
  const values = Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
  const thinned = actual.filter((_, i) => i % stride === 0);
  assertClose(`every ${stride}th of the ${what}`, thinned, values, { ofScale: share, absolute: ofZero });
}
