/**
 * `riffle bench`: how fast this machine runs a network, and what share of its own peak that is.
 *
 * The pictures are made up and lie in memory, so this is the engine alone; `train` prints beside its rate how
 * much of the time it waited for pictures. Two steps of warm-up are not counted.
 */

import Table from "cli-table3";

import { measurePeak } from "../backends/native/index.js";
import { UsageError } from "../core/error.js";
import { describe } from "../program/print.js";
import type { Program } from "../program/program.js";
import { type CliCommand, type Invocation, wholeNumber } from "./command.js";
import { count, percent, rate } from "./format.js";
import { startProgress } from "./progress.js";
import type { Terminal } from "./terminal.js";
import {
  type Mode,
  networkOf,
  openWorkload,
  operations,
  operationsOf,
  programDefaults,
  programSettings,
} from "./workload.js";

const WARM_UP = 2;

export const benchCommand: CliCommand = {
  name: "bench",
  arguments: "<train|infer>",
  purpose: "Measures images per second, memory and share of this machine's peak.",
  examples: [
    "riffle bench train --width 1.0 --batch_size 32 --image_size 224",
    "riffle bench infer --width 0.5 --batch_size 1 --json",
    "riffle bench train --isa avx2 --threads 1 --steps 20",
  ],
  settings: [...programSettings, "threads"],
  defaults: programDefaults,
  options: [
    {
      name: "steps",
      value: "<n>",
      group: "Measuring",
      help: "steps measured, after two of warm-up",
      default: "10",
    },
    {
      name: "isa",
      value: "<name>",
      group: "Measuring",
      help: "instruction set to use, one that riffle doctor lists; the same as RIFFLE_ISA=name",
      default: "the widest that runs here",
    },
  ],
  run: bench,
};

async function bench(invocation: Invocation, terminal: Terminal): Promise<number> {
  const [mode] = invocation.arguments;
  if (mode !== "train" && mode !== "infer") {
    throw new UsageError({
      what: "riffle bench cannot measure that",
      expected: "train or infer",
      found: mode ?? "",
    });
  }
  const steps = wholeNumber(invocation, "steps", 10);
  const isa = invocation.own.get("isa");
  // The engine chooses its kernels when it is first used, which is below.
  if (typeof isa === "string") process.env["RIFFLE_ISA"] = isa;

  const network = networkOf(invocation.settings);
  const program = network.compile(mode);
  const threads = invocation.settings.threads ?? 0;
  const measured = await measure(program, network.settings.variant, { steps, threads }, terminal);
  // Before the peak is measured: that takes memory of its own.
  const peakMemory = process.resourceUsage().maxRSS / 1024;
  const peak = await measurePeak(threads);

  const rates = measured.stepSeconds.map((s) => program.batch / s).sort((a, b) => a - b);
  const median = middle(rates);
  const gflops = (median * operations(program)) / 1e9;
  const result = {
    mode,
    network: network.name,
    image_size: program.imageSize,
    batch_size: program.batch,
    steps,
    images_per_second: { min: rates[0] ?? 0, median, max: rates.at(-1) ?? 0 },
    peak_memory_mb: peakMemory,
    gflops,
    peak_gflops: peak.gflops,
    share_of_peak: gflops / peak.gflops,
    copy_gb_per_second: peak.copyGigabytes,
    layers: layersOf(program, mode, measured.layerSeconds),
  };
  terminal.emit(result);
  if (!terminal.json) printResult(result, terminal);
  return 0;
}

interface Measured {
  /** Of each step. */
  readonly stepSeconds: readonly number[];
  /** Of each of the program's steps, the mean. */
  readonly layerSeconds: readonly number[];
}

async function measure(
  program: Program,
  variant: Parameters<typeof openWorkload>[1],
  { steps, threads }: { readonly steps: number; readonly threads: number },
  terminal: Terminal,
): Promise<Measured> {
  const progress = startProgress(terminal);
  const run = await openWorkload(program, variant, threads);
  const stepSeconds: number[] = [];
  const layerSeconds = program.steps.map(() => 0);
  try {
    for (let i = 0; i < WARM_UP + steps; i++) {
      const start = performance.now();
      await run.step();
      const seconds = (performance.now() - start) / 1000;
      progress.show({ label: "bench", done: i + 1, total: WARM_UP + steps, columns: [] });
      if (i < WARM_UP) continue;
      stepSeconds.push(seconds);
      run.seconds.forEach((s, k) => (layerSeconds[k] = (layerSeconds[k] ?? 0) + s / steps));
    }
  } finally {
    progress.end();
    run.close();
  }
  return { stepSeconds, layerSeconds };
}

interface LayerResult {
  readonly name: string;
  readonly seconds: number;
  readonly share: number;
  readonly gflops: number;
  /** Gigabytes a second that the layer moves to and from memory, counted as in `riffle inspect`. */
  readonly gb_per_second: number;
}

function layersOf(program: Program, mode: Mode, seconds: readonly number[]): LayerResult[] {
  const all = seconds.reduce((sum, s) => sum + s, 0);
  return describe(program).map((row, i) => {
    const s = seconds[i] ?? 0;
    const perSecond = (amount: number): number => (s > 0 ? amount / s / 1e9 : 0);
    return {
      name: row.name,
      seconds: s,
      share: all > 0 ? s / all : 0,
      gflops: perSecond(operationsOf(row, mode) * program.batch),
      gb_per_second: perSecond(row.bytes),
    };
  });
}

function printResult(
  result: {
    readonly images_per_second: { readonly min: number; readonly median: number; readonly max: number };
    readonly peak_memory_mb: number;
    readonly gflops: number;
    readonly peak_gflops: number;
    readonly share_of_peak: number;
    readonly copy_gb_per_second: number;
    readonly layers: readonly LayerResult[];
  },
  terminal: Terminal,
): void {
  const table = new Table({
    head: ["layer", "ms", "share", "GFLOP/s", "GB/s"],
    colAligns: ["left", "right", "right", "right", "right"],
    style: { head: [], border: [], compact: true },
  });
  for (const layer of result.layers) {
    table.push([
      layer.name,
      (1000 * layer.seconds).toFixed(2),
      percent(layer.share),
      count(layer.gflops),
      layer.gb_per_second.toFixed(1),
    ]);
  }
  terminal.print(table.toString());
  const { min, median, max } = result.images_per_second;
  terminal.print(
    `${rate(median)} images/s (${rate(min)} to ${rate(max)}), peak memory ${count(result.peak_memory_mb)} MB`,
  );
  terminal.print(
    `${count(result.gflops)} GFLOP/s of ${count(result.peak_gflops)} measured, ${percent(result.share_of_peak)}; ` +
      `memory copies at ${result.copy_gb_per_second.toFixed(1)} GB/s`,
  );
}

function middle(sorted: readonly number[]): number {
  const half = Math.floor(sorted.length / 2);
  const upper = sorted[half] ?? 0;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[half - 1] ?? 0)) / 2;
}
