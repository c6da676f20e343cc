/** A command line in this process, and what it prints: for tests whose servers or tables are this process's own. */

import { PassThrough } from "node:stream";
import { setImmediate } from "node:timers/promises";

import { runRiffle } from "../../src/cli/riffle.js";
import { openTerminal } from "../../src/cli/terminal.js";

export interface Printed {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** @throws what the command throws */
export async function inProcess(argv: readonly string[]): Promise<Printed> {
  const printed = { stdout: "", stderr: "" };
  const stream = (name: keyof typeof printed): PassThrough =>
    new PassThrough().setEncoding("utf8").on("data", (text: string) => (printed[name] += text));
  const terminal = openTerminal(argv.includes("--json"), {
    stdout: stream("stdout"),
    stderr: stream("stderr"),
  });
  const code = await runRiffle(argv, terminal);
  await setImmediate();
  return { code, ...printed };
}
