/**
 * The engine in WebAssembly is the native one's C++: it gives the bits of its SSE2 kernels, however many threads there are, and
 * refuses what that refuses in the same words. The file in the repository is what its sources give.
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { suite, test } from "node:test";
import { gzipSync } from "node:zlib";

import type {
  Backend,
  BackendOptions,
  Batch,
  LossSettings,
  TrainingRun,
} from "../../src/backends/backend.js";
import { stateArrays } from "../../src/backends/engine/engine.js";
import { nativeBackend } from "../../src/backends/native/index.js";
import { wasmBackend } from "../../src/backends/wasm/index.js";
import { nodeHost, nodeWasmBackend } from "../../src/backends/wasm/node.js";
import { isBuilt } from "../../src/core/addon.js";
import { ResourceError, UsageError } from "../../src/core/error.js";
import { wasmPictures } from "../../src/core/wasm-file.js";
import { Draws, streams } from "../../src/core/random.js";
import { unshared } from "../../src/core/wasm-module.js";
import { WebAssembly } from "../../src/core/web-assembly.js";
import { asItIs } from "../../src/data/pictures/augment.js";
import { renderInto } from "../../src/data/pictures/render.js";
import { initialise, initialStatistics } from "../../src/models/initialise.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import type { VariantName } from "../../src/models/variants.js";
import { compile, type CompileOptions } from "../../src/program/compile.js";
import type { Program } from "../../src/program/program.js";
import { tensorsAt } from "../../src/train/layer-tensors.js";
import { repository } from "../support/paths.js";

const CLASSES = 37;
const SIDE = 65;
const BATCH = 7;

function programOf(
  mode: "train" | "infer",
  more: Partial<CompileOptions & { variant: VariantName }> = {},
): Program {
  const { variant = "torchvision", ...options } = more;
  const network = shuffleNetV2({ variant, width: 0.5, classes: CLASSES });
  return compile(network, { batch: BATCH, imageSize: SIDE, mode, ...options });
}

function batchOf({ batch, imageSize }: Program, seed: number): Batch {
  const draws = new Draws(seed, streams.augment, 0, 0);
  return {
    images: Uint8Array.from({ length: batch * imageSize * imageSize * 3 }, () => draws.below(256)),
    labels: Int32Array.from({ length: batch }, () => draws.below(CLASSES)),
  };
}

const LOSS: LossSettings = { labelSmoothing: 0.1, weightDecay: 4e-5 };
const UPDATE = { learningRate: 0.05, momentum: 0.9, nesterov: true, weightDecay: 4e-5, averageDecay: 0.9 };

async function opened(backend: Backend, program: Program, options: BackendOptions): Promise<TrainingRun> {
  const parameters = initialise(program, { version: "he_uniform", seed: 1 });
  const run = backend.train(program, options);
  await run.writeState({ parameters, statistics: initialStatistics(program), averages: parameters });
  return run;
}

async function steps(run: TrainingRun, program: Program, from: number, to: number): Promise<unknown[]> {
  const batches = Array.from({ length: to - from }, (_, i) => batchOf(program, from + i));
  const first = { index: 0, count: 1 };
  const updates = batches.map((_, i) => ({ ...UPDATE, learningRate: UPDATE.learningRate / (1 + from + i) }));
  return run.steps({ batches, first, loss: LOSS, updates });
}

/** All arrays of a run, as their sums. */
async function sums(run: TrainingRun): Promise<Record<string, string>> {
  const state = await run.readState();
  const sum = ({ buffer, byteOffset, byteLength }: Float32Array): string =>
    createHash("sha256")
      .update(new Uint8Array(buffer, byteOffset, byteLength))
      .digest("hex");
  return Object.fromEntries(stateArrays.map((name) => [name, sum(state[name])]));
}

