/**
 * What the engine in WebAssembly needs of Node: cores and workers for threads.
 */

import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";

import { wasmModule } from "../../core/wasm-file.js";
import type { Backend } from "../backend.js";
import { wasmBackend } from "./index.js";
import type { ThreadStart, WasmHost } from "./instance.js";

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
    breathe: () => new Promise((resolve) => setImmediate(resolve)),
  };
}

/** Workers that have nothing to do: to start one takes longer than a step of a small network. */
const idle: Worker[] = [];

function startThread(start: ThreadStart): () => void {
  const worker = idle.pop() ?? newWorker();
  worker.postMessage(start);
  return () => void idle.push(worker);
}

function newWorker(): Worker {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { execArgv: [] });
  // The process may end without it.
  worker.unref();
  // A run goes on without a thread that cannot be had.
  worker.on("error", () => undefined);
  return worker;
}
