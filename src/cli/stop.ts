/**
 * Stopping on request without loss: the first Ctrl-C (or SIGTERM, SIGHUP) lets the step in progress
 * end and be saved, the second ends at once.
 *
 * The handler only sets a flag: saving happens where the work is, never inside it.
 */

import type { Terminal } from "./terminal.js";

export interface StopRequest {
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
  let exitCode = 0;
  const onSignal = (name: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(exitCode);
    exitCode = 128 + NUMBERS[name as keyof typeof NUMBERS];
    // A terminal shows "^C" where the cursor stands; begin on a line of one's own.
    terminal.note(`\n${announcement()}`);
    controller.abort();
  };
  const names = Object.keys(NUMBERS) as (keyof typeof NUMBERS)[];
  for (const name of names) process.on(name, onSignal);
  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode;
    },
    release: () => {
      for (const name of names) process.off(name, onSignal);
    },
  };
}
