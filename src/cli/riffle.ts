/** The commands of `riffle`, and how a command line becomes one of them. */

import { CommanderError } from "commander";

import { riffleVersion } from "../core/version.js";
import { benchCommand } from "./bench.js";
import { buildParser, type CliCommand, normaliseArguments, parserFailure } from "./command.js";
import { dashboardCommand } from "./dashboard.js";
import { createTfrecordsCommand } from "./create-tfrecords.js";
import { demoCommand } from "./demo.js";
import { doctorCommand } from "./doctor.js";
import { evaluateCommand } from "./evaluate.js";
import { exploreImagenetCommand } from "./explore-imagenet.js";
import { exportCommand } from "./export.js";
import { finetuneCommand } from "./finetune.js";
import { findLrCommand } from "./find-lr.js";
import { helpCommand } from "./help.js";
import { importCommand } from "./import.js";
import { inspectCommand } from "./inspect.js";
import { planCommand } from "./plan.js";
import { predictCommand } from "./predict.js";
import { serveCommand } from "./serve.js";
import { reportCommand } from "./report.js";
import { showDataCommand } from "./show-data.js";
import { launchCommand } from "./launch.js";
import type { Terminal } from "./terminal.js";
import { trainCommand } from "./train.js";
import { verifyDataCommand } from "./verify-data.js";

export const commands: readonly CliCommand[] = [
  trainCommand,
  finetuneCommand,
  findLrCommand,
  evaluateCommand,
  predictCommand,
  serveCommand,
  dashboardCommand,
  reportCommand,
  launchCommand,
  showDataCommand,
  importCommand,
  inspectCommand,
  exploreImagenetCommand,
  createTfrecordsCommand,
  verifyDataCommand,
  exportCommand,
  benchCommand,
  planCommand,
  doctorCommand,
  demoCommand,
];

/**
 * Runs a command line, without the program's name.
 *
 * @returns the exit code
 * @throws what the command throws; UsageError where the line names no command or option of ours.
 */
export async function runRiffle(argv: readonly string[], terminal: Terminal): Promise<number> {
  let exitCode = 0;
  const help = helpCommand((topic) => {
    const command = topic === undefined ? parser : parser.commands.find((c) => c.name() === topic);
    command?.outputHelp();
    return command !== undefined;
  });
  const all = [...commands, help];
  const parser = buildParser(all, riffleVersion(), terminal, (code) => {
    exitCode = code;
  });
  try {
    await parser.parseAsync(argv.length === 0 ? ["help"] : normaliseArguments(all, argv), { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    // Help and the version come as errors too, with nothing to tell.
    const failure = parserFailure(error);
    if (failure !== undefined) throw failure;
  }
  return exitCode;
}
