/**
 * The native backend: programs run by the C++ engine on all cores, f32, off the JavaScript thread.
 *
 * Every step gives what the reference backend gives, to f32 rounding, and the same bits for any number of
 * threads.
 */

import { planMemory } from "../../program/plan-memory.js";
import type { Program } from "../../program/program.js";
import type {
  Backend,
  BackendOptions,
  Batch,
  InferenceRun,
  Inspection,
  LossSettings,
  StepResult,
  Table,
  TrainingRun,
  TrainingState,
  UpdateSettings,
  Weights,
} from "../backend.js";
import { encodeProgram } from "./encode.js";
import { engine, type NativeState, type Run } from "./engine.js";
import { machine, memoryError } from "./machine.js";

export { machine, measurePeak, type Machine } from "./machine.js";

export const nativeBackend: Backend = { name: "native", train, infer };

const TABLES = [
  "mean",
  "variance",
  "scale",
  "shift",
  "gradientSum",
  "gradientDot",
] as const satisfies Table[];

function train(program: Program, state: TrainingState, options: BackendOptions): TrainingRun {
  const run = open(program, options);
  const logits = new Float32Array(program.batch * program.classes);

  async function step(
    batch: Batch,
    loss: LossSettings,
    update: UpdateSettings | undefined,
  ): Promise<StepResult> {
    const [crossEntropy, decayLoss, correct1, correct5, finite] = await engine().trainStep(
      run,
      batch.images,
      batch.labels,
      Float64Array.of(loss.labelSmoothing, loss.weightDecay),
      loss.dropoutMask ?? null,
      state,
      update ? encodeUpdate(update) : null,
    );
    engine().logits(run, logits);
    return { crossEntropy, decayLoss, correct1, correct5, finite: finite === 1 };
  }

  return {
    step,
    computeGradients: (batch, loss) => step(batch, loss, undefined),
    applyUpdate: (update) => engine().applyUpdate(run, state, encodeUpdate(update)),
    logits,
    inspect: inspection(run, program, () => state),
    close: () => engine().closeRun(run),
  };
}

/**
 * Pictures that a thread takes at a time when there are enough for all: their activations stay near its core, nobody
 * waits between steps, and their 7x7 planes (392 or 196 columns) fill vectors nearly whole. Measured at 1.0x, batch 32,
 * two threads of a Zen 3, two runs each, images/s: portions of 8 457 and 458, of 4 368 and 403, all threads on all
 * pictures 337 and 409.
 */
const PORTIONS = [8, 4];

function infer(program: Program, options: BackendOptions): InferenceRun {
  // With few pictures, all threads work on the same ones, step by step.
  const threads = options.threads || machine(options.isa).threads;
  const portion = PORTIONS.find((pictures) => program.batch >= pictures * threads);
  const executed = portion === undefined ? program : inPortions(program, portion);
  const run = open(executed, options, portion !== undefined);
  const imageBytes = program.imageSize * program.imageSize * 3;
  const wholeBytes = executed.batch * imageBytes;
  const padded = new Uint8Array(Math.ceil(program.batch / executed.batch) * wholeBytes);
  let loaded: Weights | undefined;
  return {
    load(weights) {
      engine().loadWeights(run, weights);
      loaded = weights;
    },
    async infer(images, count) {
      const logits = new Float32Array(count * program.classes);
      let batch = images;
      if (images.length === 0 || images.length % wholeBytes !== 0) {
        // A short batch: what stands in the other images does not matter, every image is computed for itself.
        padded.set(images.subarray(0, count * imageBytes));
        batch = padded;
      }
      await engine().infer(run, batch, count, logits);
      return logits;
    },
    inspect: inspection(run, executed, () => {
      if (!loaded) throw new Error("load weights before running a step");
      return loaded;
    }),
    close: () => engine().closeRun(run),
  };
}

function inPortions(program: Program, batch: number): Program {
  return { ...program, batch, memory: planMemory({ ...program, batch }) };
}

function open(program: Program, options: BackendOptions, team = false): Run {
  const { isa, threads } = machine(options.isa);
  try {
    return engine().createRun(encodeProgram(program), options.threads || threads, isa, team);
  } catch (error) {
    throw memoryError(error, program.memory.size);
  }
}

function encodeUpdate(u: UpdateSettings): Float64Array {
  return Float64Array.of(u.learningRate, u.momentum, u.weightDecay, u.averageDecay, Number(u.nesterov));
}

function inspection(run: Run, program: Program, state: () => NativeState): Inspection {
  const elements = (plane: number) => {
    const shape = program.planes[plane];
    return shape ? program.batch * shape.height * shape.width : 0;
  };
  return {
    readPlane(plane, what) {
      const values = new Float64Array(elements(plane));
      engine().plane(run, plane, what === "gradient", false, values);
      return values;
    },
    writePlane: (plane, what, values) => engine().plane(run, plane, what === "gradient", true, values),
    readTable(table) {
      const values = new Float64Array(program.planes.length);
      engine().table(run, TABLES.indexOf(table), false, values);
      return values;
    },
    writeTable: (table, values) => engine().table(run, TABLES.indexOf(table), true, values),
    runStep: (index, direction) => engine().runStep(run, index, direction === "backward", state()),
    get seconds() {
      const forward = new Float64Array(program.steps.length);
      const backward = new Float64Array(program.steps.length);
      engine().seconds(run, false, forward);
      engine().seconds(run, true, backward);
      return { forward, backward };
    },
  };
}
