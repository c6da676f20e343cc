/**
 * The reference backend: every step as its formula says, in f64, one plane at a time.
 *
 * It is what fast backends are tested against, and is itself tested against TensorFlow's numbers and
 * central differences. Weights and gradients are the caller's f32 arrays; all between is f64.
 */

import { UsageError } from "../../core/error.js";
import { outputsOf, type Plane, type PlaneId, type Program } from "../../program/program.js";
import type {
  Backend,
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
import { batchNormGradients, normaliseByMoving } from "./batch-norm.js";
import type { HeadMemory, LossAndGradient } from "./head-passes.js";
import { passesOf, type Passing } from "./passes.js";
import { createMachine, type Machine } from "./planes.js";
import type { StemMemory } from "./stem-passes.js";
import { decayLoss, updateParameters, updateStatistics } from "./update.js";

export const referenceBackend: Backend = {
  name: "reference",
  train: (program, state) => new ReferenceTraining(program, state),
  infer: (program) => new ReferenceInference(program),
};

/** Loss of a run that only infers: never read. */
const NO_LOSS: LossSettings = { labelSmoothing: 0, weightDecay: 0 };

/** One program and all that its steps hand to each other. */
class Execution implements Passing {
  readonly machine: Machine;
  readonly inspect: Inspection;
  images: Uint8Array = new Uint8Array(0);
  labels: Int32Array = new Int32Array(0);
  loss: LossSettings = NO_LOSS;
  stem: StemMemory | undefined;
  head: HeadMemory | undefined;
  outcome: LossAndGradient | undefined;
  readonly #seconds: Inspection["seconds"];

  /** @param weights what steps read now; @param gradients where they write dW, in training. */
  constructor(
    program: Program,
    readonly weights: () => Weights,
    readonly gradients: Float32Array,
  ) {
    this.machine = createMachine(program);
    const count = program.steps.length;
    this.#seconds = { forward: new Float64Array(count), backward: new Float64Array(count) };
    this.inspect = this.#inspection();
  }

  forward(): void {
    this.machine.program.steps.forEach((_, index) => this.runStep(index, "forward"));
  }

  backward(): void {
    for (let index = this.machine.program.steps.length - 1; index >= 0; index--)
      this.runStep(index, "backward");
  }

  runStep(index: number, direction: "forward" | "backward"): void {
    const step = this.machine.program.steps[index];
    if (step === undefined) throw new RangeError(`the program has no step ${index}`);
    const start = performance.now();
    const { machine, gradients } = this;
    if (direction === "backward") {
      for (const plane of outputsOf(step)) {
        const { gamma, beta } = machine.program.planes[plane] as Plane;
        const { dgamma, dbeta } = batchNormGradients(machine, plane);
        gradients[gamma] = dgamma;
        gradients[beta] = dbeta;
      }
    } else if (machine.program.mode === "infer") {
      for (const plane of outputsOf(step)) normaliseByMoving(machine, plane, this.weights());
    }
    passesOf(step)[direction](this, step);
    this.#seconds[direction][index] = (performance.now() - start) / 1000;
  }

  #inspection(): Inspection {
    const { machine } = this;
    const planes = { value: machine.values, gradient: machine.gradients };
    const find = (plane: PlaneId, what: "value" | "gradient"): Float64Array => {
      const found = planes[what][plane];
      if (found === undefined) throw new RangeError(`plane ${plane} has no ${what} here`);
      return found;
    };
    return {
      readPlane: (plane, what) => find(plane, what).slice(),
      writePlane: (plane, what, values) => replace(find(plane, what), values, `${what} of plane ${plane}`),
      readTable: (table: Table) => machine.tables[table].slice(),
      writeTable: (table: Table, values) => replace(machine.tables[table], values, `table ${table}`),
      runStep: (index, direction) => promise(() => this.runStep(index, direction)),
      seconds: this.#seconds,
    };
  }
}

class ReferenceTraining implements TrainingRun {
  readonly logits: Float32Array;
  readonly #execution: Execution;
  readonly #state: TrainingState;

