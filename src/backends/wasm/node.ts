/**
 * What the engine in WebAssembly needs of Node: its file, cores, and workers for threads.
 */

import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";

import { ResourceError } from "../../core/error.js";
import { WebAssembly, type WasmModule } from "../../core/web-assembly.js";
import type { Backend } from "../backend.js";
import { wasmBackend } from "./index.js";
import type { ThreadStart, WasmHost } from "./instance.js";

/** From dist/src/backends/wasm. */
const FILE = new URL("../../../../native/wasm/riffle.wasm", import.meta.url);

let loaded: Backend | undefined;

/** @throws ResourceError when the file is not there or does not compile. */
export function nodeWasmBackend(): Backend {
  loaded ??= wasmBackend(nodeHost());
  return loaded;
}

export function nodeHost(): WasmHost {
  return {
    module: compile(),
    isShared: true,
    cores: availableParallelism(),
    startThread,
    breathe: () => new Promise((resolve) => setImmediate(resolve)),
  };
}

function compile(): WasmModule {
  try {
    return new WebAssembly.Module(readFileSync(FILE));
  } catch (error) {
    throw new ResourceError(
      {
        what: "the engine in WebAssembly does not load",
        where: FILE.pathname,
        found: error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error),
        hint: "Install riffle-vision again",
      },
      error,
    );
  }
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
