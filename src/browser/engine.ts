/**
 * The engine in a worker of the page: its module, and threads where the page may share memory with them, which it may where it
 * is cross-origin isolated.
 */

import type { Backend } from "../backends/backend.js";
import { wasmBackend } from "../backends/wasm/index.js";
import type { ThreadStart } from "../backends/wasm/instance.js";
import { ResourceError } from "../core/error.js";
import { unshared, WasmPictures } from "../core/wasm-module.js";
import { WebAssembly } from "../core/web-assembly.js";
import { browser, hasGlobal, type PageWorker } from "./scope.js";

export interface PageEngine {
  readonly backend: Backend;
  /** Resizes, on this thread. */
  readonly pictures: WasmPictures;
  readonly threads: number;
  readonly isolated: boolean;
  /** Lets what waits in this thread have its turn: messages of the page. */
  breathe(): Promise<void>;
}

/** More than a network of this size gains from. */
const MOST_THREADS = 8;

/** A thread that has not come by then will not, and the others do its work: milliseconds. */
const PATIENCE = 5000;

/** @param wanted threads, or as many as there are cores, of more than two all but the page's. @throws ResourceError */
export async function openEngine(wanted?: number): Promise<PageEngine> {
  const isolated = browser.crossOriginIsolated === true && hasGlobal("SharedArrayBuffer");
  const cores = browser.navigator.hardwareConcurrency ?? 1;
  const usual = Math.min(MOST_THREADS, cores > 2 ? cores - 1 : cores);
  const threads = isolated ? (wanted ?? usual) : 1;
  const bytes = await moduleBytes();
  try {
    const module = await WebAssembly.compile(isolated ? bytes : unshared(bytes));
    const workers = await startWorkers(threads - 1);
    const startThread = (start: ThreadStart): (() => void) => {
      const worker = workers.pop() ?? newWorker();
      worker.postMessage(start);
      return () => void workers.push(worker);
    };
    const backend = wasmBackend({ module, isShared: isolated, cores: threads, startThread, breathe });
    return { backend, pictures: new WasmPictures(bytes), threads, isolated, breathe };
  } catch (error) {
    throw unusable(error instanceof Error ? error.message : String(error), error);
  }
}

/** Where it lies beside `dist` in the package; a bundler finds it by this very expression. */
async function moduleBytes(): Promise<Uint8Array> {
  const address = new URL("../../../native/wasm/riffle.wasm", import.meta.url);
  const answer = await fetch(address).catch((error: unknown) => {
    throw unusable(`${address.pathname} does not come: ${String(error)}`, error);
  });
  if (!answer.ok) throw unusable(`${address.pathname} answers ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}

function unusable(found: string, cause?: unknown): ResourceError {
  return new ResourceError(
    {
      what: "the engine in WebAssembly does not load",
      found,
      safe: "Nothing was changed",
      hint: "Load the page again; it needs a browser of 2023 or newer, and riffle.wasm beside the scripts",
    },
    cause,
  );
}

/** They are waited for: one that begins in the middle of a step has missed its part. */
async function startWorkers(count: number): Promise<PageWorker[]> {
  const workers = Array.from({ length: count }, newWorker);
  const come = workers.map((worker) => new Promise<void>((here) => (worker.onmessage = () => here())));
  await Promise.race([Promise.all(come), new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
  return workers;
}

declare const Worker: new (address: URL, options: { readonly type: "module" }) => PageWorker;

function newWorker(): PageWorker {
  const worker = new Worker(new URL("./thread.js", import.meta.url), { type: "module" });
  // A run goes on without a thread that cannot be had.
  worker.onerror = (event) => event.preventDefault();
  return worker;
}

/** A message to oneself comes after those that wait, and sooner than any timer. */
const { port1, port2 } = new MessageChannel();
const waiting: (() => void)[] = [];
port2.addEventListener("message", () => waiting.shift()?.());
port2.start();

function breathe(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve);
    port1.postMessage(0);
  });
}