  constructor(program: Program, state: TrainingState) {
    this.logits = new Float32Array(program.batch * program.classes);
    this.#execution = new Execution(program, () => state, state.gradients);
    this.#state = state;
  }

  get inspect(): Inspection {
    return this.#execution.inspect;
  }

  step(batch: Batch, loss: LossSettings, update: UpdateSettings): Promise<StepResult> {
    return promise(() => {
      const result = this.#computeGradients(batch, loss);
      if (result.finite) this.#applyUpdate(update);
      return result;
    });
  }

  computeGradients(batch: Batch, loss: LossSettings): Promise<StepResult> {
    return promise(() => this.#computeGradients(batch, loss));
  }

  applyUpdate(update: UpdateSettings): Promise<void> {
    return promise(() => this.#applyUpdate(update));
  }

  close(): void {
    // Memory is the garbage collector's.
  }

  #computeGradients(batch: Batch, loss: LossSettings): StepResult {
    const execution = this.#execution;
    const { program } = execution.machine;
    checkBatch(program, batch);
    execution.images = batch.images;
    execution.labels = batch.labels;
    execution.loss = loss;
    execution.forward();
    execution.backward();
    const { logits } = execution.head as HeadMemory;
    const { crossEntropy, correct1, correct5 } = execution.outcome as LossAndGradient;
    this.logits.set(logits);
    const decay = decayLoss(program, this.#state.parameters, loss.weightDecay);
    const finite = Number.isFinite(crossEntropy + decay) && this.#state.gradients.every(Number.isFinite);
    return { crossEntropy, decayLoss: decay, correct1, correct5, finite };
  }

  #applyUpdate(update: UpdateSettings): void {
    const { machine } = this.#execution;
    updateParameters(machine.program, this.#state, update);
    updateStatistics(machine, this.#state.statistics);
  }
}

class ReferenceInference implements InferenceRun {
  readonly #execution: Execution;
  #weights: Weights | undefined;

  constructor(program: Program) {
    this.#execution = new Execution(program, () => this.#weights as Weights, new Float32Array(0));
  }

  get inspect(): Inspection {
    return this.#execution.inspect;
  }

  load({ parameters, statistics }: Weights): void {
    this.#weights = { parameters: parameters.slice(), statistics: statistics.slice() };
  }

  infer(images: Uint8Array, count: number): Promise<Float32Array> {
    return promise(() => {
      const { machine } = this.#execution;
      const { program } = machine;
      const bytes = count * program.imageSize ** 2 * 3;
      if (!Number.isInteger(count) || count < 1 || count > program.batch || images.length !== bytes) {
        throw new UsageError({
          what: "the images do not fit the program",
          expected: `1 to ${program.batch} images of ${program.imageSize}x${program.imageSize}x3 bytes`,
          found: `${count} images in ${images.length} bytes`,
        });
      }
      if (this.#weights === undefined) throw new Error("infer before load: there are no weights yet");
      machine.images = count;
      this.#execution.images = images;
      this.#execution.forward();
      return Float32Array.from((this.#execution.head as HeadMemory).logits);
    });
  }

  close(): void {
    // Memory is the garbage collector's.
  }
}

function checkBatch({ batch, imageSize, classes }: Program, { images, labels }: Batch): void {
  const bytes = batch * imageSize ** 2 * 3;
  if (images.length !== bytes || labels.length !== batch) {
    throw new UsageError({
      what: "the batch does not fit the program",
      expected: `${bytes} bytes and ${batch} labels`,
      found: `${images.length} bytes and ${labels.length} labels`,
    });
  }
  const wrong = labels.find((label) => label < 0 || label >= classes);
  if (wrong !== undefined) {
    throw new UsageError({ what: "label out of range", expected: `0 .. ${classes - 1}`, found: `${wrong}` });
  }
}

function replace(target: Float64Array, values: Float64Array, what: string): void {
  if (values.length !== target.length) {
    throw new RangeError(`${what} has ${target.length} values, ${values.length} were given`);
  }
  target.set(values);
}

/** Runs at once; what it throws rejects the promise, as a backend on another thread would do. */
function promise<T>(run: () => T): Promise<T> {
  return new Promise((resolve) => resolve(run()));
}
