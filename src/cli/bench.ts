/**
 * `riffle bench`: how fast this machine runs a network, what share of its own peak that is, and how fast it loads
 * pictures.
 *
 * measure/bench.ts and measure/bench-data.ts measure; this file parses and prints.
 */

import { tuningText } from "../backends/autotune.js";
import { UsageError } from "../core/error.js";
import { shortPath } from "../core/short-path.js";
import { bench, type BenchResult } from "../measure/bench.js";
import { benchData, type DataBenchResult, dataBenchSettings } from "../measure/bench-data.js";
import { precisionWords } from "../settings/precision.js";
import { programDefaults, programSettings } from "../measure/workload.js";
import { choice, type CliCommand, type Invocation, wholeNumber } from "./command.js";
import { count, percent, rate, several } from "./format.js";
import { startProgress } from "./progress.js";
import { preparing, titled } from "./report-run.js";
import type { Terminal } from "./terminal.js";

export const benchCommand: CliCommand = {
  name: "bench",
  arguments: "<train|infer|data>",
  purpose:
    "Measures images per second: a network's training or inference with share of this machine's peak, or loading pictures.",
  examples: [
    "npx riffle-vision bench train --width 1.0 --batch_size 32 --image_size 224",
    "npx riffle-vision bench infer --width 0.5 --batch_size 1 --json",
    "npx riffle-vision bench data --data_dir photos --augment tensorflow --images 4000",
  ],
  settings: [
    ...new Set([...programSettings, "backend", "threads", "autotune", ...dataBenchSettings] as const),
  ],
  defaults: { ...programDefaults, augment: "tensorflow", seed: 0 },
  options: {
    Measuring: {
      steps: { value: "<n>", help: "steps measured, after two of warm-up; train and infer", default: "10" },
      isa: {
        value: "<name>",
        help: "instruction set to use, one that riffle doctor lists; the same as RIFFLE_ISA=name; train and infer",
        default: "the widest that runs here",
      },
      images: {
        value: "<n>",
        help: "pictures measured, in whole batches after five of warm-up; data",
        default: "2000",
      },
      decoder: {
        value: "<auto|sharp>",
        help: "what decodes JPEGs: libjpeg-turbo where it was found, or sharp; data",
        default: "auto",
      },
    },
  },
  run: runBench,
};

/** What each mode takes; anything else is refused rather than ignored. */
const networkOptions: readonly string[] = [
  ...programSettings,
  "backend",
  "threads",
  "autotune",
  "steps",
  "isa",
];
const dataOptions: readonly string[] = [...dataBenchSettings, "images", "decoder"];

async function runBench(invocation: Invocation, terminal: Terminal): Promise<number> {
  const [mode] = invocation.arguments;
  if (mode !== "train" && mode !== "infer" && mode !== "data") {
    throw new UsageError({
      what: "riffle bench cannot measure that",
      expected: "train, infer or data",
      found: mode ?? "",
    });
  }
  refuseOthers(invocation, mode);
  const progress = startProgress(terminal);
  const show = (done: number, total: number): void =>
    progress.show({ label: "bench", done, total, columns: [] });
  if (mode === "data") {
    const images = wholeNumber(invocation, "images", 2000);
    const decoder = choice(invocation, "decoder", ["auto", "sharp"]);
    const options = { ...invocation.settings, images, decoder };
    const result = await benchData(options, show).finally(() => progress.end());
    terminal.emit(result);
    if (!terminal.json) printDataResult(result, terminal);
    return 0;
  }
  const steps = wholeNumber(invocation, "steps", 10);
  const isa = invocation.own.get("isa");
  const options = { ...invocation.settings, steps, ...(typeof isa === "string" ? { isa } : {}) };
  const result = await bench(mode, options, show, (event) => {
    if (event.event === "preparing") progress.show(preparing(event));
    else if (event.event === "warning") progress.warn(event.what);
    else progress.note(titled("Tuned", tuningText(event, shortPath)));
  }).finally(() => progress.end());
  terminal.emit(result);
  if (!terminal.json) printResult(result, terminal);
  return 0;
}

function refuseOthers(invocation: Invocation, mode: "train" | "infer" | "data"): void {
  const taken = mode === "data" ? dataOptions : networkOptions;
  const given = [...Object.keys(invocation.settings), ...invocation.own.keys()];
  const other = given.find((name) => !taken.includes(name) && name !== "json" && name !== "debug");
  if (other === undefined) return;
  throw new UsageError({
    what: `--${other} does not apply to riffle bench ${mode}`,
    expected: taken.map((name) => `--${name}`).join(", "),
    found: `--${other}`,
  });
}

function printResult(result: BenchResult, terminal: Terminal): void {
  terminal.table({
    head: ["layer", "ms", "share", "GFLOP/s", "GB/s"],
    align: ["left", "right", "right", "right", "right"],
    rows: result.layers.map((layer) => [
      layer.name,
      (1000 * layer.seconds).toFixed(2),
      percent(layer.share),
      count(layer.gflops),
      layer.gb_per_second.toFixed(1),
    ]),
  });
  const { min, median, max } = result.images_per_second;
  terminal.print(
    `${precisionWords(result.precision_mode)}: ${rate(median)} images/s (${rate(min)} to ${rate(max)}), peak memory ${count(result.peak_memory_mb)} MB`,
  );
  terminal.print(
    `${count(result.gflops)} GFLOP/s of ${count(result.peak_gflops)} measured, ${percent(result.share_of_peak)}; ` +
      `memory copies at ${result.copy_gb_per_second.toFixed(1)} GB/s`,
  );
}

function printDataResult(result: DataBenchResult, terminal: Terminal): void {
  const { mean, min, median, max } = result.images_per_second;
  terminal.print(
    `${rate(median)} images/s (${rate(min)} to ${rate(max)}), ${rate(mean)} over all ${count(result.images)}; ` +
      `${rate(result.mb_per_second)} MB/s as stored`,
  );
  terminal.print(
    `JPEGs through ${result.decoder}, ${result.augment} augmentation, ${result.image_size} px, batch ${result.batch_size}`,
  );
  terminal.print(
    `${result.cpu_ms_per_image.toFixed(2)} ms of processor time an image; main thread busy ${percent(result.main_thread_share)}; ` +
      `reading is ${percent(result.read_share)} of a picture; peak memory ${count(result.peak_memory_mb)} MB`,
  );
  if (result.bad_images > 0) terminal.print(`${several(result.bad_images, "picture")} did not decode`);
}
