#!/usr/bin/env node
/** The program `riffle`: runs a command line, prints its failure, sets the exit code. */

import { reportError } from "./report-error.js";
import { runRiffle } from "./riffle.js";
import { ignoresHangUp } from "./stop.js";
import { openTerminal } from "./terminal.js";

const argv = process.argv.slice(2);
const terminal = openTerminal(argv.includes("--json"));
if (ignoresHangUp()) process.on("SIGHUP", () => {});
try {
  process.exitCode = await runRiffle(argv, terminal);
  // Who stopped it knows that it did not end.
  if (process.exitCode < 128) await terminal.finish();
} catch (error) {
  terminal.keepGoing();
  process.exitCode = reportError(error, terminal, argv.includes("--debug"));
}
// Whatever still waits (a timer, a thread) has nothing to add; let what was written reach its reader.
process.stdout.write("", () => process.exit());
