/**
 * This process as one of several ranks: what of it is seen, and where the rest goes.
 *
 * Rank 0 prints as a process by itself would, the others nothing but why they fail. Under `riffle launch` all that a rank
 * prints stands in a log of its own too, and the launcher prints for it: what it gets of the failures makes one message.
 * Under a plain `mpirun` there is no launcher of ours, so a failure is printed here, with the rank before it.
 */

import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { Writable } from "node:stream";
import { stripVTControlCharacters } from "node:util";

import { environment } from "../core/environment.js";
import { DistributedError } from "../core/error.js";
import { currentRanks } from "../distributed/join.js";
import { STOP } from "../distributed/launcher.js";
import { type LaunchedRank, rankOfEnvironment } from "../distributed/rank-environment.js";
import { type AddLine, keepEnd, openRankLog } from "../distributed/rank-files.js";
import { messageLine, type RankMessage } from "../distributed/rank-messages.js";
import { failureOf, reportError } from "./report-error.js";
import { openTerminal, type Stream, type Terminal } from "./terminal.js";

export interface RankProcess {
  readonly terminal: Terminal;
  /** Tells why the process ends. @returns the exit code */
  fail(thrown: unknown, debug: boolean): Promise<number>;
  /** What the process ends with instead of a command's own exit code. */
  exitCode(code: number): number;
}

/** Nothing is to be said then: Hydra dies of what nobody reads, and all ranks with it. */
let isLauncherGone = false;

/** Milliseconds in which rank 0 says what befell all, so that nobody says it again. */
const FIRST_WORD = 1000;

/** undefined for a process that is no rank, or one of a launch of one. @throws DistributedError */
export function rankProcess(json: boolean): RankProcess | undefined {
  const rank = rankOfEnvironment();
  const folder = environment("RIFFLE_LAUNCH");
  if (folder === undefined) return rank === undefined || rank.size === 1 ? undefined : ofMpirun(rank, json);
  if (rank !== undefined) return ofLauncher(rank, folder, json);
  throw new DistributedError({
    what: "the launcher does not say which rank this process is",
    where: "environment variable RIFFLE_LAUNCH",
    expected: "variables of Open MPI, of the MPICH family or of Slurm beside it",
    found: "none",
    safe: "Nothing was written",
    hint: "Unset RIFFLE_LAUNCH, which only a launch of ours sets",
  });
}

/** How this process was started, to be pasted before the options of `train`. */
export function trainWords(): string {
  const ranks = rankOfEnvironment()?.size ?? 1;
  if (environment("RIFFLE_LAUNCH") !== undefined) return `npx riffle-vision launch --ranks ${ranks} -- train`;
  return ranks > 1 ? `mpirun -n ${ranks} npx riffle-vision train` : "npx riffle-vision train";
}

/** Calls `stop` when the launcher says so, or is gone; does nothing in a process that is not its rank 0. */
export function hearLauncher(stop: () => void): { release(): void } {
  if (environment("RIFFLE_LAUNCH") === undefined || rankOfEnvironment()?.rank !== 0) {
    return { release: () => undefined };
  }
  let rest = "";
  const heard = (bytes: Buffer): void => {
    const lines = (rest + bytes.toString("latin1")).split("\n");
    rest = lines.pop() ?? "";
    if (lines.includes(STOP)) stop();
  };
  const gone = (): void => {
    isLauncherGone = true;
    stop();
  };
  process.stdin.on("data", heard).on("end", gone);
  return {
    release: () => {
      process.stdin.off("data", heard).off("end", gone);
      process.stdin.pause();
    },
  };
}

