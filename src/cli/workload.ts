/**
 * A network at work on made-up pictures, for `inspect --time` and `bench`: what is measured is the
 * engine alone, without decoding and without waiting for data.
 */

import type { Batch, LossSettings, UpdateSettings } from "../backends/backend.js";
import { initialise, initialStatistics } from "../models/initialise.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { variants } from "../models/variants.js";
import { compile } from "../program/compile.js";
import { describe, type StepRow } from "../program/print.js";
import type { Program } from "../program/program.js";
import { chooseBackend } from "../train/backend.js";
import type { GivenSettings, SettingName, Settings } from "../train/settings.js";
import { settings as table } from "../train/settings.js";

export type Mode = "train" | "infer";

/** The settings that make a program; the rows that `inspect` and `bench` take as options. */
export const programSettings = [
  "width",
  "variant",
  "num_classes",
  "image_size",
  "batch_size",
] as const satisfies readonly SettingName[];

/** Their values here where none is given. */
export const programDefaults = {
  width: table.width.default,
  variant: table.variant.default,
  num_classes: 1000,
  image_size: table.image_size.default,
  batch_size: 32,
} as const satisfies GivenSettings;

type ProgramSettings = Required<Pick<Settings, (typeof programSettings)[number]>>;

export function networkOf(given: GivenSettings): {
  readonly name: string;
  readonly settings: ProgramSettings;
  compile(mode: Mode): Program;
} {
  const settings = { ...programDefaults, ...given } as ProgramSettings;
  const network = shuffleNetV2({
    variant: settings.variant,
    width: settings.width,
    classes: settings.num_classes ?? programDefaults.num_classes,
  });
  return {
    name: network.name,
    settings,
    compile: (mode) => compile(network, { batch: settings.batch_size, imageSize: settings.image_size, mode }),
  };
}

export interface Workload {
  /** One step of training, or one batch of inference. */
  step(): Promise<void>;
  /** Seconds of each of the program's steps in the last call, both directions together. */
  readonly seconds: readonly number[];
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
  program: Program,
  variant: Settings["variant"],
  threads: number,
): Promise<Workload> {
  const backend = await chooseBackend();
  const weights = {
    parameters: initialise(program, { version: variants[variant].initialisation, seed: 0 }),
    statistics: initialStatistics(program),
  };
  const { images, labels } = madeUpBatch(program);
  const zeros = (): Float32Array => new Float32Array(program.parameterCount);
  if (program.mode === "infer") {
    const run = backend.infer(program, { threads });
    run.load(weights);
    return {
      step: async () => void (await run.infer(images, program.batch)),
      get seconds() {
        return [...run.inspect.seconds.forward];
      },
      close: () => run.close(),
    };
  }
  const state = { ...weights, momentum: zeros(), averages: weights.parameters.slice(), gradients: zeros() };
  const run = backend.train(program, state, { threads });
  return {
    step: async () => void (await run.step({ images, labels }, LOSS, UPDATE)),
    get seconds() {
      const { forward, backward } = run.inspect.seconds;
      return [...forward].map((s, i) => s + (backward[i] ?? 0));
    },
    close: () => run.close(),
  };
}

/**
 * Floating-point operations of one step on one image, a multiply-add counting two: training computes each
 * product three times (output, input's gradient, filters' gradient), the stem has no input gradient.
 */
export function operations(program: Program): number {
  const rows = describe(program);
  return rows.reduce((sum, row) => sum + operationsOf(row, program.mode), 0);
}

export function operationsOf(row: StepRow, mode: Mode): number {
  return 2 * row.multiplyAdds * (mode === "infer" ? 1 : row.kind === "stem" ? 2 : 3);
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
