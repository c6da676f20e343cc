/**
 * What a network consists of and costs, step by step, without weights or pictures; where asked for, the time
 * each step takes on this machine.
 */

import type { BackendName } from "../backends/names.js";
import { describe, type StepRow, totals } from "../program/print.js";
import { readCall } from "../settings/read-settings.js";
import {
  compileNetwork,
  type MeasuredNetwork,
  type Mode,
  type ProgramSettings,
  programDefaults,
  programSettings,
  timeSteps,
} from "./workload.js";

const TIMED = 5;

export interface InspectOptions extends ProgramSettings {
  /** Bytes and time are those of a training step unless this says "infer". */
  readonly mode?: Mode | undefined;
  /** Whether to run a few steps on made-up pictures, for `seconds` and `share`. */
  readonly time?: boolean | undefined;
  /** Threads of the engine when timing; one per available core when absent. */
  readonly threads?: number | undefined;
  /** The engine that is timed; the native one where it is built when absent, else WebAssembly. */
  readonly backend?: BackendName | undefined;
}

/** The command's JSON. */
export interface NetworkReport extends MeasuredNetwork {
  readonly num_classes: number;
  /** Trained numbers. */
  readonly parameters: number;
  /** Of one image, forward. */
  readonly multiply_adds: number;
  /** Memory traffic of one step, all images. */
  readonly bytes: number;
  /** Size of the memory that holds all planes. */
  readonly arena_bytes: number;
  /** Of one step, the mean; only when timed. */
  readonly seconds?: number;
  readonly layers: readonly LayerReport[];
}

export interface LayerReport extends Pick<StepRow, "name" | "kind" | "parameters" | "bytes"> {
  /** [channels, height, width], or [classes]. */
  readonly shape: readonly number[];
  /** Of one image, forward. */
  readonly multiply_adds: number;
  /** Of one step, the mean, both directions together; only when timed. */
  readonly seconds?: number;
  /** Of all layers' time, 0 to 1; only when timed. */
  readonly share?: number;
}

/** Describes the paper's 1.0x network at 224 px with 1000 classes, batch 32, unless told otherwise. */
export async function inspect(options: InspectOptions = {}): Promise<NetworkReport> {
  const {
    mode = "train",
    time = false,
    threads = 0,
    backend,
    ...given
  } = readCall(options, "inspect", [...programSettings, "backend", "threads"], ["mode", "time"]);
  const compiled = compileNetwork(given, mode);
  const { program } = compiled;
  const total = totals(program);
  const seconds = time ? (await timeSteps(compiled, TIMED, { backend, threads })).layerSeconds : undefined;
  const all = seconds?.reduce((sum, s) => sum + s, 0);
  return {
    network: compiled.name,
    num_classes: program.classes,
    image_size: program.imageSize,
    batch_size: program.batch,
    precision_mode: given.precision_mode ?? programDefaults.precision_mode,
    mode,
    parameters: total.parameters,
    multiply_adds: total.multiplyAdds,
    bytes: total.bytes,
    arena_bytes: total.arenaBytes,
    ...(all === undefined ? {} : { seconds: all }),
    layers: describe(program).map((row, i) => ({
      name: row.name,
      kind: row.kind,
      shape: row.outputShape,
      parameters: row.parameters,
      multiply_adds: row.multiplyAdds,
      bytes: row.bytes,
      ...(seconds && all ? { seconds: seconds[i] ?? 0, share: (seconds[i] ?? 0) / all } : {}),
    })),
  };
}
