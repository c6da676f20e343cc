/**
 * The engine as WebAssembly: the same C++ and so the bits of its SSE2 kernels, on any processor and in a browser. It computes in
 * f32, trains alone, and has at most 4 GiB of memory for a run.
 *
 * Nothing here needs Node or a page: node.ts has what Node offers.
 */

import { ResourceError, UsageError } from "../../core/error.js";
import { MemoryError } from "../../core/wasm-module.js";
import { planMemory } from "../../program/plan-memory.js";
import type { Program } from "../../program/program.js";
import type { Backend, Machine } from "../backend.js";
import type { Engine, Run } from "../engine/engine.js";
import { engineBackend, plan } from "../engine/runs.js";
import { Instance, MOST_BYTES, type WasmHost } from "./instance.js";
import { WasmRun } from "./run.js";

/** What the kernels and the library need besides a program's own bytes, of each thread. */
const THREAD_BYTES = 16 * 2 ** 20;

const COMPILER = "Clang for WebAssembly";

export function wasmBackend(host: WasmHost): Backend {
  const engine = engineOf(host);
  return engineBackend({
    name: "wasm",
    engine: () => engine,
    machine: (isa) => machine(host, isa),
    products: () => undefined,
    callsAtOnce: 1,
    admit: (program, threads) => admit(program, threads),
    inWords,
  });
}

function machine(host: WasmHost, isa = "wasm"): Machine {
  if (isa !== "wasm") {
    throw new UsageError({
      what: "the engine in WebAssembly has one set of instructions",
      where: "option --isa",
      expected: "wasm",
      found: isa,
      hint: "Others are the native engine's: --backend native",
    });
  }
  return {
    isa,
    forced: false,
    available: ["wasm"],
    threads: host.isShared ? host.cores : 1,
    compiler: COMPILER,
  };
}

/** @throws UsageError for bf16; ResourceError for what does not fit into the memory that 32 bits can name. */
function admit(program: Program, threads: number): void {
  if (program.planes.some(({ storage }) => storage !== "f32")) {
    throw new UsageError({
      what: "this engine computes in f32",
      where: "option --precision_mode",
      expected: "must_keep_origin_dtype",
      found: "bf16",
      hint: "Use --precision_mode must_keep_origin_dtype, or the native engine: --backend native",
    });
  }
  const bytesOf = (batch: number): number =>
    threads * (plan({ ...program, batch, memory: planMemory({ ...program, batch }) }) + THREAD_BYTES) +
    batch * program.imageSize ** 2 * 3;
  if (bytesOf(program.batch) <= MOST_BYTES) return;
  let [fits, tooMany] = [0, program.batch];
  while (tooMany - fits > 1) {
    const middle = Math.floor((fits + tooMany) / 2);
    if (bytesOf(middle) <= MOST_BYTES) fits = middle;
    else tooMany = middle;
  }
  throw new ResourceError({
    what: "the batch does not fit into the 4 GiB that the engine has in WebAssembly",
    where: "option --batch_size",
    expected: fits > 0 ? `${fits} at most at ${program.imageSize} pixels` : "smaller pictures",
    found: `${program.batch}`,
    hint:
      fits > 0
        ? `Use --batch_size ${fits} and in training an --lr smaller in proportion, or the native engine: --backend native`
        : "Use a smaller --image_size, or the native engine: --backend native",
  });
}

function inWords(error: unknown, bytes: number): unknown {
  const isMemory =
    error instanceof MemoryError || (error instanceof RangeError && /memory/i.test(error.message));
  if (!isMemory) return error;
  return new ResourceError(
    {
      what: "there is not enough memory",
      expected: `${Math.ceil(bytes / 2 ** 20).toLocaleString("en")} MB for the engine's buffers`,
      hint: "Use a smaller --image_size, or a smaller --batch_size and in training an --lr smaller in proportion",
    },
    error,
  );
}

function engineOf(host: WasmHost): Engine {
  const of = (run: Run): WasmRun => {
    if (run instanceof WasmRun) return run;
    throw new TypeError("not a run");
  };
  return {
    createRun(words, threads, _isa, team, exchange, synchronised) {
      if (exchange !== "none" || synchronised) {
        throw new UsageError({
          what: "processes that train together need the native engine",
          where: "option --backend",
          expected: "native",
          found: "wasm",
        });
      }
      return new WasmRun(host, words, threads, team);
    },
    closeRun: (run) => of(run).close(),
    stateOf: (run) => of(run).state(),
    writeState: (run, ...arrays) => of(run).writeState(arrays),
    trainSteps: (run, batches, loss, updates, index, count) =>
      of(run).trainSteps(batches, loss, updates, index, count),
    setLossScale: (run, scale) => of(run).setLossScale(scale),
    abandonStep: (run) => of(run).abandonStep(),
    requestStop: (run) => of(run).requestStop(),
    applyUpdate: (run, update) => of(run).applyUpdate(update),
    infer: (run, images, count, logits) => of(run).infer(images, count, logits),
    logits: (run, out) => of(run).logits(out),
    map: (run, planes, images, view, out) => of(run).map(planes, images, view, out),
    runTime: (run, time, batch, loss) => of(run).runTime(time, batch, loss),
    startProfile: (run, room) => of(run).startProfile(room),
    takeProfile: (run) => of(run).takeProfile(),
    seconds: (run, backward, out) => of(run).seconds(backward, out),
    products: () => ["unpack"],
    machine: () => ({ available: ["wasm"], compiler: COMPILER }),
    async measurePeak(threads) {
      const instance = new Instance(host);
      instance.startThreads(host.isShared ? threads : 1);
      await instance.call("measurePeak", host.isShared ? threads : 1);
      const [gflops = 0, copyGigabytes = 0] = instance.answer(2);
      instance.close();
      return [gflops, copyGigabytes];
    },
  };
}
