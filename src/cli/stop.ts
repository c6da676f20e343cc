/**
 * Stopping on request without loss: the first Ctrl-C (or SIGTERM, SIGHUP) lets the step in progress
 * end and be saved, the second ends at once.
 *
 * The handler only sets a flag: saving happens where the work is, never inside it.
 *
 * A rank of a launch stops with the others, and only its launcher ends it at once: a second signal may be the launcher's
 * own, sent to all, while the last checkpoint is being written.
 */

import { fstatSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { isatty } from "node:tty";

import { environment } from "../core/environment.js";
import { rankOfEnvironment } from "../distributed/rank-environment.js";
import { hearLauncher } from "./rank-process.js";
import type { Terminal } from "./terminal.js";

interface StopRequest {
  /** Aborts at the first request. */
  readonly signal: AbortSignal;
  /** 128 plus the signal's number: what a shell reports for a process ended by it. */
  readonly exitCode: number;
  /** Signals go their usual way again. */
  release(): void;
}

const NUMBERS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

/** `announcement` is printed at the first request; it says what will happen and how to quit at once. */
export function listenForStop(terminal: Terminal, announcement: () => string): StopRequest {
  const controller = new AbortController();
  // What a rank ends with that was asked by another.
  let exitCode: number = 128 + NUMBERS.SIGTERM;
  const isRank = (rankOfEnvironment()?.size ?? 1) > 1;
  const onRequest = (code: number): void => {
    if (controller.signal.aborted) {
      if (isRank) return;
      process.exit(exitCode);
    }
    exitCode = code;
    terminal.interrupt(announcement());
    controller.abort();
  };
  const signals = hearSignals(onRequest);
  const launcher = hearLauncher(() => onRequest(128 + NUMBERS.SIGTERM));
  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode;
    },
    release: () => {
      launcher.release();
      signals.release();
    },
  };
}

/** Calls `heard` with 128 plus the number of each signal that asks to stop. */
export function hearSignals(heard: (code: number) => void): { release(): void } {
  const hearsHangUp = !ignoresHangUp();
  const names = (Object.keys(NUMBERS) as (keyof typeof NUMBERS)[]).filter(
    (name) => name !== "SIGHUP" || hearsHangUp,
  );
  const onSignal = (name: NodeJS.Signals): void => heard(128 + NUMBERS[name as keyof typeof NUMBERS]);
  for (const name of names) process.on(name, onSignal);
  return {
    release: () => {
      for (const name of names) process.off(name, onSignal);
    },
  };
}

/**
 * Whether a hang-up was ignored when the program was started, by nohup or by a shell's `trap '' HUP`.
 *
 * Node takes ignored signals back to their default before a line of ours runs, so it is told by what else shows: nohup
 * started us, the process that started us ignores it, or nobody is there to hang up, which is how nohup leaves a program:
 * no terminal for input, and output to files alone.
 */
export function ignoresHangUp(): boolean {
  if (basename(environment("_") ?? "") === "nohup") return true;
  if (!isatty(0) && [1, 2].every(isFile)) return true;
  try {
    const ignored = /^SigIgn:\s*([0-9a-f]+)$/m.exec(
      readFileSync(`/proc/${process.ppid}/status`, "utf8"),
    )?.[1];
    return (BigInt(`0x${ignored ?? "0"}`) & 1n) === 1n;
  } catch {
    return false;
  }
}

/** A file, or a device that is no terminal. */
function isFile(descriptor: number): boolean {
  if (isatty(descriptor)) return false;
  const found = fstatSync(descriptor);
  return !found.isFIFO() && !found.isSocket();
}
