#!/usr/bin/env node
/**
 * The command `riffle`: picks the command, prints its failure, sets the exit code.
 *
 * Nothing is computed here; each command is a file of its own beside this one.
 */

import { readFileSync } from "node:fs";

import { CommanderError } from "commander";

import { demoCommand } from "./demo.js";
import { benchCommand } from "./bench.js";
import { buildParser, type CliCommand, normaliseArguments, parserFailure } from "./command.js";
import { doctorCommand } from "./doctor.js";
import { evaluateCommand } from "./evaluate.js";
import { helpCommand } from "./help.js";
import { inspectCommand } from "./inspect.js";
import { predictCommand } from "./predict.js";
import { reportError } from "./report-error.js";
import { openTerminal, type Terminal } from "./terminal.js";
import { trainCommand } from "./train.js";

const commands = [
  trainCommand,
  evaluateCommand,
  predictCommand,
  inspectCommand,
  benchCommand,
  doctorCommand,
  demoCommand,
];

process.exitCode = await main(process.argv.slice(2));
// Whatever still waits (a worker, a socket) has nothing to add; let what was written reach its reader.
process.stdout.write("", () => process.exit());

async function main(argv: readonly string[]): Promise<number> {
  const terminal = openTerminal(argv.includes("--json"));
  try {
    return await runCommand(argv, terminal);
  } catch (error) {
    if (!(error instanceof CommanderError)) return reportError(error, terminal, argv.includes("--debug"));
    const failure = parserFailure(error);
    return failure === undefined ? 0 : reportError(failure, terminal, false);
  }
}

async function runCommand(argv: readonly string[], terminal: Terminal): Promise<number> {
  let exitCode = 0;
  const help = helpCommand((topic) => {
    const command = topic === undefined ? parser : parser.commands.find((c) => c.name() === topic);
    command?.outputHelp();
    return command !== undefined;
  });
  const all: readonly CliCommand[] = [...commands, help];
  const parser = buildParser(all, version(), terminal, (code) => {
    exitCode = code;
  });
  await parser.parseAsync(argv.length === 0 ? ["help"] : normaliseArguments(all, argv), { from: "user" });
  return exitCode;
}

function version(): string {
  const file = new URL("../../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
