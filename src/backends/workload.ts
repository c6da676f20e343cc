/**
 * A program at work on made-up pictures: what is measured is the engine alone, without decoding and without waiting
 * for data.
 */

import { initialise, type InitialisationVersion, initialStatistics } from "../models/initialise.js";
import type { Program } from "../program/program.js";
import type { Backend, BackendOptions, Batch, LossSettings, StepSeconds, UpdateSettings } from "./backend.js";

export interface Workload {
  /** A step of training (forward, backward, update), or one batch of inference. */
  step(): Promise<void>;
  /** Of the last call. */
  readonly seconds: StepSeconds;
  close(): void;
}

/** Plain settings that keep numbers finite for any number of steps. */
const LOSS: LossSettings = { labelSmoothing: 0.1, weightDecay: 4e-5 };
const UPDATE: UpdateSettings = {
  learningRate: 0.001,
  momentum: 0.9,
  nesterov: true,
  weightDecay: 4e-5,
  averageDecay: 0.995,
};

/** What a program works on; making it up takes longer than some steps do. */
export interface MadeUp extends Batch {
  /** Writes the parameters over zeros. */
  readonly fill: (parameters: Float32Array) => void;
}

export function makeUp(program: Program, version: InitialisationVersion): MadeUp {
  const fill = (parameters: Float32Array): void => void initialise(program, { version, seed: 0 }, parameters);
  return { ...madeUpBatch(program), fill };
}

export async function openWorkload(
  backend: Backend,
  program: Program,
  { images, labels, fill }: MadeUp,
  options: BackendOptions,
): Promise<Workload> {
  const statistics = initialStatistics(program);
  if (program.mode === "infer") {
    const run = backend.infer(program, options);
    const parameters = new Float32Array(program.parameterCount);
    fill(parameters);
    await run.load({ parameters, statistics });
    return {
      step: async () => void (await run.infer(images, program.batch)),
      get seconds() {
        return run.stepSeconds();
      },
      close: () => run.close(),
    };
  }
  const run = backend.train(program, options);
  const { parameters, averages } = await run.readState();
  fill(parameters);
  averages.set(parameters);
  await run.writeState({ parameters, averages, statistics });
  return {
    step: async () => void (await run.step({ images, labels }, LOSS, UPDATE)),
    get seconds() {
      return run.stepSeconds();
    },
    close: () => run.close(),
  };
}

/** Bytes without a pattern that a kernel could profit from. */
function madeUpBatch(program: Program): Batch {
  const { batch, imageSize, classes } = program;
  const scrambled = (i: number): number => Math.imul(i + 1, 0x9e3779b1) >>> 8;
  return {
    images: Uint8Array.from({ length: batch * imageSize * imageSize * 3 }, (_, i) => scrambled(i) & 255),
    labels: Int32Array.from({ length: batch }, (_, i) => scrambled(i) % classes),
  };
}
