/**
 * A worker of Node's: of one run after the other a thread of the engine, or the one that calls it.
 */

import { parentPort } from "node:worker_threads";

import { MemoryError } from "../../core/wasm-module.js";
import {
  type CalledFunction,
  callIn,
  type CallerStart,
  type Exports,
  joined,
  type ThreadStart,
  work,
} from "./instance.js";

/** What it is told. */
export type Told =
  | { readonly join: ThreadStart }
  | {
      readonly call: CalledFunction;
      readonly args: readonly number[];
      /** With the first call of a run. */
      readonly start: CallerStart | undefined;
    }
  | "end";

/** What it says of a call; an error keeps its name on the way, but not its code. */
export interface Said {
  readonly failure?: { readonly error: unknown; readonly isMemory: boolean };
}

let exports: Exports | undefined;

parentPort?.on("message", (told: Told) => {
  if (told === "end") exports = undefined;
  else if ("join" in told) work(told.join);
  else parentPort?.postMessage(outcome(told));
});

function outcome({ call, args, start }: Extract<Told, { call: unknown }>): Said {
  try {
    if (start !== undefined) exports = joined(start);
    callIn(exports as Exports, call, args);
    return {};
  } catch (error) {
    return { failure: { error, isMemory: error instanceof MemoryError } };
  }
}
