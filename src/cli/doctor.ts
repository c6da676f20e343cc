/**
 * `riffle doctor`: what was found on this machine, and whether it is good enough, one line each.
 */

import { doctor } from "../measure/doctor.js";
import type { CliCommand } from "./command.js";

export const doctorCommand: CliCommand = {
  name: "doctor",
  purpose: "Says what was found on this machine: engine, instruction sets, threads, memory, decoder.",
  examples: ["riffle doctor", "riffle doctor --json", "RIFFLE_ISA=avx2 riffle doctor"],
  run(_invocation, terminal) {
    const { ok, findings } = doctor();
    const width = Math.max(...findings.map((f) => f.name.length));
    const paint = { good: terminal.colour.green, slow: terminal.colour.yellow, missing: terminal.colour.red };
    for (const { name, found, verdict, advice } of findings) {
      terminal.print(`${name.padEnd(width)}  `, paint[verdict](verdict.padEnd(7)), `  ${found}`);
      if (advice) terminal.print(`${" ".repeat(width + 11)}${advice}`);
    }
    terminal.emit({ event: "end", ok, findings });
    return Promise.resolve(ok ? 0 : 6);
  },
};