const wasm = nodeWasmBackend();
const alone = wasmBackend({
  ...nodeHost(),
  module: new WebAssembly.Module(unshared(readFileSync(join(repository, "native", "wasm", "riffle.wasm")))),
  isShared: false,
});
/** The widest kernels multiply and add with one rounding; only those of SSE2 do what WebAssembly can. */
const skip = !isBuilt() ? "the native engine is not built" : process.arch !== "x64" && "SSE2 is of x86-64";
const sse2 = { isa: "sse2", threads: 2 };

suite("the bits of SSE2", { skip }, () => {
  const program = programOf("train");
  const expected = (async () => {
    const run = await opened(nativeBackend, program, sse2);
    const results = await steps(run, program, 0, 12);
    const all = { results, sums: await sums(run) };
    run.close();
    return all;
  })();

  const ways: [string, Backend, number][] = [
    ["one thread", wasm, 1],
    ["two threads", wasm, 2],
    ["five threads", wasm, 5],
    ["a memory that is not shared", alone, 4],
  ];
  for (const [name, backend, threads] of ways) {
    test(`after twelve steps: ${name}`, async () => {
      const run = await opened(backend, program, { threads });
      const results = await steps(run, program, 0, 12);
      assert.deepEqual({ results, sums: await sums(run) }, await expected);
      run.close();
    });
  }

  for (const [from, to] of [
    [wasm, nativeBackend],
    [nativeBackend, wasm],
  ] as const) {
    test(`after six steps of ${from.name} and six of ${to.name}`, async () => {
      const first = await opened(from, program, from === wasm ? { threads: 2 } : sse2);
      await steps(first, program, 0, 6);
      const { parameters, statistics, momentum, averages } = await first.readState();
      const state = { parameters, statistics, momentum, averages };
      const second = to.train(program, to === wasm ? { threads: 2 } : sse2);
      await second.writeState(structuredClone(state));
      first.close();
      await steps(second, program, 6, 12);
      assert.deepEqual(await sums(second), (await expected).sums);
      second.close();
    });
  }

  for (const few of [false, true]) {
    test(`logits, ${few ? "of few pictures" : "by portions"}`, async () => {
      const inference = programOf("infer", { batch: 11 });
      const parameters = initialise(inference, { version: "he_uniform", seed: 2 });
      const statistics = initialStatistics(inference);
      const { images } = batchOf(inference, 5);
      const logitsOf = async (backend: Backend, options: BackendOptions): Promise<Float32Array[]> => {
        const run = backend.infer(inference, { ...options, few });
        await run.load({ parameters, statistics });
        const logits = [await run.infer(images, 11), await run.infer(images, 2)];
        run.close();
        return logits;
      };
      const native = await logitsOf(nativeBackend, sse2);
      for (const threads of [1, 2]) assert.deepEqual(await logitsOf(wasm, { threads }), native);
    });
  }

  const sweep: [string, Program][] = [
    ["tensorflow, 33 px", programOf("train", { variant: "tensorflow", imageSize: 33 })],
    ["megvii, one picture of 64 px", programOf("train", { variant: "megvii", batch: 1, imageSize: 64 })],
    ["frozen through stage 3", programOf("train", { freeze: { through: "stage3" } })],
    ["moving statistics", programOf("train", { statistics: "moving", batch: 9, imageSize: 47 })],
  ];
  for (const [name, program] of sweep) {
    test(`${name}: what a step of two shards leaves, with a scaled loss, dropout, weights and mixed labels`, async () => {
      const features = program.steps.at(-1)?.inputs.length ?? 0;
      const draws = new Draws(7, streams.augment, 0, 0);
      const dropoutMask = Float32Array.from({ length: program.batch * features }, () => draws.below(2) * 2);
      const { labels } = batchOf(program, 3);
      const shares = Float32Array.from({ length: program.batch }, () => draws.below(8) / 8);
      const weights = Float32Array.from({ length: program.batch }, () => 0.5 + draws.below(8) / 8);
      const result = async (backend: Backend, options: BackendOptions): Promise<unknown> => {
        const run = await opened(backend, program, options);
        run.scaleLoss({ kind: "dynamic", scale: 1024, good: 0, bad: 0, consecutive: 0 });
        const results = [];
        for (const index of [0, 1]) {
          const batch = { ...batchOf(program, index), weights, mixed: { labels, shares } };
          results.push(await run.step(batch, { ...LOSS, dropoutMask }, UPDATE, { index, count: 2 }));
        }
        const all = { results, logits: run.logits(), sums: await sums(run) };
        run.close();
        return all;
      };
      assert.deepEqual(await result(wasm, { threads: 2 }), await result(nativeBackend, sse2));
    });
  }

  test("layer by layer, as a dump has them", async () => {
    const seen = async (backend: Backend, options: BackendOptions): Promise<unknown> => {
      const run = await opened(backend, program, options);
      const all: unknown[] = [];
      await run.walk(batchOf(program, 1), LOSS, 8, async (time, loss) => {
        for (const { layer, tensor, read } of await tensorsAt(time, run, program))
          all.push([layer, tensor, read().slice()]);
        all.push(loss);
      });
      run.close();
      return all;
    };
    assert.deepEqual(await seen(wasm, { threads: 2 }), await seen(nativeBackend, sse2));
  });
});

