/** Runs the command line that the process was started with, prints its failure, sets the exit code. Importing it does so. */

import { commandOf } from "./command.js";
import { rankProcess } from "./rank-process.js";
import { reportError } from "./report-error.js";
import { runRiffle } from "./riffle.js";
import { ignoresHangUp } from "./stop.js";
import { openTerminal } from "./terminal.js";

const argv = process.argv.slice(2);
const [json, debug] = [argv.includes("--json"), argv.includes("--debug")];
if (ignoresHangUp()) process.on("SIGHUP", () => {});
process.exitCode = await run();
// Whatever still waits (a timer, a thread) has nothing to add; let what was written reach its reader.
process.stdout.write("", () => process.exit());

async function run(): Promise<number> {
  let terminal = openTerminal(json);
  let rank: ReturnType<typeof rankProcess>;
  try {
    // Of several ranks only those that train know of each other.
    if (["train", "finetune", "launch"].includes(commandOf(argv) ?? "")) rank = rankProcess(json);
    terminal = rank?.terminal ?? terminal;
    const code = await runRiffle(argv, terminal);
    // Who stopped it knows that it did not end.
    if (code < 128) await terminal.finish();
    return rank?.exitCode(code) ?? code;
  } catch (error) {
    terminal.keepGoing();
    return rank?.fail(error, debug) ?? reportError(error, terminal, debug);
  }
}
