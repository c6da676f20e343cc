/**
 * `riffle doctor`: what was found on this machine, and whether it is good enough, one line each.
 *
 * It answers the first questions of any report about speed or a failed install.
 */

import sharp from "sharp";

import { machine, type Machine } from "../backends/native/index.js";
import { RiffleError } from "../core/error.js";
import { availableMemory } from "../train/memory.js";
import type { CliCommand } from "./command.js";
import { bytes } from "./format.js";
import { problemLines } from "./report-error.js";

interface Finding {
  readonly name: string;
  readonly found: string;
  readonly verdict: "good" | "slow" | "missing";
  /** What follows from it, or what to do. */
  readonly advice: string;
}

export const doctorCommand: CliCommand = {
  name: "doctor",
  purpose: "Says what was found on this machine: engine, instruction sets, threads, memory, decoder.",
  examples: ["riffle doctor", "riffle doctor --json", "RIFFLE_ISA=avx2 riffle doctor"],
  run(_invocation, terminal) {
    const findings = [...engine(), memory(), node()];
    const width = Math.max(...findings.map((f) => f.name.length));
    for (const { name, found, verdict, advice } of findings) {
      const paint = {
        good: terminal.colour.green,
        slow: terminal.colour.yellow,
        missing: terminal.colour.red,
      };
      terminal.print(`${name.padEnd(width)}  ${paint[verdict](verdict.padEnd(7))}  ${found}`);
      if (advice) terminal.print(`${" ".repeat(width + 11)}${advice}`);
    }
    const ok = findings.every((f) => f.verdict !== "missing");
    terminal.emit({ event: "end", ok, findings });
    return Promise.resolve(ok ? 0 : 6);
  },
};

/** The native engine and what it says of the machine. */
function engine(): Finding[] {
  let found: Machine;
  try {
    found = machine();
  } catch (error) {
    if (!(error instanceof RiffleError)) throw error;
    return [
      { name: "engine", found: "not built", verdict: "missing", advice: problemLines(error).join(" ") },
    ];
  }
  const vectors = found.isa !== "sse2";
  return [
    { name: "engine", found: `built by ${found.compiler}`, verdict: "good", advice: "" },
    {
      name: "instruction set",
      found: `${found.isa} (this machine runs ${found.available.join(", ")})`,
      verdict: vectors ? "good" : "slow",
      advice: vectors ? "" : "Without AVX2 the engine runs at a fraction of its speed",
    },
    {
      name: "threads",
      found: `${found.threads}`,
      verdict: found.threads > 1 ? "good" : "slow",
      advice: found.threads > 1 ? "" : "Decoding and training share one core",
    },
    found.libjpeg
      ? { name: "JPEG decoder", found: "libjpeg-turbo", verdict: "good", advice: "" }
      : {
          name: "JPEG decoder",
          found: `sharp ${sharp.versions.sharp ?? ""}`.trim(),
          verdict: "slow",
          advice: "Install libjpeg-turbo's headers (Debian: libjpeg62-turbo-dev) and run npm run build",
        },
  ];
}

/** Below this the default batch of the paper's network does not fit. */
const ENOUGH_MEMORY = 2e9;

/** What this process may still take: containers and ulimit limit it below what the machine has. */
function memory(): Finding {
  const limit = availableMemory();
  const enough = limit.bytes >= ENOUGH_MEMORY;
  return {
    name: "memory",
    found: `${bytes(limit.bytes)} (${limit.source})`,
    verdict: enough ? "good" : "slow",
    advice: enough ? "" : "Train with a smaller --batch_size or --image_size",
  };
}

function node(): Finding {
  return { name: "Node", found: process.version, verdict: "good", advice: "" };
}