suite("what is refused", () => {
  const program = programOf("train", { imageSize: 33, batch: 2 });
  const batch = batchOf(program, 1);
  const wrong: Record<string, (run: TrainingRun) => Promise<unknown>> = {
    "a label that is no class": (run) =>
      run.step({ ...batch, labels: Int32Array.of(0, CLASSES) }, LOSS, UPDATE),
    "too few pixels": (run) => run.step({ ...batch, images: new Uint8Array(3) }, LOSS, UPDATE),
    "parameters of another network": (run) => run.writeState({ parameters: new Float32Array(3) }),
    "a dropout mask of another length": (run) =>
      run.step(batch, { ...LOSS, dropoutMask: new Float32Array(1) }, UPDATE),
    "a shard before its turn": (run) => run.step(batch, LOSS, UPDATE, { index: 1, count: 2 }),
    "a call while another goes on": (run) =>
      Promise.all([run.step(batch, LOSS, UPDATE), run.step(batch, LOSS, UPDATE)]),
    "planes of different sizes": (run) =>
      Promise.resolve().then(() => run.planes([0, program.planes.length - 1], "value")),
    "a closed run": (run) => {
      run.close();
      return run.readState();
    },
  };
  const errorOf = async (
    backend: Backend,
    work: (run: TrainingRun) => Promise<unknown>,
  ): Promise<unknown> => {
    const run = await opened(backend, program, { threads: 1 });
    try {
      await work(run);
      return undefined;
    } catch (error) {
      return error instanceof Error ? `${error.name}: ${error.message}` : error;
    }
  };
  for (const [name, work] of Object.entries(wrong)) {
    test(`${name}, as the native engine does`, { skip }, async () => {
      const expected = await errorOf(nativeBackend, work);
      assert.ok(expected !== undefined);
      assert.equal(await errorOf(wasm, work), expected);
    });
  }

  test("a step goes on after one that was refused", async () => {
    const run = await opened(wasm, program, { threads: 2 });
    for (const name of ["a label that is no class", "a shard before its turn"])
      await assert.rejects(wrong[name]?.(run) as Promise<unknown>, TypeError);
    assert.ok((await run.step(batch, LOSS, UPDATE)).finite);
    run.close();
  });

  test("a batch that does not fit into 4 GiB, with the largest that does", () => {
    const sizes = { imageSize: 224, mode: "train" } as const;
    const network = shuffleNetV2({ variant: "torchvision", width: 1, classes: 1000 });
    const error = thrown(() => wasm.train(compile(network, { ...sizes, batch: 2048 }), { threads: 1 }));
    assert.ok(error instanceof ResourceError);
    const [, largest = ""] = /^(\d+) at most at 224 pixels$/.exec(error.problem.expected ?? "") ?? [];
    const bytes = (batch: number): number => wasm.plan(compile(network, { ...sizes, batch }));
    assert.ok(bytes(Number(largest)) < 2 ** 32 && bytes(Number(largest) + 16) > 2 ** 32 - 2 ** 28, largest);
  });

  test("planes of bf16, other instructions, and other processes", () => {
    const train = (more: Partial<CompileOptions>, options: Partial<BackendOptions>) => () =>
      wasm.train(programOf("train", more), { threads: 1, ...options });
    for (const refused of [
      train({ storage: "bf16" }, {}),
      train({}, { isa: "sse2" }),
      train({}, { exchange: "messages" }),
    ])
      assert.ok(thrown(refused) instanceof UsageError);
  });
});

