/**
 * How fast this machine runs a network, and what share of its own peak that is.
 *
 * The pictures are made up and lie in memory, so this is the engine alone; training reports beside its rate how
 * much of the time it waited for pictures.
 */

import type { TuningReport } from "../backends/autotune.js";
import { chooseBackend } from "../backends/registry.js";
import { type BackendName } from "../backends/names.js";
import { UsageError } from "../core/error.js";
import { costsOf } from "../program/costs.js";
import type { Program } from "../program/program.js";
import { median as medianOf } from "../core/median.js";
import { storageOf } from "../settings/precision.js";
import { tunedFor, type TuningMessage } from "../run/tuning.js";
import {
  compileNetwork,
  type MeasuredNetwork,
  type Mode,
  programDefaults,
  programSettings,
  type ProgramSettings,
  timeSteps,
} from "./workload.js";
import { readCall } from "../settings/read-settings.js";

export interface BenchOptions extends ProgramSettings {
  /** Steps measured, after two of warm-up: 10. */
  readonly steps?: number | undefined;
  /** Threads of the engine; one per available core when absent. */
  readonly threads?: number | undefined;
  /** The native engine where it is built when absent, else WebAssembly. */
  readonly backend?: BackendName | undefined;
  /** Instruction set, one that `doctor` lists; the widest when absent. */
  readonly isa?: string | undefined;
  /** Tune the engine first, or use the tuning that is kept. */
  readonly autotune?: boolean | undefined;
}

/** The command's JSON. GFLOP/s count a multiply-add as two operations. */
export interface BenchResult extends MeasuredNetwork {
  readonly steps: number;
  readonly images_per_second: { readonly min: number; readonly median: number; readonly max: number };
  /** How the engine was tuned; null where that was not asked for. */
  readonly tuning: TuningReport | null;
  /** Peak resident size of the whole process until then, in units of 2^20 bytes. */
  readonly peak_memory_mb: number;
  /** Of the median step. */
  readonly gflops: number;
  /** What multiply-adds alone reach on this machine, or dot products of bf16 in mixed precision, measured. */
  readonly peak_gflops: number;
  /** gflops / peak_gflops. */
  readonly share_of_peak: number;
  /** What copying memory reaches, 10^9 bytes a second, measured. */
  readonly copy_gb_per_second: number;
  readonly layers: readonly LayerTiming[];
}

export interface LayerTiming {
  readonly name: string;
  /** Of one step, the mean. */
  readonly seconds: number;
  /** Of all layers' time, 0 to 1. */
  readonly share: number;
  readonly gflops: number;
  /** 10^9 bytes a second that the layer moves to and from memory, counted as in `inspect`. */
  readonly gb_per_second: number;
}

/**
 * Measures training or inference of the paper's 1.0x network at 224 px, batch 32, unless told otherwise.
 *
 * @param progress hears of every step, warm-up counted.
 * @param tuningReport hears of the tuning before.
 * @throws UsageError, or ResourceError where the engine or its memory is missing.
 */
export async function bench(
  mode: Mode,
  options: BenchOptions = {},
  progress?: (done: number, total: number) => void,
  tuningReport: (event: TuningMessage) => void = () => undefined,
): Promise<BenchResult> {
  const {
    steps = 10,
    isa,
    autotune = false,
    ...given
  } = readCall(options, "bench", [...programSettings, "backend", "threads", "autotune"], ["steps", "isa"]);
  const { threads = 0, backend: name, ...network } = given;
  if (!Number.isSafeInteger(steps) || steps < 1) {
    throw new UsageError({
      what: "there is nothing to measure",
      where: "option --steps",
      expected: "a whole number from 1",
      found: `${steps}`,
    });
  }
  const backend = await chooseBackend(name);
  const compiled = compileNetwork(network, mode);
  const { program } = compiled;
  const tuned = autotune
    ? await tunedFor(backend, program, { threads, isa }, { report: tuningReport })
    : undefined;
  const timings = await timeSteps(
    compiled,
    steps,
    { backend: name, threads, isa, tuning: tuned?.tuning },
    progress,
  );
  // Before the peak is measured: that takes memory of its own.
  const peakMemory = process.resourceUsage().maxRSS / 1024;
  const peak = await backend.peak({ threads, isa }, storageOf(network.precision_mode));

  const rates = timings.stepSeconds.map((s) => program.batch / s).sort((a, b) => a - b);
  const median = medianOf(rates);
  const operations = costsOf(program).reduce(
    (sum, { forward, backward }) => sum + forward.operations + backward.operations,
    0,
  );
  const gflops = (median * operations) / program.batch / 1e9;
  return {
    mode,
    network: compiled.name,
    image_size: program.imageSize,
    batch_size: program.batch,
    precision_mode: network.precision_mode ?? programDefaults.precision_mode,
    steps,
    tuning: tuned?.report ?? null,
    images_per_second: { min: rates[0] ?? 0, median, max: rates.at(-1) ?? 0 },
    peak_memory_mb: peakMemory,
    gflops,
    peak_gflops: peak.gflops,
    share_of_peak: gflops / peak.gflops,
    copy_gb_per_second: peak.copyGigabytes,
    layers: layerTimings(program, timings.layerSeconds),
  };
}

function layerTimings(program: Program, seconds: readonly number[]): LayerTiming[] {
  const all = seconds.reduce((sum, s) => sum + s, 0);
  return costsOf(program).map(({ forward, backward }, i) => {
    const s = seconds[i] ?? 0;
    const perSecond = (amount: number): number => (s > 0 ? amount / s / 1e9 : 0);
    return {
      name: program.steps[i]?.name ?? "",
      seconds: s,
      share: all > 0 ? s / all : 0,
      gflops: perSecond(forward.operations + backward.operations),
      gb_per_second: perSecond(forward.bytes + backward.bytes),
    };
  });
}
