/**
 * One instance of the engine's module with a memory of its own, and the threads that work on it.
 *
 * An instance in which a call threw is of no use any more: nothing was unwound. So each run has its own, and is dropped with it.
 * Nothing here needs Node or a page.
 */

import { instantiate as instantiateWasm, memoryFor, MOST_MEMORY } from "../../core/wasm-module.js";
import type { WasmGlobal, WasmMemory, WasmModule } from "../../core/web-assembly.js";

/** What differs between Node and a browser. */
export interface WasmHost {
  readonly module: WasmModule;
  /** The same module, of which one instance has a memory that is not shared; where there are no threads. */
  readonly isShared: boolean;
  /** Cores that threads may be started on. */
  readonly cores: number;
  /** Has a worker call `work`; it may begin late, or never. What is returned is called when it is to take no more part. */
  startThread(start: ThreadStart): () => void;
  /** A worker that calls the module where memory is shared, so that this thread is free meanwhile. Otherwise this one calls it. */
  startCaller?(start: CallerStart): Caller;
  /** Resolves when what waited to happen in this thread has happened: signals, messages, what was read. */
  breathe(): Promise<void>;
}

/** What a worker that calls is handed. */
export interface CallerStart {
  readonly module: WasmModule;
  readonly memory: WasmMemory;
  /** Where its stack ends: it grows downwards. */
  readonly stack: number;
  /** `performance.timeOrigin` of the thread that made the instance, for there is one clock. */
  readonly origin: number;
}

/** What a worker that takes part in others' calls is handed. */
export interface ThreadStart extends CallerStart {
  /** From 1; 0 is whoever calls. */
  readonly thread: number;
}

export interface Caller {
  /** Rejects with what it throws. */
  call(name: CalledFunction, args: readonly number[]): Promise<void>;
  /** It is not called again. */
  end(): void;
}

/** Functions that take long. Each leaves what it has to say in the answer, or where it was told. */
export type CalledFunction =
  "prepare" | "trainShard" | "applyUpdate" | "abandonStep" | "infer" | "runTime" | "measurePeak";

/** What the module exports (native/wasm); pointers are places in memory, in bytes. */
export interface Exports {
  readonly __stack_pointer: WasmGlobal;
  _initialize(): void;
  allocate(bytes: number): number;
  release(place: number): void;
  work(thread: number): void;
  fail(): void;
  arrived(): number;
  endThreads(): void;
  used(): number;
  answer(): number;
  createRun(words: number, count: number, threads: number, team: number): void;
  stateArray(which: number): number;
  stateSize(which: number): number;
  prepare(): void;
  trainShard(
    batch: number,
    loss: number,
    update: number,
    index: number,
    count: number,
    computesOnly: number,
  ): void;
  setLossScale(kind: number, scale: number, good: number, bad: number, consecutive: number): void;
  applyUpdate(update: number): void;
  abandonStep(): void;
  requestStop(): void;
  infer(images: number, count: number, logits: number): void;
  logits(): number;
  features(): number;
  map(planes: number, count: number, images: number, view: number, out: number): void;
  runTime(time: number, batch: number, loss: number): void;
  seconds(backward: number): number;
  startProfile(room: number): void;
  endProfile(): void;
  profiled(thread: number, out: number): number;
  measurePeak(threads: number): void;
}

const STACK_BYTES = 2 ** 20;

/** Bytes that a run may take, what is copied in and out left aside. */
export const MOST_BYTES = MOST_MEMORY - 128 * 2 ** 20;

export class Instance {
  readonly exports: Exports;
  readonly memory: WasmMemory;
  readonly #host: WasmHost;
  readonly #threads: (() => void)[] = [];
  #caller: Caller | undefined;

  /** @throws MemoryError where there is no memory to be had. */
  constructor(host: WasmHost) {
    this.#host = host;
    this.memory = spareOf(host) ?? memoryFor(host.isShared);
    this.exports = instantiate(host.module, this.memory, performance.timeOrigin);
    this.exports._initialize();
  }

