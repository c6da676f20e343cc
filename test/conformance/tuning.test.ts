/** Tuning decides how long a step takes, never what it computes: every tuning that the engine takes gives the same bits. */

// Needs the native engine.

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import fc from "fast-check";

import type { Backend, BackendOptions, Cut, Tuning, TrainingArrays } from "../../src/backends/backend.js";
import { cutLimits } from "../../src/backends/engine/tune.js";
import { engine } from "../../src/backends/native/engine.js";
import { nativeBackend } from "../../src/backends/native/index.js";
import { Draws, streams } from "../../src/core/random.js";
import { initialise, initialStatistics } from "../../src/models/initialise.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";
import type { Program, Storage } from "../../src/program/program.js";

const { fits, tune } = nativeBackend as Required<Backend>;
const network = shuffleNetV2({ variant: "torchvision", width: 0.5, classes: 37 });
/** Batches and sizes that leave blocks half full. */
const SIDE = 65;
const BATCH = 7;

const programs = {
  train: (storage: Storage, through?: string) =>
    compile(network, {
      batch: BATCH,
      imageSize: SIDE,
      mode: "train",
      storage,
      ...(through === undefined ? {} : { freeze: { through } }),
    }),
  infer: (storage: Storage) => compile(network, { batch: BATCH, imageSize: SIDE, mode: "infer", storage }),
};

function picturesOf(seed: number): Uint8Array {
  const draws = new Draws(seed, streams.augment, 0, 0);
  return Uint8Array.from({ length: BATCH * SIDE * SIDE * 3 }, () => draws.below(256));
}

/** All that training carries after three steps. */
async function trained(program: Program, options: BackendOptions): Promise<string[]> {
  const parameters = initialise(program, { version: "he_uniform", seed: 1 });
  const run = nativeBackend.train(program, options);
  try {
    await run.writeState({ parameters, statistics: initialStatistics(program), averages: parameters });
    const labels = Int32Array.from({ length: BATCH }, (_, i) => (i * 5) % 37);
    for (let step = 0; step < 3; step++) {
      const { finite } = await run.step(
        { images: picturesOf(step), labels },
        { labelSmoothing: 0.1, weightDecay: 4e-5 },
        { learningRate: 0.1, momentum: 0.9, nesterov: true, weightDecay: 4e-5, averageDecay: 0.9 },
      );
      assert.ok(finite);
    }
    const state: TrainingArrays = await run.readState();
    return Object.values(state).map((array: Float32Array) => bits(array));
  } finally {
    run.close();
  }
}

async function inferred(program: Program, options: BackendOptions): Promise<string[]> {
  const run = nativeBackend.infer(program, options);
  try {
    const parameters = initialise(program, { version: "he_uniform", seed: 1 });
    await run.load({ parameters, statistics: initialStatistics(program) });
    const all = await run.infer(picturesOf(9), BATCH);
    const few = await run.infer(picturesOf(9).subarray(0, 3 * SIDE * SIDE * 3), 3);
    return [bits(all), bits(few)];
  } finally {
    run.close();
  }
}

function bits({ buffer, byteOffset, byteLength }: Float32Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString("base64");
}

/** Every tuning that is taken, of a program for `portion` pictures. */
function tunings(program: Program, portions: readonly (number | undefined)[]): fc.Arbitrary<Tuning> {
  return fc.constantFrom(...portions).chain((portion) => {
    const executed = portion === undefined || portion === 0 ? program : { ...program, batch: portion };
    const cuts = executed.steps.map((step) => {
      const { blockColumns, rowParts, runs } = cutLimits(executed, step);
      return fc.record({
        blockColumns: fc.nat(blockColumns / 32).map((n) => 32 * n),
        rowParts: fc.nat(rowParts),
        runs: fc.oneof(fc.nat(runs), fc.nat(Math.min(runs, 20))),
      });
    });
    return fc.tuple(...cuts).map((all) => ({ cuts: all, portion }));
  });
}

