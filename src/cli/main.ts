#!/usr/bin/env node
/** The program `riffle`: runs a command line, prints its failure, sets the exit code. */

import { reportError } from "./report-error.js";
import { runRiffle } from "./riffle.js";
import { openTerminal } from "./terminal.js";

const argv = process.argv.slice(2);
const terminal = openTerminal(argv.includes("--json"));
try {
  process.exitCode = await runRiffle(argv, terminal);
} catch (error) {
  process.exitCode = reportError(error, terminal, argv.includes("--debug"));
}
// Whatever still waits (a timer, a thread) has nothing to add; let what was written reach its reader.
process.stdout.write("", () => process.exit());
