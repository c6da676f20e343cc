/**
 * A network at work on made-up pictures, for `inspect --time` and `bench`: what is measured is the
 * engine alone, without decoding and without waiting for data.
 */

import type { BackendOptions } from "../backends/backend.js";
import { chooseBackend } from "../backends/registry.js";
import { type BackendName } from "../backends/names.js";
import { makeUp, openWorkload as openProgram, type Workload } from "../backends/workload.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { variants } from "../models/variants.js";
import { compile, type CompileOptions } from "../program/compile.js";
import type { Program } from "../program/program.js";
import { storageOf } from "../settings/precision.js";
import { readSettings } from "../settings/read-settings.js";
import {
  type GivenSettings,
  type SettingName,
  type Settings,
  settings as table,
} from "../settings/settings.js";

/** A step of training (forward, backward, update), or one batch of inference. */
export type Mode = "train" | "infer";

/** The settings that make a program: what `inspect` and `bench` take. */
export const programSettings = [
  "width",
  "variant",
  "num_classes",
  "image_size",
  "batch_size",
  "precision_mode",
] as const satisfies readonly SettingName[];

/** Their values here where none is given. */
export const programDefaults = {
  width: table.width.default,
  variant: table.variant.default,
  num_classes: 1000,
  image_size: table.image_size.default,
  batch_size: 32,
  precision_mode: table.precision_mode.default,
} as const satisfies GivenSettings;

export type ProgramSettings = Pick<GivenSettings, (typeof programSettings)[number]>;

/** What is measured, as the commands' JSON says it. */
export interface MeasuredNetwork {
  readonly mode: Mode;
  /** For people, e.g. "shufflenet-v2 1.0x (tensorflow)". */
  readonly network: string;
  /** Pixels. */
  readonly image_size: number;
  /** Images a step. */
  readonly batch_size: number;
  readonly precision_mode: Settings["precision_mode"];
}

/** A program and what the measurements need to know of its network. */
export interface CompiledNetwork {
  /** For people, e.g. "shufflenet-v2 1.0x (tensorflow)". */
  readonly name: string;
  readonly variant: Settings["variant"];
  readonly program: Program;
}

/** @throws UsageError for a setting out of its range. */
export function compileNetwork(
  given: ProgramSettings,
  mode: Mode,
  { bucketBytes }: Pick<CompileOptions, "bucketBytes"> = {},
): CompiledNetwork {
  const {
    variant = programDefaults.variant,
    width = programDefaults.width,
    num_classes: classes = programDefaults.num_classes,
    batch_size: batch = programDefaults.batch_size,
    image_size: imageSize = programDefaults.image_size,
    precision_mode,
  } = readSettings(given);
  const network = shuffleNetV2({ variant, width, classes });
  const storage = storageOf(precision_mode);
  const program = compile(network, { batch, imageSize, mode, bucketBytes, storage });
  return { name: network.name, variant, program };
}

/** Steps run before any is timed. */
const WARM_UP = 2;

interface Timings {
  /** Seconds of each step of training, or of each batch. */
  readonly stepSeconds: readonly number[];
  /** Mean seconds of each of the program's steps, both directions together. */
  readonly layerSeconds: readonly number[];
  /** The share of them that is backward's; zeros for inference. */
  readonly backwardSeconds: readonly number[];
}

/** The engine and what it is told. */
export interface EngineOptions extends BackendOptions {
  readonly backend?: BackendName | undefined;
}

/** Runs the network `steps` times after the warm-up; `progress` hears of every step. */
export async function timeSteps(
  network: CompiledNetwork,
  steps: number,
  options: EngineOptions,
  progress?: (done: number, total: number) => void,
): Promise<Timings> {
  const workload = await openWorkload(network, options);
  const stepSeconds: number[] = [];
  const layerSeconds = network.program.steps.map(() => 0);
  const backwardSeconds = [...layerSeconds];
  try {
    for (let i = 0; i < WARM_UP + steps; i++) {
      const start = performance.now();
      await workload.step();
      const seconds = (performance.now() - start) / 1000;
      progress?.(i + 1, WARM_UP + steps);
      if (i < WARM_UP) continue;
      stepSeconds.push(seconds);
      const { forward, backward } = workload.seconds;
      for (const k of layerSeconds.keys()) {
        const back = (backward[k] ?? 0) / steps;
        layerSeconds[k] = (layerSeconds[k] ?? 0) + (forward[k] ?? 0) / steps + back;
        backwardSeconds[k] = (backwardSeconds[k] ?? 0) + back;
      }
    }
  } finally {
    workload.close();
  }
  return { stepSeconds, layerSeconds, backwardSeconds };
}

export async function openWorkload(
  { program, variant }: CompiledNetwork,
  { backend, ...options }: EngineOptions,
): Promise<Workload> {
  const madeUp = makeUp(program, variants[variant].initialisation);
  return openProgram(await chooseBackend(backend), program, madeUp, options);
}
