/**
 * Starts ranks by `mpirun` and watches over them until no process of theirs is left.
 *
 * `mpirun` runs in a session of its own, so that Ctrl-C reaches the launcher alone: a stop is asked for by a line on
 * stdin, which every `mpirun` hands to rank 0, since what it does with a signal differs (Open MPI kills within seconds,
 * Hydra passes it on). When one rank ends badly the others get a few seconds, whatever `mpirun` does about it.
 */

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { constants, hostname, tmpdir } from "node:os";
import { join } from "node:path";

import { ResourceError } from "../core/error.js";
import { RANK_SHELL } from "./launch-command.js";
import { descendants, isRunning, signalAll } from "./processes.js";
import { type RankFailure, type RankMessage, RankMessageReader } from "./rank-messages.js";

/** What rank 0 reads from stdin when it is to stop. */
export const STOP = "stop";

/** Milliseconds that ranks have to end by themselves when one has ended badly. */
const GRACE = 5000;
/** Milliseconds that `mpirun` has to end by itself when its ranks were killed. */
const LAST_GRACE = 2000;

/** What a rank's watch prints, outside of JavaScript: native/ranks/watch.cc. */
const WATCH = /^riffle: (rank \d+ .*)$/;
const WARNING = /; it is waited for until /;

export interface RanksCommand {
  readonly path: string;
  readonly argv: readonly string[];
  readonly ranks: number;
  /** A word by which a rank's command line is known. */
  readonly word: string;
  readonly environment: NodeJS.ProcessEnv;
}

export interface RanksListener {
  /** Rank 0 prints. */
  output(to: "stdout" | "stderr", text: string): void;
  /** A rank's watch warns: another is late, and still waited for. */
  warned(line: string): void;
  /** A line of `mpirun`, of the MPI library, or of a rank that did not mean it for us. */
  said(line: string): void;
}

/** What is known of a rank. */
export interface RankState {
  readonly pid?: number;
  readonly host?: string;
  /** Why it ended, in its own words. */
  readonly failure?: RankFailure;
  /** The code with which it ended by itself. */
  readonly ended?: number;
  /** What its shell says of it, other than 0; missing too where nobody could say. */
  readonly status?: number;
}

export interface RanksEnd {
  /** The exit code of `mpirun`, or 128 and the signal that ended it. */
  readonly code: number;
  readonly ranks: ReadonlyMap<number, RankState>;
  /** The first that ended badly, or said why it would. */
  readonly first: number | undefined;
  /** The last word of a rank's watch, which ends its process with it: what has happened to which rank. */
  readonly verdict: string | undefined;
  /** Whether they were killed, here or by {@link RunningRanks.kill}. */
  readonly killed: boolean;
}

export interface RunningRanks {
  /** Lets the step in progress end and be saved. */
  stop(): void;
  /** Ends all of them at once. */
  kill(): void;
  /** @throws ResourceError where `mpirun` cannot be started */
  readonly ended: Promise<RanksEnd>;
}

