/** `riffle dashboard`: runs as they train, in a browser, until it is told to stop. */

import { existsSync } from "node:fs";
import { resolve } from "node:path";

import { closing } from "../core/closing.js";
import { CheckpointError, errorCode, RiffleError, UsageError } from "../core/error.js";
import { shortPath } from "../core/short-path.js";
import { MOST_RUNS, startDashboard } from "../serve/dashboard.js";
import type { Listening, RunningServer } from "../serve/route-server.js";
import type { CliCommand, Invocation } from "./command.js";
import { shellWord } from "./format.js";
import { knownRunLines, runsNear } from "./known-runs.js";
import { addressOf, isAborted, listeningOptions, readListening, warnOpen } from "./listening.js";
import { failureOf } from "./report-error.js";
import { titled } from "./report-run.js";
import { listenForStop } from "./stop.js";
import type { Terminal } from "./terminal.js";

/** Where it is usual, and so many next ones are tried where others listen there. */
const PORT = 6060;
const PORTS_TRIED = 10;

export const dashboardCommand: CliCommand = {
  name: "dashboard",
  arguments: "[runs...]",
  purpose:
    "Shows runs in a browser as they train, or as they ended: curves, pace, time left; several are compared. It only reads.",
  examples: [
    "npx riffle-vision dashboard",
    "npx riffle-vision dashboard runs/a runs/b",
    "npx riffle-vision dashboard runs --port 0 --json",
  ],
  options: {
    Server: listeningOptions(PORT, "sends what it shows unencrypted"),
  },
  run: dashboard,
};

async function dashboard(invocation: Invocation, terminal: Terminal): Promise<number> {
  const options = readListening(invocation, PORT);
  const find = finder(invocation.arguments);
  return closing(async (atEnd) => {
    const onFailure = (error: unknown): void => terminal.note(`failed: ${failureOf(error).lines.join("; ")}`);
    const server = await listen({ ...options, find, onFailure }, invocation.own.has("port"));
    atEnd(() => server.close());
    const stop = listenForStop(terminal, () => "Stopping; the runs are as they were.");
    atEnd(() => stop.release());
    announce(server.port, options, find(), terminal);
    await isAborted(stop.signal);
    await server.close();
    terminal.emit({ event: "stopped" });
    return 0;
  });
}

/**
 * What is watched: the folders named, a folder of runs with what is in it, or without any those below the working directory,
 * also those that begin later.
 *
 * @throws CheckpointError where a path is no run and has none below it; UsageError for too many
 */
function finder(named: readonly string[]): () => string[] {
  if (named.length === 0) return () => runsNear(".");
  const find = (): string[] => [...new Set(named.flatMap((path) => runsNear(path)))];
  for (const path of named) {
    if (runsNear(path).length > 0) continue;
    throw new CheckpointError({
      what: existsSync(path) ? "there is no run in this folder" : "there is nothing of this name",
      where: resolve(path),
      expected: "a run's folder, with events.jsonl or recipe.json in it, or a folder of runs",
      table: knownRunLines(),
      safe: "Nothing was written",
      hint: "Name a run, or leave it out to watch all runs below this folder",
    });
  }
  if (named.length > MOST_RUNS) {
    throw new UsageError({
      what: "so many runs cannot be told apart",
      expected: `at most ${MOST_RUNS} runs`,
      found: String(named.length),
      safe: "Nothing was written",
    });
  }
  return find;
}

/** Where the port was not named, the next that is free. */
async function listen(
  options: Listening & {
    readonly find: () => readonly string[];
    readonly onFailure: (error: unknown) => void;
  },
  isNamed: boolean,
): Promise<RunningServer> {
  const tried = isNamed ? 1 : PORTS_TRIED;
  for (let i = 0; ; i++) {
    try {
      return await startDashboard({ ...options, port: options.port + i });
    } catch (error) {
      const isTaken = error instanceof RiffleError && errorCode(error.cause) === "EADDRINUSE";
      if (!isTaken || i + 1 >= tried) throw error;
    }
  }
}

function announce(port: number, options: Listening, runs: readonly string[], terminal: Terminal): void {
  const { url, page } = addressOf(options, port);
  const shown = runs.slice(0, MOST_RUNS);
  terminal.emit({ event: "serving", url, token: options.token ?? null, runs: shown });
  const names = shown.map((run) => shellWord(shortPath(run))).join(", ");
  const more = runs.length > shown.length ? `, and ${runs.length - shown.length} older ones not shown` : "";
  const none = "none yet below this folder; one that begins here will appear";
  terminal.note(titled("Runs", runs.length === 0 ? none : `${names}${more}`));
  warnOpen(options, "the token and what is shown", terminal);
  terminal.print(titled("Dashboard", `${page} (Ctrl-C stops)`));
}