function ofLauncher({ rank, size }: LaunchedRank, folder: string, json: boolean): RankProcess {
  process.stderr.on("error", () => undefined);
  const tell = (message: RankMessage): void => {
    if (!isLauncherGone) process.stderr.write(messageLine(message));
  };
  tell({ rank, size, pid: process.pid, host: hostname() });
  let stopped: number | undefined;
  process.on("exit", (code) => {
    const ended = code === 0 ? (stopped ?? 0) : code;
    keepEnd(folder, rank, ended);
    tell({ rank, ended });
  });

  const shown = (to: "stdout" | "stderr", text: string): void => {
    if (rank === 0) tell({ rank, to, text });
  };
  const log = openRankLog(folder, { rank, size }, (reason) => shown("stderr", `warning: ${reason}\n`));
  const [stdoutColumns = 0, stderrColumns = 0] = columnsOfLauncher();
  const printed = (to: "stdout" | "stderr", columns: number): Stream =>
    new TextStream(columns, (text) => {
      shown(to, text);
      addLines(log, text);
    });
  const terminal = openTerminal(json, {
    stdout: printed("stdout", stdoutColumns),
    stderr: printed("stderr", stderrColumns),
    drawing: new TextStream(rank === 0 ? stderrColumns : 0, (text) => shown("stderr", text)),
    record: log,
  });
  return {
    terminal,
    // The launcher hears of a stop; mpirun would take it for a failure, and has its own ways with those.
    exitCode: (code) => {
      if (code > 128) stopped = code;
      return code > 128 ? 0 : code;
    },
    fail: async (thrown, debug) => {
      currentRanks()?.failing();
      const { code, problem, lines, stack } = failureOf(thrown);
      for (const line of [`failed: ${lines[0] ?? ""}`, ...lines.slice(1)]) log(line);
      if (debug) {
        for (const line of stack) log(line);
        tell({ rank, to: "stderr", text: `${stack.join("\n")}\n` });
      }
      if (rank > 0) await sleep(FIRST_WORD);
      tell({ rank, failure: { ...problem, code } });
      // Open MPI may stop to listen when it hears of the end.
      await sleep(200);
      return code;
    },
  };
}

function ofMpirun({ rank }: LaunchedRank, json: boolean): RankProcess {
  // Open MPI gives its ranks a terminal of no columns for stdout, wherever what they print goes.
  const [stdout, stderr] = [passedTo(process.stdout), passedTo(process.stderr)];
  const nowhere = new TextStream(0, () => undefined);
  const terminal =
    rank === 0
      ? openTerminal(json, { stdout, stderr })
      : openTerminal(json, { stdout: nowhere, stderr: nowhere });
  return {
    terminal,
    // Rank 0 alone says that all were stopped: mpirun takes any such code for a failure, and ends the others.
    exitCode: (code) => (rank > 0 && code > 128 ? 0 : code),
    fail: async (thrown, debug) => {
      currentRanks()?.failing();
      if (rank === 0) return reportError(thrown, terminal, debug);
      await sleep(FIRST_WORD);
      const named = new TextStream(0, (text) =>
        addLines((line) => stderr.write(`[rank ${rank}] ${line}\n`), text),
      );
      const failing = openTerminal(json, { stdout, stderr: named });
      failing.keepGoing();
      return reportError(thrown, failing, debug);
    },
  };
}

/** The launcher's stdout and stderr, 0 for one that is no terminal. */
function columnsOfLauncher(): number[] {
  const text = environment("RIFFLE_TERMINAL") ?? "";
  return /^\d{1,5} \d{1,5}$/.test(text) ? text.split(" ").map(Number) : [];
}

function addLines(add: AddLine, text: string): void {
  const lines = stripVTControlCharacters(text).split("\n");
  if (lines.at(-1) === "") lines.pop();
  for (const line of lines) add(line);
}

/** A stream of ours that is no terminal, in front of one of the process's. */
function passedTo(stream: NodeJS.WriteStream): Stream {
  const passing = new TextStream(0, (text) => void stream.write(text));
  stream.on("error", (error) => passing.emit("error", error));
  return passing;
}

/** Hands on every text as it is written. */
class TextStream extends Writable {
  readonly isTTY: boolean;

  constructor(
    readonly columns: number,
    private readonly take: (text: string) => void,
  ) {
    super({ decodeStrings: false });
    this.isTTY = columns > 0;
  }

  override _write(text: string | Buffer, _encoding: string, done: () => void): void {
    this.take(String(text));
    done();
  }
}
