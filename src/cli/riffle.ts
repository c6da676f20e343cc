/** The commands of `riffle`, and how a command line becomes one of them. */

import { CommanderError } from "commander";

import { riffleVersion } from "../core/version.js";
import { buildParser, type CliCommand, commandOf, normaliseArguments, parserFailure } from "./command.js";
import { helpCommand } from "./help.js";
import type { Terminal } from "./terminal.js";

/**
 * Each command in its file, which is loaded when the command is called: all of them take half a second of processor. In the
 * order of the help.
 */
const commandFiles: Readonly<Record<string, () => Promise<CliCommand>>> = {
  train: async () => (await import("./train.js")).trainCommand,
  finetune: async () => (await import("./finetune.js")).finetuneCommand,
  "find-lr": async () => (await import("./find-lr.js")).findLrCommand,
  evaluate: async () => (await import("./evaluate.js")).evaluateCommand,
  predict: async () => (await import("./predict.js")).predictCommand,
  serve: async () => (await import("./serve.js")).serveCommand,
  dashboard: async () => (await import("./dashboard.js")).dashboardCommand,
  report: async () => (await import("./report.js")).reportCommand,
  launch: async () => (await import("./launch.js")).launchCommand,
  "show-data": async () => (await import("./show-data.js")).showDataCommand,
  import: async () => (await import("./import.js")).importCommand,
  inspect: async () => (await import("./inspect.js")).inspectCommand,
  "explore-imagenet": async () => (await import("./explore-imagenet.js")).exploreImagenetCommand,
  "create-tfrecords": async () => (await import("./create-tfrecords.js")).createTfrecordsCommand,
  "verify-data": async () => (await import("./verify-data.js")).verifyDataCommand,
  export: async () => (await import("./export.js")).exportCommand,
  bench: async () => (await import("./bench.js")).benchCommand,
  plan: async () => (await import("./plan.js")).planCommand,
  doctor: async () => (await import("./doctor.js")).doctorCommand,
  demo: async () => (await import("./demo.js")).demoCommand,
};

/** Every command. */
export function allCommands(): Promise<CliCommand[]> {
  return Promise.all(Object.values(commandFiles).map((load) => load()));
}

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
  const all = [...(await commandsFor(argv)), help];
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

/** The command that a line calls, or all of them where it is about them, or names none. */
async function commandsFor(argv: readonly string[]): Promise<CliCommand[]> {
  const name = commandOf(argv) ?? "";
  const load = Object.hasOwn(commandFiles, name) ? commandFiles[name] : undefined;
  return load === undefined ? allCommands() : [await load()];
}
