/** A command line in this process, and what it prints: for tests whose servers or tables are this process's own. */

import { PassThrough } from "node:stream";
import { setImmediate } from "node:timers/promises";

import { reportError } from "../../src/cli/report-error.js";
import { runRiffle } from "../../src/cli/riffle.js";
import { openTerminal, type Terminal } from "../../src/cli/terminal.js";

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
  const { terminal, printed } = keptTerminal(argv);
  const code = await runRiffle(argv, terminal);
  await setImmediate();
  return { code, ...printed };
}

/** As a process of its own would end (src/cli/start.ts), without the half second that one takes. */
export async function outcomeOf(argv: readonly string[]): Promise<Outcome> {
  const { terminal, printed } = keptTerminal(argv);
  const status = await runRiffle(argv, terminal).catch((error: unknown) =>
    reportError(error, terminal, argv.includes("--debug")),
  );
  await setImmediate();
  return { status, ...printed };
}

function keptTerminal(argv: readonly string[]): {
  terminal: Terminal;
  printed: { stdout: string; stderr: string };
} {
  const printed = { stdout: "", stderr: "" };
  const stream = (name: keyof typeof printed): PassThrough =>
    new PassThrough().setEncoding("utf8").on("data", (text: string) => (printed[name] += text));
  const streams = { stdout: stream("stdout"), stderr: stream("stderr") };
  return { terminal: openTerminal(argv.includes("--json"), streams), printed };
}
