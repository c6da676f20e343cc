/**
 * What the engine in WebAssembly needs of Node: cores, and workers: threads, and one that calls the engine so that JavaScript goes on.
 */

import { once } from "node:events";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";

import { wasmModule } from "../../core/wasm-file.js";
import { MemoryError } from "../../core/wasm-module.js";
import type { Backend } from "../backend.js";
import { wasmBackend } from "./index.js";
import type { Caller, CallerStart, ThreadStart, WasmHost } from "./instance.js";
import type { Said, Told } from "./worker.js";

let loaded: Backend | undefined;

/** @throws ResourceError when the file is not there or does not compile. */
export function nodeWasmBackend(): Backend {
  loaded ??= wasmBackend(nodeHost());
  return loaded;
}

export function nodeHost(): WasmHost {
  return {
    module: wasmModule(),
    isShared: true,
    cores: availableParallelism(),
    startThread,
    startCaller,
    breathe: () => new Promise((resolve) => setImmediate(resolve)),
  };
}

/** Workers that have nothing to do: to start one takes longer than a step of a small network. */
const idle: Worker[] = [];

function startThread(join: ThreadStart): () => void {
  const worker = idle.pop() ?? newWorker();
  tell(worker, { join });
  return () => giveBack(worker);
}

function startCaller(start: CallerStart): Caller {
  const worker = idle.pop() ?? newWorker();
  let isStarted = false;
  return {
    async call(call, args) {
      // The process does not end before it has answered.
      worker.ref();
      try {
        const answer = once(worker, "message");
        tell(worker, { call, args, start: isStarted ? undefined : start });
        isStarted = true;
        const [{ failure }] = (await answer) as [Said];
        if (failure === undefined) return;
        throw failure.isMemory ? new MemoryError(String(failure.error)) : failure.error;
      } finally {
        worker.unref();
      }
    },
    end() {
      tell(worker, "end");
      giveBack(worker);
    },
  };
}

function tell(worker: Worker, told: Told): void {
  worker.postMessage(told);
}

function newWorker(): Worker {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { execArgv: [] });
  // The process may end without it.
  worker.unref();
  // A run goes on without a thread that cannot be had.
  worker.on("error", () => ended.add(worker));
  return worker;
}

const ended = new WeakSet<Worker>();

function giveBack(worker: Worker): void {
  if (!ended.has(worker)) idle.push(worker);
}
