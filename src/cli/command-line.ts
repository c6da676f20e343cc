/** A whole command line: runs it, prints its failure, gives the exit code. */

import { commandOf } from "./command.js";
import { rankProcess } from "./rank-process.js";
import { reportError } from "./report-error.js";
import { runRiffle } from "./riffle.js";
import { openTerminal, type Streams } from "./terminal.js";

/** @param streams where it prints: this process's, unless told. */
export async function runCommandLine(argv: readonly string[], streams?: Streams): Promise<number> {
  const [json, debug] = [argv.includes("--json"), argv.includes("--debug")];
  let terminal = openTerminal(json, streams);
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