test("a step that is asked to stop ends a loop, between two steps", async () => {
  const program = programOf("train", { imageSize: 33, batch: 2 });
  const run = await opened(wasm, program, { threads: 2 });
  setImmediate(() => run.requestStop());
  assert.ok((await steps(run, program, 0, 50)).length < 5);
  run.close();
});

test("a thread that fails ends the run with an error, not with silence", async () => {
  const host = nodeHost();
  // Without a stack the first call is a trap.
  const failing = wasmBackend({ ...host, startThread: (start) => host.startThread({ ...start, stack: 0 }) });
  const program = programOf("train", { imageSize: 33, batch: 2 });
  const run = await opened(failing, program, { threads: 2 });
  await assert.rejects(steps(run, program, 0, 200), /a thread of the engine failed/);
  await assert.rejects(run.readState(), /the run is closed/);
  // As in a `finally`, where another error would take the place of the one that tells what failed.
  run.close();
});

test("a call that fails ends the run with its error, and the next run works", async () => {
  const host = nodeHost();
  const failing = wasmBackend({
    ...host,
    startCaller: (start) =>
      (host.startCaller as NonNullable<typeof host.startCaller>)({ ...start, stack: 0 }),
  });
  const program = programOf("train", { imageSize: 33, batch: 2 });
  const run = await opened(failing, program, { threads: 2 });
  await assert.rejects(steps(run, program, 0, 1), /^Error: memory access out of bounds/);
  await assert.rejects(run.readState(), /the run is closed/);
  run.close();
  const next = await opened(wasm, program, { threads: 2 });
  assert.equal((await steps(next, program, 0, 2)).length, 2);
  next.close();
});

test("JavaScript goes on while the engine computes", async () => {
  // Long enough that a thread which leads the engine would be seen to be away.
  const program = programOf("train", { imageSize: 224, batch: 32 });
  const run = await opened(wasm, program, { threads: 2 });
  const batch = batchOf(program, 1);
  const begin = performance.now();
  let [last, longest] = [begin, 0];
  const timer = setInterval(() => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 1);
  await run.step(batch, LOSS, UPDATE);
  clearInterval(timer);
  const step = performance.now() - begin;
  assert.ok(longest < step / 3, `away for ${longest} ms of a step of ${step} ms`);
  run.close();
});

test("the machine's peak is measured by threads that have worked before", async () => {
  const program = programOf("train", { imageSize: 33, batch: 2 });
  const run = await opened(wasm, program, { threads: 2 });
  await steps(run, program, 0, 4);
  run.close();
  const { gflops, copyGigabytes } = await wasm.peak({ threads: 2 }, "f32");
  assert.ok(gflops > 0.1 && copyGigabytes > 0.01);
});

test("a profile shows what each thread does", async () => {
  const program = programOf("train");
  const run = await opened(wasm, program, { threads: 2 });
  await steps(run, program, 0, 2);
  run.startProfile?.(3);
  await steps(run, program, 2, 5);
  const { threads, lost } = run.takeProfile?.() ?? { threads: [], lost: 1 };
  assert.equal(lost, 0);
  assert.equal(threads.length, 2);
  assert.ok((threads[0]?.length ?? 0) > program.steps.length);
  for (const spans of threads) {
    assert.ok(spans.length > 0);
    // One clock: all of it lies in the last second.
    for (const { begin, end } of spans) {
      assert.ok(begin <= end && end <= performance.now() + 1 && begin > performance.now() - 20_000);
    }
  }
  run.close();
});

