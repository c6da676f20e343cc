/**
 * `riffle doctor`: what was found on this machine, and whether it is good enough, one line each.
 */

import { keptTuningText } from "../backends/autotune.js";
import { shortPath } from "../core/short-path.js";
import { doctor } from "../measure/doctor.js";
import type { CliCommand } from "./command.js";

export const doctorCommand: CliCommand = {
  name: "doctor",
  purpose:
    "Says what was found on this machine: engine, instruction sets, threads, memory, decoder, kept tunings.",
  examples: [
    "npx riffle-vision doctor",
    "npx riffle-vision doctor --json",
    "RIFFLE_ISA=avx2 npx riffle-vision doctor",
  ],
  run(_invocation, terminal) {
    const { ok, findings, tunings } = doctor();
    const width = Math.max(...findings.map((f) => f.name.length));
    const paint = { good: terminal.colour.green, slow: terminal.colour.yellow, missing: terminal.colour.red };
    for (const { name, found, verdict, advice } of findings) {
      terminal.print(`${name.padEnd(width)}  `, paint[verdict](verdict.padEnd(7)), `  ${found}`);
      if (advice) terminal.print(`${" ".repeat(width + 11)}${advice}`);
    }
    const colour = {
      current: terminal.colour.green,
      stale: terminal.colour.yellow,
      damaged: terminal.colour.yellow,
    };
    for (const tuning of tunings) {
      terminal.print(
        `${"tuning".padEnd(width)}  `,
        colour[tuning.state](tuning.state.padEnd(7)),
        `  ${keptTuningText(tuning)}`,
      );
      terminal.print(`${" ".repeat(width + 11)}${shortPath(tuning.file)}`);
    }
    terminal.emit({ event: "end", ok, findings, tunings });
    return Promise.resolve(ok ? 0 : 6);
  },
};
