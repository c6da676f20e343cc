/**
 * One instance of the engine's module with a memory of its own, and the threads that work on it.
 *
 * An instance in which a call threw is of no use any more: nothing was unwound. So each run has its own, and is dropped with it.
 * Nothing here needs Node or a page.
 */

import { WebAssembly, type WasmGlobal, type WasmMemory, type WasmModule } from "../../core/web-assembly.js";

/** What differs between Node and a browser. */
export interface WasmHost {
  readonly module: WasmModule;
  /** The same module, of which one instance has a memory that is not shared; where there are no threads. */
  readonly isShared: boolean;
  /** Cores that threads may be started on. */
  readonly cores: number;
  /** Has a worker call `work`; it may begin late, or never. What is returned is called when it is to take no more part. */
  startThread(start: ThreadStart): () => void;
  /** Resolves when what waited to happen in this thread has happened: signals, messages, what was read. */
  breathe(): Promise<void>;
}

/** What a worker is handed. */
export interface ThreadStart {
  readonly module: WasmModule;
  readonly memory: WasmMemory;
  /** From 1. */
  readonly thread: number;
  /** Where its stack ends: it grows downwards. */
  readonly stack: number;
  /** `performance.timeOrigin` of the thread that made the instance, for there is one clock. */
  readonly origin: number;
}

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

const PAGE = 65536;
/** What 32 bits can name but the last page, as the module was linked (scripts/build-wasm.mjs). */
const MOST_PAGES = 65535;
/** Below this nothing is worth trying. */
const FEWEST_PAGES = 1024;
/** The module's own beginning: its stack and constants (1 MiB and some kilobytes). */
const FIRST_PAGES = 32;
const STACK_BYTES = 2 ** 20;

/** Bytes that a run may take, what is copied in and out left aside. */
export const MOST_BYTES = MOST_PAGES * PAGE - 128 * 2 ** 20;

/** An engine's memory that could not grow, or not be had at all; src/core/error.ts knows the code. */
export class MemoryError extends Error {
  readonly code = "RIFFLE_MEMORY";
}

export class Instance {
  readonly exports: Exports;
  readonly memory: WasmMemory;
  readonly #host: WasmHost;
  readonly #threads: (() => void)[] = [];

  /** @throws MemoryError where there is no memory to be had. */
  constructor(host: WasmHost) {
    this.#host = host;
    this.memory = spareOf(host) ?? memoryFor(host.isShared);
    this.exports = instantiate(host.module, this.memory, performance.timeOrigin);
    this.exports._initialize();
  }

  /** The others beside the caller's; those that a pool was made for. */
  startThreads(threads: number): void {
    const { module } = this.#host;
    for (let thread = 1; thread < threads; thread++) {
      const stack = this.exports.allocate(STACK_BYTES) + STACK_BYTES;
      const { timeOrigin: origin } = performance;
      this.#threads.push(this.#host.startThread({ module, memory: this.memory, thread, stack, origin }));
    }
  }

  /** Ends the threads. What no thread can come back to is kept for the next instance: a memory goes when the garbage collectors of
   * all workers have seen that nobody has it, which can take long, and is as large as ever until then. */
  close(): void {
    this.exports.endThreads();
    for (const end of this.#threads) end();
    if (this.exports.arrived() < this.#threads.length) return;
    new Uint8Array(this.memory.buffer, 0, this.exports.used()).fill(0);
    keepSpare(this.#host, this.memory);
  }

  /** After an error inside, of which the memory is not known any more. */
  drop(): void {
    this.exports.endThreads();
    for (const end of this.#threads) end();
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

/** What a worker does: returns when the run is closed. */
export function work({ module, memory, thread, stack, origin }: ThreadStart): void {
  const exports = instantiate(module, memory, origin);
  exports.__stack_pointer.value = stack;
  try {
    exports.work(thread);
  } catch {
    exports.fail();
  }
}

function instantiate(module: WasmModule, memory: WasmMemory, origin: number): Exports {
  const ahead = performance.timeOrigin - origin;
  const riffle = {
    now: () => (ahead + performance.now()) * 1e6,
    refuse(place: number, length: number): never {
      // A copy: what is shared is not decoded.
      throw new TypeError(new TextDecoder().decode(new Uint8Array(memory.buffer, place, length).slice()));
    },
    failForMemory(): never {
      throw new MemoryError("the engine's memory cannot grow");
    },
  };
  return new WebAssembly.Instance(module, { env: { memory }, riffle }).exports as unknown as Exports;
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

/** As much as may be asked for; only what is used is taken from the system. */
function memoryFor(shared: boolean): WasmMemory {
  for (let maximum = MOST_PAGES; maximum >= FEWEST_PAGES; maximum = Math.floor(maximum / 2)) {
    try {
      return new WebAssembly.Memory({ initial: FIRST_PAGES, maximum, shared });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
  throw new MemoryError("there is no memory for the engine");
}

/**
 * The module for a memory that is not shared, for pages that may not have one: the same code, whose one import of a memory says
 * whether it is shared by a bit (WebAssembly core specification, binary format, limits).
 */
export function unshared(module: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = Uint8Array.from(module);
  bytes[sharedFlagOf(bytes)] = 1;
  return bytes;
}

/** Where the flags of the imported memory's limits are. */
function sharedFlagOf(bytes: Uint8Array): number {
  let at = 8;
  const number = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] ?? 0;
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  const skip = (length: number): void => void (at += length);
  while (at < bytes.length) {
    const section = number();
    const length = number();
    if (section !== 2) {
      skip(length);
      continue;
    }
    for (let imports = number(); imports > 0; imports--) {
      skip(number());
      skip(number());
      const kind = number();
      if (kind === 2) return at;
      // A function's type; there are no tables and globals.
      number();
    }
  }
  throw new TypeError("the module imports no memory");
}
