/**
 * `riffle inspect`: what a network consists of and costs, step by step; with --time, where the time goes.
 */

import Table from "cli-table3";

import { describe, totals } from "../program/print.js";
import type { CliCommand } from "./command.js";
import { bytes, count, millions, percent } from "./format.js";
import { type Mode, networkOf, openWorkload, programDefaults, programSettings } from "./workload.js";

const WARM_UP = 2;
const TIMED = 5;

export const inspectCommand: CliCommand = {
  name: "inspect",
  purpose: "Prints a network's layers: shape, parameters, multiply-adds, bytes moved, share of time.",
  examples: [
    "riffle inspect --width 1.0",
    "riffle inspect --width 0.5 --image_size 96 --num_classes 10 --time",
    "riffle inspect --width 2.0 --variant torchvision --json",
  ],
  settings: [...programSettings, "threads"],
  defaults: programDefaults,
  aliases: { classes: "num_classes" },
  options: [
    {
      name: "time",
      group: "Measuring",
      help: "run a few steps on made-up pictures and show each layer's share",
    },
    {
      name: "infer",
      group: "Measuring",
      help: "count bytes and time of inference instead of a training step",
      default: "training",
    },
  ],
  async run({ settings, own }, terminal) {
    const mode: Mode = own.has("infer") ? "infer" : "train";
    const network = networkOf(settings);
    const program = network.compile(mode);
    const rows = describe(program);
    const total = totals(program);
    const seconds = own.has("time")
      ? await timeSteps(program, network.settings.variant, settings.threads ?? 0)
      : [];
    const all = seconds.reduce((sum, s) => sum + s, 0);

    terminal.emit({
      network: network.name,
      image_size: program.imageSize,
      batch_size: program.batch,
      mode,
      parameters: total.parameters,
      multiply_adds: total.multiplyAdds,
      bytes: total.bytes,
      arena_bytes: total.arenaBytes,
      layers: rows.map((row, i) => ({
        name: row.name,
        kind: row.kind,
        shape: row.outputShape,
        parameters: row.parameters,
        multiply_adds: row.multiplyAdds,
        bytes: row.bytes,
        ...(all > 0 ? { seconds: seconds[i], share: (seconds[i] ?? 0) / all } : {}),
      })),
    });
    if (terminal.json) return 0;

    const table = new Table({
      head: ["layer", "kind", "output", "parameters", "multiply-adds", "bytes", ...(all > 0 ? ["time"] : [])],
      colAligns: ["left", "left", "left", "right", "right", "right", "right"],
      style: { head: [], border: [], compact: true },
    });
    rows.forEach((row, i) =>
      table.push([
        row.name,
        row.kind,
        row.outputShape.join(" x "),
        count(row.parameters),
        millions(row.multiplyAdds),
        bytes(row.bytes),
        ...(all > 0 ? [percent((seconds[i] ?? 0) / all)] : []),
      ]),
    );
    terminal.print(`${network.name}, ${program.classes} classes, ${program.imageSize} px`);
    terminal.print(table.toString());
    terminal.print(
      `${count(total.parameters)} parameters, ${millions(total.multiplyAdds)} multiply-adds an image`,
    );
    const step = mode === "train" ? "training step" : "inference";
    terminal.print(
      `A ${step} of ${program.batch} images moves ${bytes(total.bytes)} ` +
        `and holds ${bytes(total.arenaBytes)} of planes` +
        (all > 0 ? `; it took ${(1000 * all).toFixed(1)} ms` : ""),
    );
    return 0;
  },
};

/** Mean seconds of each step of the program, both directions together. */
async function timeSteps(...workload: Parameters<typeof openWorkload>): Promise<number[]> {
  const run = await openWorkload(...workload);
  try {
    const sums = new Array<number>(workload[0].steps.length).fill(0);
    for (let i = 0; i < WARM_UP + TIMED; i++) {
      await run.step();
      if (i >= WARM_UP) run.seconds.forEach((s, k) => (sums[k] = (sums[k] ?? 0) + s / TIMED));
    }
    return sums;
  } finally {
    run.close();
  }
}
