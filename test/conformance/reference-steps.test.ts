/** Single rules beside TensorFlow's traces: SAME windows, batch norm, momentum and averages. */

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { normaliseByBatch } from "../../src/backends/reference/batch-norm.js";
import { forEachTap } from "../../src/backends/reference/depthwise-passes.js";
import { createMachine } from "../../src/backends/reference/planes.js";
import { referenceBackend } from "../../src/backends/reference/reference.js";
import { stemForward } from "../../src/backends/reference/stem-passes.js";
import { batchStatistics, updateRange, updateStatistics } from "../../src/backends/reference/update.js";
import { normalised } from "../../src/models/layers.js";
import { variants } from "../../src/models/variants.js";
import { compile } from "../../src/program/compile.js";
import { windowGeometry } from "../../src/program/window.js";
import { assertClose } from "../support/compare.js";
import { needs } from "../support/shared.js";
import { emptyState, readArrays, type Arrays } from "../support/tf-reference.js";
import { tinyNetwork } from "../support/tiny-network.js";
import { trainOn } from "../support/run.js";

const CLASSES = 2;
const CHANNELS = 4;
/** f32 sums of up to 36 products. */
const SUMS = { ofScale: 36 * 1.2e-7 };

suite("windows of 3x3 beside TensorFlow's SAME", needs("tf-reference", "ops.npz"), () => {
  for (const size of [6, 7]) {
    test(`a convolution of stride 2 over ${size} pixels`, async () => {
      const ops = await readArrays("ops.npz");
      const geometry = windowGeometry(size, 2, "same");
      const w = ops.numbers(`same${size}_w`).data;
      const outputs = 5;
      const z = new Float64Array(geometry.outputHeight * geometry.outputWidth * outputs);
      const x = ops.numbers(`same${size}_x`).data;
      forEachTap(geometry, 1, (tap, out, at) => {
        for (let o = 0; o < outputs; o++) {
          for (let i = 0; i < CHANNELS; i++) {
            const product =
              (w[(tap * CHANNELS + i) * outputs + o] as number) * (x[at * CHANNELS + i] as number);
            z[out * outputs + o] = (z[out * outputs + o] as number) + product;
          }
        }
      });
      assertClose("z", z, ops.numbers(`same${size}_conv_s2`).data, SUMS);
    });

    test(`max pooling of stride 2 over ${size} pixels`, async () => {
      const ops = await readArrays("ops.npz");
      const geometry = windowGeometry(size, 2, "same");
      const x = ops.numbers(`same${size}_x`).data;
      const pooled = new Float64Array(geometry.outputHeight * geometry.outputWidth * CHANNELS).fill(
        -Infinity,
      );
      forEachTap(geometry, 1, (_, out, at) => {
        for (let c = 0; c < CHANNELS; c++) {
          pooled[out * CHANNELS + c] = Math.max(
            pooled[out * CHANNELS + c] as number,
            x[at * CHANNELS + c] as number,
          );
        }
      });
      assertClose("pooled", pooled, ops.numbers(`same${size}_maxpool_s2`).data, { ofScale: 0 });
    });

    for (const stride of [1, 2] as const) {
      test(`the depthwise step of stride ${stride} over ${size} pixels`, async () => {
        const ops = await readArrays("ops.npz");
        await checkDepthwise(ops, size, stride);
      });
    }
  }
});

test(
  "batch norm gives TensorFlow's output and moving statistics",
  needs("tf-reference", "ops.npz"),
  async () => {
    const ops = await readArrays("ops.npz");
    const channels = 6;
    const network = { ...tiny(channels), batchNorm: variants.tensorflow.batchNorm };
    const program = compile(network, { batch: 2, imageSize: 24, mode: "train" });
    const x = planesOf(ops.numbers("bn_x").data, channels);
    const count = x[0]?.length ?? 0;
    // The stored batch is 3 images of 4 x 5 pixels; only its number of values matters here.
    const machine = { ...createMachine(program), counts: () => count };
    const state = emptyState(program);
    for (const { gamma } of program.planes) state.parameters[gamma] = 1;
    state.statistics.fill(1, program.planes.length);
    x.forEach((z, plane) => normaliseByBatch(machine, plane, z, state));
    updateStatistics(machine, state.statistics, batchStatistics(machine));
    const { scale, shift } = machine.tables;
    planesOf(ops.numbers("bn_y").data, channels).forEach((y, plane) => {
      const actual = x[plane]?.map((z) => (scale[plane] as number) * z + (shift[plane] as number));
      assertClose(`y of channel ${plane}`, actual ?? [], y, { ofScale: 1e-6 });
    });
    const planes = program.planes.length;
    const moving = (from: number) => state.statistics.slice(from, from + channels);
    assertClose("moving mean", moving(0), ops.numbers("bn_moving_mean").data, { ofScale: 1e-6 });
    assertClose("moving variance", moving(planes), ops.numbers("bn_moving_variance").data, { ofScale: 1e-6 });
  },
);

