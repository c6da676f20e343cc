/** A command line in this process, and what it prints: for tests whose servers or tables are this process's own. */

import { PassThrough } from "node:stream";
import { setImmediate } from "node:timers/promises";

import { runCommandLine } from "../../src/cli/command-line.js";
import { runRiffle } from "../../src/cli/riffle.js";
import { openTerminal, type Streams } from "../../src/cli/terminal.js";

export interface Printed {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What `spawnSync` gives of a command, in fewer words. */
export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** @throws what the command throws */
export async function inProcess(argv: readonly string[]): Promise<Printed> {
  const { streams, printed } = keptStreams();
  const code = await runRiffle(argv, openTerminal(argv.includes("--json"), streams));
  await setImmediate();
  return { code, ...printed };
}

/** As a process of its own would end, without the half second that one takes; what goes to `elsewhere` is not kept. */
export async function outcomeOf(argv: readonly string[], elsewhere: Partial<Streams> = {}): Promise<Outcome> {
  const { streams, printed } = keptStreams();
  const status = await runCommandLine(argv, { ...streams, ...elsewhere });
  await setImmediate();
  return { status, ...printed };
}

function keptStreams(): { streams: Streams; printed: { stdout: string; stderr: string } } {
  const printed = { stdout: "", stderr: "" };
  const stream = (name: keyof typeof printed): PassThrough =>
    new PassThrough().setEncoding("utf8").on("data", (text: string) => (printed[name] += text));
  return { streams: { stdout: stream("stdout"), stderr: stream("stderr") }, printed };
}
