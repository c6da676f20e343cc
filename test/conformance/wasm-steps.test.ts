/**
 * Every kernel of WebAssembly beside SSE2's, step by step, over the shapes that hurt: the same bits.
 *
 * native-steps.test.ts holds SSE2 to the reference. Both engines walk through the same step of training, so as long as they agree
 * each step is given the same numbers, and the first that differs is the one at fault. A walk of another batch goes before: what a
 * kernel forgets to write is then not what stands there already.
 */

// Needs the native engine.

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import type { Backend, BackendOptions, LossSettings } from "../../src/backends/backend.js";
import { stateArrays } from "../../src/backends/engine/engine.js";
import { nativeBackend } from "../../src/backends/native/index.js";
import { nodeWasmBackend } from "../../src/backends/wasm/node.js";
import { Draws, streams } from "../../src/core/random.js";
import { initialStatistics } from "../../src/models/initialise.js";
import { compile } from "../../src/program/compile.js";
import type { PlaneId, Program } from "../../src/program/program.js";
import {
  type AwkwardCase,
  awkwardCases,
  awkwardNetwork,
  awkwardParameters,
  frozenIn,
  nameOf,
  randomBatch,
} from "../support/awkward-steps.js";

/** What a run left, and what it is. */
type Left = readonly [name: string, values: Float32Array];

const loss: LossSettings = { labelSmoothing: 0.1, weightDecay: 1e-3 };
const update = { learningRate: 0.1, momentum: 0.9, weightDecay: 1e-3, averageDecay: 0.5, nesterov: true };
const wasm = nodeWasmBackend();
const sse2 = { isa: "sse2", threads: 2 };
const skip = process.arch !== "x64" && "SSE2 is of x86-64";

suite("kernels in WebAssembly", { skip }, () => {
  for (const c of awkwardCases) {
    for (const through of [undefined, ...frozenIn(c)]) {
      const frozen = through === undefined ? "" : `, frozen through "${through}"`;
      test(`${nameOf(c)}${frozen}: every step gives the bits of SSE2`, async () => {
        const freeze = through === undefined ? undefined : { through };
        const sizes = { batch: c.batch, imageSize: c.image, mode: "train" } as const;
        const program = compile(awkwardNetwork(c), { ...sizes, freeze });
        const expected = await train(nativeBackend, program, sse2);
        for (const threads of [1, 2]) assertSame(await train(wasm, program, { threads }), expected);
      });
    }
    test(`${nameOf(c)}: inference of 1 and 3 pictures gives the bits of SSE2`, async () => {
      for (const batch of [1, 3]) {
        const expected = await infer(nativeBackend, c, batch, sse2);
        for (const threads of [1, 2]) assertSame(await infer(wasm, c, batch, { threads }), expected);
      }
    });
  }
});

/** What each step forward and backward writes; gradients of all weights; what the update makes of them. */
async function train(backend: Backend, program: Program, options: BackendOptions): Promise<Left[]> {
  const draws = new Draws(7, streams.initialise, program.batch, program.imageSize);
  const parameters = awkwardParameters(program, draws);
  const [other, batch] = [randomBatch(program, draws), randomBatch(program, draws)];
  const left: Left[] = [];
  const run = backend.train(program, options);
  try {
    await run.writeState({ parameters, statistics: initialStatistics(program), averages: parameters });
    await run.walk(other, loss, 1, () => undefined);
    await run.walk(batch, loss, 1, ({ step: index, direction }, { crossEntropy, decayLoss }) => {
      const step = program.steps[index] as Program["steps"][number];
      const isForward = direction === "forward";
      const planes = isForward ? outputsOf(step) : step.inputs.filter((p) => hasGradient(program, p));
      const view = isForward ? "value" : "gradient";
      const values = planes.length > 0 ? run.planes(planes, view) : run.logits();
      const what = planes.length === 0 ? "logits" : isForward ? "planes" : "gradients of its inputs";
      left.push([`${step.name} ${direction}: ${what}`, values]);
      left.push([`${step.name} ${direction}: the loss`, Float32Array.of(crossEntropy, decayLoss)]);
    });
    const { gradients } = await run.readState();
    for (const { name, offset, size } of program.parameters) {
      if (offset < program.trainedCount)
        left.push([`the gradient of ${name}`, gradients.slice(offset, offset + size)]);
    }
    await run.step(batch, loss, update);
    const state = await run.readState();
    for (const name of stateArrays) left.push([`${name} after an update`, state[name].slice()]);
    return left;
  } finally {
    run.close();
  }
}

async function infer(
  backend: Backend,
  c: AwkwardCase,
  batch: number,
  options: BackendOptions,
): Promise<Left[]> {
  const program = compile(awkwardNetwork(c), { batch, imageSize: c.image, mode: "infer" });
  const draws = new Draws(8, streams.initialise, batch, c.image);
  const parameters = awkwardParameters(program, draws);
  const statistics = Float32Array.from({ length: 2 * program.planes.length }, () => draws.uniform(0.5, 1.5));
  const run = backend.infer(program, options);
  try {
    await run.load({ parameters, statistics });
    return [[`logits of ${batch}`, await run.infer(randomBatch(program, draws).images, batch)]];
  } finally {
    run.close();
  }
}

function outputsOf({ first, count }: Program["steps"][number]): PlaneId[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

function hasGradient(program: Program, plane: PlaneId): boolean {
  return (program.memory.gradient[plane] as number) >= 0;
}

function assertSame(actual: readonly Left[], expected: readonly Left[]): void {
  assert.equal(actual.length, expected.length);
  for (const [i, [name, values]] of actual.entries()) {
    const truth = expected[i]?.[1] ?? new Float32Array();
    assert.ok(values.length > 0 && values.every(Number.isFinite), name);
    const at = values.findIndex((value, k) => !Object.is(value, truth[k]));
    assert.equal(at, -1, `${name}: element ${at} is ${values[at]}, with SSE2 ${truth[at]}`);
    assert.equal(values.length, truth.length, name);
  }
}
