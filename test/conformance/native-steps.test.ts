/**
 * Every kernel of the native engine beside its plain f64 twin, step by step, over shapes that hurt, on every
 * instruction set this machine runs (and "wide", the AVX-512 shapes on narrower hardware).
 *
 * Both backends are given the same f32 numbers before each step, so a difference is this step's own. Outputs
 * hold NaN beforehand: what a kernel forgets to write is seen.
 */

// Needs the native engine.

import assert from "node:assert/strict";
import { after, suite, test } from "node:test";

import type { BackendOptions, LossSettings, TrainingArrays } from "../../src/backends/backend.js";
import { engine } from "../../src/backends/native/engine.js";
import { nativeBackend } from "../../src/backends/native/index.js";
import { referenceBackend } from "../../src/backends/reference/reference.js";
import { Draws, streams } from "../../src/core/random.js";
import { compile } from "../../src/program/compile.js";
import type { Program, Step, Storage } from "../../src/program/program.js";
import {
  awkwardCases,
  type AwkwardCase,
  awkwardNetwork,
  awkwardParameters,
  frozenIn,
  nameOf,
  randomBatch,
} from "../support/awkward-steps.js";
import { assertClose } from "../support/compare.js";
import { stateInDoubles } from "../support/tiny-network.js";
import { type MirroredRun, tables, trainOn } from "../support/run.js";

const loss: LossSettings = { labelSmoothing: 0.1, weightDecay: 1e-3 };
const EPSILON = 2 ** -23;
/** Of planes in bf16: where f32 and f64 round to different sides, the numbers are one place apart, half of it each way. */
const PLACE: { readonly [S in Storage]: number } = { f32: 0, bf16: 2 ** -7 };

const unset = process.env["RIFFLE_ISA"];
after(() => {
  if (unset === undefined) delete process.env["RIFFLE_ISA"];
  else process.env["RIFFLE_ISA"] = unset;
});

const { available } = nativeBackend.machine();
const sets = [...available, ...(available.includes("avx2") ? ["wide"] : [])];
const ways = sets.flatMap((isa) => [
  { isa, storage: "f32", products: undefined } as const,
  ...engine()
    .products(isa)
    .map((products) => ({ isa, storage: "bf16", products }) as const),
]);
for (const [i, { isa, storage, products }] of ways.entries()) {
  // What is frozen decides which kernels run, not how: seen on the narrowest set, and on the last with what it multiplies.
  const isEnd = i === 0 || i === ways.length - 1;
  const how = { storage, products: products as BackendOptions["products"] };
  suite(`kernels on ${isa}, ${storage}${products === undefined ? "" : `, ${products}`}`, () => {
    for (const c of awkwardCases) {
      const name = nameOf(c);
      test(`${name}: every step gives what its f64 twin gives`, async () => {
        process.env["RIFFLE_ISA"] = isa;
        await compareSteps(c, how);
      });
      test(`${name}: inference of 1 and 3 pictures gives what the f64 twin gives`, async () => {
        process.env["RIFFLE_ISA"] = isa;
        for (const batch of [1, 3]) await compareInference(c, batch, how);
      });
      for (const through of isEnd ? frozenIn(c) : []) {
        test(`${name}, frozen through "${through}": every step gives what its f64 twin gives`, async () => {
          process.env["RIFFLE_ISA"] = isa;
          await compareSteps(c, how, through);
        });
      }
    }
  });
}

/** Inference cuts its work differently: few columns, rows of one block shared out. */
async function compareInference(c: AwkwardCase, batch: number, { storage, products }: How): Promise<void> {
  const program = compile(awkwardNetwork(c), { batch, imageSize: c.image, mode: "infer", storage });
  const draws = new Draws(8, streams.initialise, batch, c.image);
  const parameters = Float32Array.from({ length: program.parameterCount }, () => 0.4 * draws.normal());
  const statistics = Float32Array.from({ length: 2 * program.planes.length }, () => draws.uniform(0.5, 1.5));
  const { images } = randomBatch(program, draws);
  const reference = referenceBackend.infer(program, { threads: 1 });
  const native = nativeBackend.infer(program, { threads: 2, products });
  try {
    await reference.load({ parameters, statistics });
    await native.load({ parameters, statistics });
    const truth = await reference.infer(images, batch);
    // A whole network deep: flips of one place have spread.
    const ofScale = storage === "f32" ? 1e-5 : 4 * PLACE.bf16;
    assertClose("logits", await native.infer(images, batch), truth, { ofScale });
  } finally {
    native.close();
    reference.close();
  }
}