test("20 Nesterov steps follow TensorFlow's trace", needs("tf-reference", "momentum.npz"), async () => {
  const trace = await readArrays("momentum.npz");
  const w0 = Float32Array.from(trace.numbers("w0").data);
  const row = (name: string, step: number): number[] =>
    Array.from(trace.numbers(name).data).slice(step * w0.length, (step + 1) * w0.length);
  const state = {
    parameters: w0.slice(),
    momentum: new Float32Array(w0.length),
    averages: w0.slice(),
    gradients: new Float32Array(w0.length),
  };
  for (let step = 0; step < 20; step++) {
    state.gradients.set(row("gradients", step));
    updateRange(
      state,
      { from: 0, to: w0.length },
      {
        learningRate: trace.numbers("learning_rates").data[step] as number,
        momentum: 0.9,
        nesterov: true,
        weightDecay: 0,
        averageDecay: Math.min(0.995, (2 + step) / (11 + step)),
      },
    );
    assertClose(`weights after step ${step}`, state.parameters, row("w", step), { ofScale: 1e-6 });
    assertClose(`momentum after step ${step}`, state.momentum, row("accumulator", step), { ofScale: 1e-6 });
    assertClose(`averages after step ${step}`, state.averages, row("ema", step), { ofScale: 1e-6 });
  }
});

suite("the stem's winners", () => {
  // An 8x8 image convolves to 4x4 and pools to 2x2; padding is after only, so the first window covers
  // positions 0 1 2, 4 5 6, 8 9 10 of the convolution's output.
  const program = compile(tiny(1), { batch: 1, imageSize: 8, mode: "train" });
  const [step] = program.steps;
  /** Winners of the image whose red channel is given, under a filter that picks each window's first red pixel. */
  const winnersOf = (red: (row: number, column: number) => number, gamma: number): number[] => {
    if (step?.kind !== "stem") throw new Error("no stem");
    const state = emptyState(program);
    // tinyNetwork reads image channel 0 as the network's channel 1.
    state.parameters[step.weights + 9] = 1;
    state.parameters[program.planes[0]?.gamma ?? -1] = gamma;
    const image = Uint8Array.from({ length: 8 * 8 * 3 }, (_, i) => {
      const pixel = Math.floor(i / 3);
      return i % 3 === 0 ? red(Math.floor(pixel / 8), pixel % 8) : 0;
    });
    const { winners } = stemForward(createMachine(program), step, image, state);
    return [...(winners[0] ?? [])];
  };

  test("are the first in row-major order when all are equal", () => {
    assert.deepEqual(
      winnersOf(() => 100, 1),
      [0, 2, 8, 10],
    );
  });

  test("are the largest z when the scale is positive", () => {
    assert.equal(winnersOf((row, column) => (row === 2 && column === 4 ? 200 : 100), 1)[0], 6);
  });

  test("are the smallest z when the scale is negative", () => {
    assert.equal(winnersOf((row, column) => (row === 2 && column === 4 ? 20 : 100), -1)[0], 6);
  });
});

/** Runs one depthwise step on planes that hold the stored input, unnormalised. */
async function checkDepthwise(ops: Arrays, size: number, stride: 1 | 2): Promise<void> {
  const network = tinyNetwork({ padding: "same", classes: CLASSES, stem: CHANNELS }, (net) => {
    net.depthwise("plain", "pool1", 1, false);
    net.depthwise("tested", normalised("plain"), stride, false);
  });
  const program = compile(network, { batch: 1, imageSize: 4 * size, mode: "train" });
  const index = program.steps.findIndex((step) => step.name === "tested");
  const step = program.steps[index];
  if (step?.kind !== "depthwise") throw new Error("no depthwise step to test");
  const state = emptyState(program);
  const w = ops.numbers(`same${size}_dw`).data;
  for (let c = 0; c < CHANNELS; c++) {
    for (let tap = 0; tap < 9; tap++)
      state.parameters[step.weights + 9 * c + tap] = w[tap * CHANNELS + c] as number;
  }
  const { inspect } = trainOn(referenceBackend, program, state, { threads: 1 });
  inspect.writeTable("scale", new Float64Array(program.planes.length).fill(1));
  inspect.writeTable("shift", new Float64Array(program.planes.length));
  planesOf(ops.numbers(`same${size}_x`).data, CHANNELS).forEach((plane, c) => {
    inspect.writePlane(step.inputs[c] as number, "value", plane);
  });
  await inspect.runStep(index, "forward");
  planesOf(ops.numbers(`same${size}_depthwise_s${stride}`).data, CHANNELS).forEach((expected, c) => {
    assertClose(`channel ${c}`, inspect.readPlane(step.first + c, "value"), expected, SUMS);
  });
}

/** A network whose first planes are as many as asked for. */
function tiny(stem: number) {
  return tinyNetwork({ padding: "same", classes: CLASSES, stem }, (net) => net.pointwise("only", "pool1", 2));
}

/** Channels of an NHWC array, each [images, height, width]. */
function planesOf(nhwc: ArrayLike<number>, channels: number): Float64Array[] {
  return Array.from({ length: channels }, (_, c) =>
    Float64Array.from({ length: nhwc.length / channels }, (_, i) => nhwc[i * channels + c] as number),
  );
}