test(
  "pictures are resized to the bytes of the addon, and sums are CRC-32C",
  { skip: !isBuilt() },
  async () => {
    const pictures = wasmPictures();
    const draws = new Draws(1, streams.draw, 0, 0);
    const plain = { ...asItIs(9), size: 9, shift: [0.1, 0, -0.2] as const, flip: true };
    for (const channels of [1, 3] as const) {
      const [width, height] = [31, 17];
      const data = Uint8Array.from({ length: width * height * channels }, () => draws.below(256));
      for (const filter of ["tensorflow", "pillow", "pillow-bytes"] as const) {
        const box = { x: 3, y: 2, width: 27, height: 14 };
        const transform = {
          ...plain,
          filter,
          box,
          resized: { width: 12, height: 11 },
          window: { x: 2, y: 1 },
        };
        const [out, expected] = [new Uint8Array(9 * 9 * 3), new Uint8Array(9 * 9 * 3)];
        pictures.resize(transform, data, [width, height, channels], out);
        await renderInto(
          { kind: "pixels", data, width, height, channels },
          "x",
          () => transform,
          expected,
          0,
        );
        assert.deepEqual(out, expected, `${filter}, ${channels} channels`);
      }
    }
    // RFC 3720, B.4.
    assert.equal(pictures.crc32c(Buffer.from("123456789")), 0xe3069283);
    assert.equal(pictures.crc32c(Buffer.from("6789"), pictures.crc32c(Buffer.from("12345"))), 0xe3069283);
  },
);

test("what a page would load needs no Node", () => {
  const seen = new Set<string>();
  const outside: string[] = [];
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = readFileSync(file, "utf8");
    for (const [, specifier = ""] of text.matchAll(/^(?:import|export) (?!type )[^;]*?from "([^"]+)"/gms)) {
      if (specifier.startsWith(".")) visit(resolve(dirname(file), specifier.replace(/js$/, "ts")));
      else outside.push(`${file}: ${specifier}`);
    }
    const code = text.replace(/\/\*[^]*?\*\/|\/\/.*/g, "");
    if (/\bprocess\.|\bBuffer\./.test(code)) outside.push(`${file}: Node's globals`);
  };
  visit(join(repository, "src", "backends", "wasm", "index.ts"));
  visit(join(repository, "src", "core", "wasm-module.ts"));
  assert.ok(seen.size > 10);
  assert.deepEqual(outside, []);
});

suite("the file in the repository", () => {
  const bytes = readFileSync(join(repository, "native", "wasm", "riffle.wasm"));
  const made = JSON.parse(readFileSync(join(repository, "native", "wasm", "riffle.json"), "utf8")) as unknown;

  test("is made of the sources as they are: node scripts/build-wasm.mjs", async () => {
    const { wasmSources } = (await import(join(repository, "scripts", "wasm-sources.mjs"))) as {
      readonly wasmSources: (root: string) => string;
    };
    const { sha256, sources } = made as Record<string, string>;
    assert.equal(wasmSources(repository), sources);
    assert.equal(createHash("sha256").update(bytes).digest("hex"), sha256);
  });

  test("needs no local after a wait, which Node 20 may lose (native/runtime/threads.h)", () => {
    // memory.atomic.wait32, its alignment, its offset; then drop and end.
    const waits = [...bytes.toString("latin1").matchAll(/\xfe\x01\x02[\x80-\xff]*[\x00-\x7f](..)/gs)];
    assert.ok(waits.length > 1);
    assert.deepEqual(new Set(waits.map(([, after]) => after)), new Set(["\x1a\x0b"]));
  });

  test("has at most 150 KB, 60 KB compressed", () => {
    assert.ok(bytes.length <= 150_000, `${bytes.length} bytes`);
    assert.ok(gzipSync(bytes, { level: 9 }).length <= 60_000);
  });
});

function thrown(work: () => unknown): unknown {
  try {
    work();
    return undefined;
  } catch (error) {
    return error;
  }
}
