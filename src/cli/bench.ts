/**
 * `riffle bench`: how fast this machine runs a network, and what share of its own peak that is.
 *
 * train/bench.ts measures; this file parses and prints.
 */

import Table from "cli-table3";

import { UsageError } from "../core/error.js";
import { bench, type BenchResult } from "../train/bench.js";
import { programDefaults, programSettings } from "../train/workload.js";
import { type CliCommand, type Invocation, wholeNumber } from "./command.js";
import { count, percent, rate } from "./format.js";
import { startProgress } from "./progress.js";
import type { Terminal } from "./terminal.js";

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
  run: runBench,
};

async function runBench(invocation: Invocation, terminal: Terminal): Promise<number> {
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
  const options = { ...invocation.settings, steps, ...(typeof isa === "string" ? { isa } : {}) };
  const progress = startProgress(terminal);
  const show = (done: number, total: number): void =>
    progress.show({ label: "bench", done, total, columns: [] });
  const result = await bench(mode, options, show).finally(() => progress.end());
  terminal.emit(result);
  if (!terminal.json) printResult(result, terminal);
  return 0;
}

function printResult(result: BenchResult, terminal: Terminal): void {
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
