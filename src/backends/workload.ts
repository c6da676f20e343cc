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

export async function openWorkload(
  backend: Backend,
  program: Program,
  version: InitialisationVersion,
  options: BackendOptions,
): Promise<Workload> {
  const drawing = { version, seed: 0 } as const;
  const statistics = initialStatistics(program);
  const { images, labels } = madeUpBatch(program);
  if (program.mode === "infer") {
    const run = backend.infer(program, options);
    await run.load({ parameters: initialise(program, drawing), statistics });
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
  initialise(program, drawing, parameters);
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