const isas = [...nativeBackend.machine().available, ...(process.arch === "x64" ? ["wide"] : [])];
for (const isa of isas) {
  for (const storage of ["f32", "bf16"] as const) {
    const products = storage === "bf16" ? (engine().products(isa) as ("dot" | "unpack")[]) : [undefined];
    suite(`any tuning on ${isa}, ${storage}`, () => {
      for (const through of [undefined, "stage3"]) {
        test(`trains three steps to the same bits${through === undefined ? "" : `, frozen through ${through}`}`, async () => {
          const program = programs.train(storage, through);
          const usual = await trained(program, { isa, threads: 2 });
          await fc.assert(
            fc.asyncProperty(
              tunings(program, [undefined]),
              fc.constantFrom(...products),
              fc.constantFrom(1, 2, 3),
              async (tuning, way, threads) => {
                const given = { ...tuning, products: way };
                assert.ok(fits(program, { isa, threads }, given));
                assert.deepEqual(await trained(program, { isa, threads, tuning: given }), usual);
              },
            ),
            { numRuns: 3, endOnFailure: true },
          );
        });
      }

      test("infers the same bits", async () => {
        const program = programs.infer(storage);
        const usual = await inferred(program, { isa, threads: 2 });
        await fc.assert(
          fc.asyncProperty(
            tunings(program, [0, 1, 2, 3, 5, 7]),
            fc.constantFrom(...products),
            fc.constantFrom(1, 2, 3),
            async (tuning, way, threads) => {
              const given = { ...tuning, products: way };
              assert.ok(fits(program, { isa, threads }, given));
              assert.deepEqual(await inferred(program, { isa, threads, tuning: given }), usual);
            },
          ),
          { numRuns: 16, endOnFailure: true },
        );
      });
    });
  }
}

suite("a cut that is out of range is refused, by the engine and before", () => {
  const usual: Cut = { blockColumns: 0, rowParts: 0, runs: 0 };
  for (const mode of ["train", "infer"] as const) {
    const program = programs[mode]("f32");
    const wrong = (cut: Partial<Cut>, kind: string, ...why: [RegExp]): void => {
      const at = program.steps.findIndex((step) => step.kind === kind);
      const tuning = {
        cuts: program.steps.map((_, i) => (i === at ? { ...usual, ...cut } : usual)),
        ...(mode === "infer" ? { portion: 0 } : {}),
      };
      assert.ok(!fits(program, { threads: 1 }, tuning), `${kind} ${JSON.stringify(cut)}`);
      assert.throws(() => nativeBackend[mode](program, { threads: 1, tuning }), ...why);
    };
    test(mode, () => {
      const first = (kind: string) =>
        cutLimits(program, program.steps.find((step) => step.kind === kind) as Program["steps"][number]);
      for (const kind of ["stem", "pointwise", "depthwise", "head"]) {
        const { blockColumns, rowParts, runs } = first(kind);
        wrong({ blockColumns: blockColumns + 32 }, kind, /columns of a block/);
        wrong({ rowParts: rowParts + 1 }, kind, /parts of a block's rows/);
        wrong({ runs: runs + 1 }, kind, /runs of blocks or planes/);
        wrong({ runs: -1 }, kind, /runs of blocks or planes/);
        wrong({ runs: 0.5 }, kind, /runs of blocks or planes/);
      }
      if (mode === "infer") wrong({ blockColumns: 48 }, "pointwise", /multiple of 32/);
    });
  }
  test("a tuning of another number of steps, or for more pictures than there are, does not fit", () => {
    const program = programs.infer("f32");
    const cuts = program.steps.map(() => usual);
    assert.ok(fits(program, { threads: 1 }, { cuts }));
    assert.ok(!fits(program, { threads: 1 }, { cuts: cuts.slice(1) }));
    assert.ok(!fits(program, { threads: 1 }, { cuts, portion: BATCH + 1 }));
    assert.ok(!fits(programs.train("f32"), { threads: 1 }, { cuts, portion: 1 }));
  });
});

suite("the tuner", () => {
  for (const mode of ["train", "infer"] as const) {
    for (const threads of [1, 2]) {
      test(`finds a tuning that the engine takes and says that it is no slower: ${mode}, ${threads} threads`, async () => {
        const program = programs[mode]("f32");
        let last = { done: 0, total: 0 };
        const { tuning, speedup } = await tune(program, { threads }, (done, total) => {
          assert.ok(done >= last.done && done <= total);
          last = { done, total };
        });
        assert.ok(fits(program, { threads }, tuning));
        assert.ok(speedup >= 1 && last.done > 0);
      });
    }
  }

  test("ends with what the progress throws", async () => {
    const stop = new Error("stopped");
    const tuning = tune(programs.infer("f32"), { threads: 1 }, () => {
      throw stop;
    });
    await assert.rejects(tuning, stop);
  });
});