async function compareSteps(c: AwkwardCase, { storage, products }: How, through?: string): Promise<void> {
  const freeze = through === undefined ? undefined : { through };
  const program = compile(awkwardNetwork(c), {
    batch: c.batch,
    imageSize: c.image,
    mode: "train",
    freeze,
    storage,
  });
  const place = PLACE[storage];
  const draws = new Draws(7, streams.initialise, c.batch, c.image);
  const parameters = awkwardParameters(program, draws);
  const batch = randomBatch(program, draws);
  const exact = stateInDoubles(program, parameters);
  const state = stateInFloats(program, parameters);
  const reference = trainOn(referenceBackend, program, exact, { threads: 1 });
  const native = trainOn(nativeBackend, program, state, { threads: 2, products });
  try {
    const expected = await reference.computeGradients(batch, loss);
    const result = await native.computeGradients(batch, loss);
    assertClose(
      "losses",
      [result.crossEntropy, result.decayLoss],
      [expected.crossEntropy, expected.decayLoss],
      {
        ofScale: 1e-3 + 4 * place, // the whole chain's: ReLUs near zero may fall on either side
      },
    );
    for (const [index, step] of program.steps.entries()) await compareForward(index, step);
    for (const [index, step] of [...program.steps.entries()].reverse())
      if (step.trains) await compareBackward(index, step);
  } finally {
    native.close();
    reference.close();
  }

  async function compareForward(index: number, step: Step): Promise<void> {
    align(step, "forward", reference, native);
    const outputs = outputsOf(step);
    for (const p of outputs) native.inspect.writePlane(p, "value", nans(program, p));
    await reference.inspect.runStep(index, "forward");
    await native.inspect.runStep(index, "forward", batch.images);
    const tolerance = { ofScale: place + EPSILON * (16 + 4 * Math.sqrt(depthOf(step))) };
    for (const p of outputs) {
      const truth = reference.inspect.readPlane(p, "value");
      assertClose(`${step.name}: plane ${p}`, native.inspect.readPlane(p, "value"), truth, tolerance);
    }
    for (const table of ["mean", "variance", "scale", "shift"] as const) {
      const truth = reference.inspect.readTable(table);
      const actual = native.inspect.readTable(table);
      for (const p of outputs) {
        // A sum over all columns: its rounding is that of the block sums, relative to what was summed.
        const plane = reference.inspect.readPlane(p, "value");
        const square = (reference.inspect.readTable("mean")[p] ?? 0) ** 2;
        const variance = reference.inspect.readTable("variance")[p] ?? 0;
        const scale =
          table === "mean"
            ? maximum(plane)
            : table === "variance"
              ? variance + square // the mean of squares, which it is the small rest of
              : Math.abs(truth[p] ?? 0) + (table === "shift" ? 1 : 0);
        const cancelled = table === "variance" ? 1 : 1 + square / (variance + 1e-3);
        const allowed = (place + EPSILON * 64) * cancelled * (scale + 1e-6);
        const off = Math.abs((actual[p] ?? NaN) - (truth[p] ?? NaN));
        assert.ok(
          off <= allowed,
          `${step.name}: ${table} of plane ${p} is ${actual[p]}, expected ${truth[p]} +- ${allowed}`,
        );
      }
    }
    if (step.kind === "head") {
      // The head's runStep recomputes its logits; they were compared through the loss above.
      assert.ok(native.logits().every(Number.isFinite));
    }
  }

  async function compareBackward(index: number, step: Step): Promise<void> {
    align(step, "backward", reference, native);
    const inputs = step.inputs.filter((p) => (program.memory.gradient[p] as number) >= 0);
    step.inputs.forEach((p, i) => {
      if (inputs.includes(p) && !step.accumulates[i])
        native.inspect.writePlane(p, "gradient", nans(program, p));
    });
    state.gradients.fill(NaN);
    await reference.inspect.runStep(index, "backward");
    await native.inspect.runStep(index, "backward", batch.images);
    // The head's gradients begin at the logits, which each backend has from its own whole chain.
    const extra = place + (step.kind === "head" ? 1e-3 + 4 * place : 0);
    const tolerance = {
      ofScale: extra + EPSILON * (16 + 8 * Math.sqrt(outputsOf(step).length + 9)),
      absolute: 1e-9,
    };
    for (const p of inputs) {
      const truth = reference.inspect.readPlane(p, "gradient");
      assertClose(
        `${step.name}: gradient of plane ${p}`,
        native.inspect.readPlane(p, "gradient"),
        truth,
        tolerance,
      );
    }
    const sums = reference.inspect.readTable("gradientSum");
    const dots = reference.inspect.readTable("gradientDot");
    for (const p of inputs) {
      const g = reference.inspect.readPlane(p, "gradient");
      const z = reference.inspect.readPlane(p, "value");
      const allowed = (extra + EPSILON * 64) * g.reduce((sum, v) => sum + Math.abs(v), 0) + 1e-9;
      const sum = native.inspect.readTable("gradientSum")[p] ?? NaN;
      const dot = native.inspect.readTable("gradientDot")[p] ?? NaN;
      assert.ok(
        Math.abs(sum - (sums[p] ?? NaN)) <= allowed,
        `${step.name}: gradientSum of plane ${p}: ${sum}, expected ${sums[p]}`,
      );
      assert.ok(
        Math.abs(dot - (dots[p] ?? NaN)) <= allowed * (maximum(z) + 1),
        `${step.name}: gradientDot of plane ${p}: ${dot}, expected ${dots[p]}`,
      );
    }
    for (const parameter of program.parameters) {
      const actual = state.gradients.subarray(parameter.offset, parameter.offset + parameter.size);
      const truth = exact.gradients.subarray(parameter.offset, parameter.offset + parameter.size);
      if (!parameter.name.startsWith(`${step.name}.`)) continue;
      const columns = program.batch * Math.max(...program.planes.map((plane) => plane.height * plane.width));
      assertClose(`${parameter.name}`, actual, truth, {
        ofScale: extra + EPSILON * (32 + 4 * Math.sqrt(columns)),
        absolute: 1e-6 * maximum(truth) + 1e-7,
      });
    }
  }
}