export function startRanks(command: RanksCommand, listener: RanksListener): RunningRanks {
  // What mpirun keeps on the disk; it has no time to remove it when it is killed.
  const scratch = mkdtempSync(join(tmpdir(), "riffle-launch-"));
  const child = spawn(command.path, command.argv, {
    detached: true,
    stdio: "pipe",
    env: { ...command.environment, TMPDIR: scratch },
  });
  const ranks = new Map<number, RankState>();
  let first: number | undefined;
  let verdict: string | undefined;
  let killed = false;
  let grace: NodeJS.Timeout | undefined;
  let over: NodeJS.Timeout | undefined;
  // Open MPI goes to sleep for as long as a rank might take to end, deaf to their last words too.
  const watch = setInterval(() => {
    const isOver = ranks.size === command.ranks && [...ranks.values()].every(isGone);
    if (!isOver || child.pid === undefined) return;
    over ??= setTimeout(
      killWhole,
      first === undefined && verdict === undefined ? LAST_GRACE : 500,
      child.pid,
    );
  }, 250);

  /** The ranks of this machine that have not ended, as they said themselves. */
  const left = (): number[] =>
    [...ranks.values()].flatMap((state) =>
      state.pid !== undefined && state.host === hostname() && !hasEnded(state) ? [state.pid] : [],
    );
  const isGone = (state: RankState): boolean =>
    hasEnded(state) ||
    (state.pid !== undefined && state.host === hostname() && !isRunning(state.pid, command.word));
  const killLeft = (): void => {
    signalAll(
      left().filter((pid) => isRunning(pid, command.word)),
      "SIGKILL",
    );
  };
  const kill = (): void => {
    killed = true;
    clearTimeout(grace);
    if (child.pid === undefined) return;
    signalAll(rankProcesses(child.pid), "SIGKILL");
    killLeft();
    // What runs on other machines is ended by their daemons, which this asks.
    signalAll([child.pid], "SIGTERM");
    grace = setTimeout(() => killWhole(child.pid as number), LAST_GRACE);
  };
  const endsBadly = (rank: number): void => {
    first ??= rank;
    grace ??= setTimeout(kill, GRACE);
  };
  const said = (line: string): void => {
    listener.said(line);
    const [, words] = WATCH.exec(line) ?? [];
    if (words === undefined) return;
    if (WARNING.test(words)) return listener.warned(words);
    verdict ??= words.replace(/\.$/, "");
    grace ??= setTimeout(kill, GRACE);
  };
  const heard = (message: RankMessage): void => {
    const { rank } = message;
    if ("to" in message) {
      // What the others do after one has failed, mpirun's signals made them do.
      if (first === undefined && verdict === undefined) listener.output(message.to, message.text);
      return;
    }
    ranks.set(rank, { ...ranks.get(rank), ...message });
    if ("failure" in message || "status" in message) endsBadly(rank);
  };

  const readers = [child.stdout, child.stderr].map((stream) => {
    const reader = new RankMessageReader(heard, said);
    stream.on("data", (bytes: Buffer) => reader.read(bytes));
    return reader;
  });
  // It may end before it has read what we say.
  child.stdin.on("error", () => {});
  const ended = new Promise<RanksEnd>((resolve, reject) => {
    child.on("error", (error) => {
      clearInterval(watch);
      reject(
        new ResourceError(
          {
            what: `mpirun does not start: ${error.message}`,
            where: command.path,
            safe: "Nothing was started",
          },
          error,
        ),
      );
    });
    child.on("exit", () => {
      clearInterval(watch);
      clearTimeout(over);
      // A process that outlives mpirun holds its pipes open.
      clearTimeout(grace);
      grace = setTimeout(killLeft, LAST_GRACE);
    });
    child.on("close", (code, signal) => {
      clearTimeout(grace);
      for (const reader of readers) reader.end();
      killLeft();
      resolve({ code: code ?? 128 + constants.signals[signal ?? "SIGKILL"], ranks, first, verdict, killed });
    });
  });
  void ended
    .catch(() => undefined)
    .then(() => rmSync(scratch, { recursive: true, force: true }))
    .catch(() => undefined);
  return { stop: () => child.stdin.write(`${STOP}\n`), kill, ended };
}

function hasEnded({ ended, status }: RankState): boolean {
  return ended !== undefined || status !== undefined;
}

/** The shells of ranks that descend from `mpirun`, and what runs in them. */
function rankProcesses(mpirun: number): number[] {
  const shells = descendants(mpirun).filter(({ commandLine }) => commandLine.includes(RANK_SHELL));
  return shells.flatMap(({ pid }) => [pid, ...descendants(pid).map((below) => below.pid)]);
}

/** `mpirun`, its group and all below it, whatever they are. */
function killWhole(mpirun: number): void {
  signalAll([...descendants(mpirun).map(({ pid }) => pid), -mpirun], "SIGKILL");
}