  /** The others beside the caller's; those that a pool was made for. */
  startThreads(threads: number): void {
    for (let thread = 1; thread < threads; thread++)
      this.#threads.push(this.#host.startThread({ ...this.#callerStart(), thread }));
  }

  /** Calls a function that takes long; meanwhile nothing but `requestStop` may be called. A thread that calls breathes before and after. */
  async call(name: CalledFunction, ...args: number[]): Promise<void> {
    const host = this.#host;
    if (host.isShared && host.startCaller !== undefined) {
      this.#caller ??= host.startCaller(this.#callerStart());
      return this.#caller.call(name, args);
    }
    await host.breathe();
    callIn(this.exports, name, args);
    await host.breathe();
  }

  #callerStart(): CallerStart {
    const stack = this.exports.allocate(STACK_BYTES) + STACK_BYTES;
    return { module: this.#host.module, memory: this.memory, stack, origin: performance.timeOrigin };
  }

  /** Ends the threads. What no thread can come back to is kept for the next instance: a memory goes when the garbage collectors of
   * all workers have seen that nobody has it, which can take long, and is as large as ever until then. */
  close(): void {
    this.#endThreads();
    if (this.exports.arrived() < this.#threads.length) return;
    new Uint8Array(this.memory.buffer, 0, this.exports.used()).fill(0);
    keepSpare(this.#host, this.memory);
  }

  /** After an error inside, of which the memory is not known any more. */
  drop(): void {
    this.#endThreads();
  }

  #endThreads(): void {
    this.exports.endThreads();
    for (const end of this.#threads) end();
    this.#caller?.end();
  }

  /** A copy of what is given, in memory that is to be released. */
  put(values: ArrayBufferView): number {
    const place = this.exports.allocate(values.byteLength);
    this.write(place, values);
    return place;
  }

  write(place: number, values: ArrayBufferView): void {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    new Uint8Array(this.memory.buffer, place, bytes.length).set(bytes);
  }

  /** Fills `out` from memory. */
  read(place: number, out: ArrayBufferView): void {
    const bytes = new Uint8Array(out.buffer, out.byteOffset, out.byteLength);
    bytes.set(new Uint8Array(this.memory.buffer, place, bytes.length));
  }

  floats(place: number, count: number): Float32Array {
    const out = new Float32Array(count);
    this.read(place, out);
    return out;
  }

  doubles(place: number, count: number): Float64Array {
    const out = new Float64Array(count);
    this.read(place, out);
    return out;
  }

  /** Of a call's answer. */
  answer(count: number): Float64Array {
    return this.doubles(this.exports.answer(), count);
  }
}

/** Another instance on the same memory, for another thread. */
export function joined({ module, memory, stack, origin }: CallerStart): Exports {
  const exports = instantiate(module, memory, origin);
  exports.__stack_pointer.value = stack;
  return exports;
}

export function callIn(exports: Exports, name: CalledFunction, args: readonly number[]): void {
  const functions: Readonly<Record<CalledFunction, (...args: number[]) => void>> = exports;
  functions[name](...args);
}

/** What a worker does that takes part: returns when the run is closed. */
export function work(start: ThreadStart): void {
  const exports = joined(start);
  try {
    exports.work(start.thread);
  } catch {
    exports.fail();
  }
}

/** Zeroed memories that nobody uses, the largest last; no more than runs that are commonly open at a time. */
const spares = new WeakMap<WasmHost, WasmMemory[]>();
const MOST_SPARES = 4;

function spareOf(host: WasmHost): WasmMemory | undefined {
  return spares.get(host)?.pop();
}

function keepSpare(host: WasmHost, memory: WasmMemory): void {
  const kept = [...(spares.get(host) ?? []), memory];
  kept.sort((a, b) => a.buffer.byteLength - b.buffer.byteLength);
  spares.set(host, kept.slice(-MOST_SPARES));
}

function instantiate(module: WasmModule, memory: WasmMemory, origin: number): Exports {
  return instantiateWasm(module, memory, origin) as unknown as Exports;
}