interface How {
  readonly storage: Storage;
  readonly products: BackendOptions["products"];
}

function stateInFloats(program: Program, parameters: Float32Array): TrainingArrays {
  const flat = () => new Float32Array(program.parameterCount);
  const planes = program.planes.length;
  return {
    parameters: parameters.slice(),
    momentum: flat(),
    averages: parameters.slice(),
    gradients: flat(),
    statistics: new Float32Array(2 * planes).fill(1, planes),
  };
}

/**
 * Rounds what the step is about to read to f32 and puts it into both backends. Only that: gradients share memory
 * in the native arena when they are not needed at the same time.
 */
function align(
  step: Step,
  direction: "forward" | "backward",
  reference: MirroredRun,
  native: MirroredRun,
): void {
  const copy = (p: number, what: "value" | "gradient") => {
    const values = reference.inspect.readPlane(p, what).map(Math.fround);
    reference.inspect.writePlane(p, what, values);
    native.inspect.writePlane(p, what, values);
  };
  const inputs = step.kind === "stem" ? [] : step.inputs;
  for (const p of inputs) copy(p, "value");
  if (direction === "backward") {
    for (const p of outputsOf(step)) {
      copy(p, "value");
      copy(p, "gradient");
    }
    const accumulates = step.kind === "pointwise" || step.kind === "depthwise" ? step.accumulates : [];
    inputs.filter((_, i) => accumulates[i]).forEach((p) => copy(p, "gradient"));
  }
  for (const table of tables) {
    const values = reference.inspect.readTable(table).map(Math.fround);
    reference.inspect.writeTable(table, values);
    native.inspect.writeTable(table, values);
  }
}

function outputsOf(step: Step): number[] {
  if (step.kind === "head") return [];
  const count = step.kind === "depthwise" ? step.inputs.length : step.count;
  return Array.from({ length: count }, (_, i) => step.first + i);
}

/** Products that one output value sums. */
function depthOf(step: Step): number {
  return step.kind === "stem" ? 27 : step.kind === "depthwise" ? 9 : step.inputs.length;
}

function nans(program: Program, plane: number): Float64Array {
  const shape = program.planes[plane];
  assert.ok(shape);
  return new Float64Array(program.batch * shape.height * shape.width).fill(NaN);
}

function maximum(values: ArrayLike<number>): number {
  return Array.from(values).reduce((m, v) => Math.max(m, Math.abs(v)), 0);
}
