/**
 * `riffle inspect`: what a network consists of and costs, step by step; with --time, where the time goes.
 */

import type { GivenSettings } from "../settings/settings.js";
import { findNetwork, refuseOther } from "../weights/find-network.js";
import { inspect, type NetworkReport } from "../measure/inspect.js";
import { programDefaults, programSettings } from "../measure/workload.js";
import type { CliCommand } from "./command.js";
import { bytes, count, millions, percent } from "./format.js";
import { openedLines, whileOpening } from "./opened-weights.js";
import { startProgress } from "./progress.js";
import type { Terminal } from "./terminal.js";

export const inspectCommand: CliCommand = {
  name: "inspect",
  arguments: "[weights]",
  purpose:
    "Prints a network's layers, or those of a run or weights: shape, parameters, multiply-adds, bytes, time.",
  examples: [
    "npx riffle-vision inspect --width 1.0",
    "npx riffle-vision inspect --width 0.5 --image_size 96 --num_classes 10 --time",
    "npx riffle-vision inspect imagenet --json",
  ],
  settings: [...programSettings, "backend", "threads", "offline"],
  defaults: programDefaults,
  aliases: { classes: "num_classes" },
  options: {
    Measuring: {
      time: { help: "run a few steps on made-up pictures and show each layer's share" },
      infer: { help: "count bytes and time of inference instead of a training step", default: "training" },
    },
  },
  async run({ arguments: [path], settings: { offline, ...settings }, own }, terminal) {
    const mode = own.has("infer") ? "infer" : "train";
    const held = path === undefined ? {} : await networkOf(path, { ...settings, offline }, terminal);
    const report = await inspect({ ...held, ...settings, mode, time: own.has("time") });
    terminal.emit(report);
    if (!terminal.json) printReport(report, terminal);
    return 0;
  },
};

/** The network that a path means, as settings; what it is is said first. */
async function networkOf(path: string, given: GivenSettings, terminal: Terminal): Promise<GivenSettings> {
  const progress = startProgress(terminal);
  const { variant: asked, width: wanted, offline } = given;
  const options = { variant: asked, width: wanted, offline, report: whileOpening(progress, terminal) };
  const found = await findNetwork(path, options).finally(() => progress.end());
  const { path: checkpoint, model, origin, passedOver } = found;
  refuseOther(given, model, path);
  const { variant, width, classes: num_classes, image_size } = model;
  for (const text of passedOver) terminal.warn(`passed over ${text}; using ${checkpoint}`);
  for (const line of openedLines({ checkpoint, origin, model })) terminal.note(line);
  return { variant, width, num_classes, image_size };
}

function printReport(report: NetworkReport, terminal: Terminal): void {
  const timed = report.seconds !== undefined;
  terminal.print(`${report.network}, ${report.num_classes} classes, ${report.image_size} px`);
  terminal.table({
    head: ["layer", "kind", "output", "parameters", "multiply-adds", "bytes", ...(timed ? ["time"] : [])],
    align: ["left", "left", "left", "right", "right", "right", "right"],
    spare: [1, 5, 2],
    rows: report.layers.map((layer) => [
      layer.name,
      layer.kind,
      layer.shape.join(" x "),
      count(layer.parameters),
      millions(layer.multiply_adds),
      bytes(layer.bytes),
      ...(timed ? [percent(layer.share ?? 0)] : []),
    ]),
  });
  terminal.print(
    `${count(report.parameters)} parameters, ${millions(report.multiply_adds)} multiply-adds an image`,
  );
  const step = report.mode === "train" ? "training step" : "inference";
  terminal.print(
    `A ${step} of ${report.batch_size} images moves ${bytes(report.bytes)} ` +
      `and holds ${bytes(report.arena_bytes)} of planes` +
      (report.seconds === undefined ? "" : `; it took ${(1000 * report.seconds).toFixed(1)} ms`),
  );
}
