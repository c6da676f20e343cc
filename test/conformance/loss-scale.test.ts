/**
 * The loss scale: its rule against a plain model of it, in the engine and in TypeScript; and what scaled steps leave behind.
 */

// Needs the native engine.

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import type {
  Backend,
  Batch,
  Loop,
  StepResult,
  TrainingArrays,
  TrainingRun,
} from "../../src/backends/backend.js";
import {
  initialLossScale,
  isStuck,
  type LossScale,
  lossScalings,
  nextLossScale,
} from "../../src/backends/loss-scale.js";
import type { Engine } from "../../src/backends/engine/engine.js";
import { engine } from "../../src/backends/native/engine.js";
import { nativeBackend } from "../../src/backends/native/index.js";
import { referenceBackend } from "../../src/backends/reference/reference.js";
import { Draws, streams } from "../../src/core/random.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";
import type { Program } from "../../src/program/program.js";
import { normalised } from "../../src/models/layers.js";
import { tinyNetwork } from "../support/tiny-network.js";

const loss = { labelSmoothing: 0.1, weightDecay: 1e-3 };
const update = { learningRate: 0.05, momentum: 0.9, nesterov: true, weightDecay: 1e-3, averageDecay: 0.9 };
const LARGEST = 3.4028234663852886e38;

interface Counting extends Engine {
  countSteps(scale: Float64Array, finite: Uint8Array, after: Float64Array): void;
}

/** [scale, good, bad, consecutive, stuck] after each step, as the engine counts. */
function countedByEngine(scale: LossScale, finite: Uint8Array): Float64Array {
  const after = new Float64Array(5 * finite.length);
  (engine() as Counting).countSteps(wordsOf(scale), finite, after);
  return after;
}

function wordsOf({ kind, scale, good, bad, consecutive }: LossScale): Float64Array {
  return Float64Array.of(lossScalings.indexOf(kind), scale, good, bad, consecutive);
}

/** The rule as its description reads, told by places in the history: steps are numbered from 1. */
class Model {
  steps = 0;
  #made = 0;
  /** After which the scale was decided, by a thousand or by two. */
  #decided = 0;
  /** Of the last that was finite, and of those that were not. */
  #lastFinite = 0;
  #bad: number[] = [0];

  constructor(public scale: number) {}

  add(finite: boolean): void {
    this.#made++;
    if (finite) {
      this.steps++;
      this.#lastFinite = this.#made;
    } else this.#bad.push(this.#made);
    if (finite && this.good >= 1000) {
      const [doubled = 0] = Float32Array.of(this.scale * 2);
      if (doubled !== Infinity) this.scale = doubled;
      this.#decided = this.#made;
    } else if (!finite && this.bad >= 2) {
      const [fallen = 0] = Float32Array.of(this.scale * (Float32Array.of(0.8)[0] as number));
      this.scale = fallen < 1 ? 1 : fallen;
      this.#decided = this.#made;
    }
  }

  get good(): number {
    return this.#made - Math.max(this.#bad.at(-1) as number, this.#decided);
  }

  get bad(): number {
    return this.#bad.slice(-2).filter((step) => step > this.#decided).length;
  }

  get consecutive(): number {
    return this.#made - this.#lastFinite;
  }
}

/** Runs of finite steps, many near a thousand long, between runs of some that are not. */
function pattern(draws: Draws): Uint8Array {
  const steps: number[] = [];
  const parts = 1 + draws.below(5);
  for (let part = 0; part < parts; part++) {
    const finite = [draws.below(4), 995 + draws.below(10), draws.below(30)][draws.below(3)] as number;
    for (let i = 0; i < finite; i++) steps.push(1);
    for (let i = draws.below(6); i > 0; i--) steps.push(0);
  }
  return Uint8Array.from(steps);
}

suite("the rule of the loss scale", () => {
  test("10,000 random patterns, saved and restored in their middle", () => {
    let [grown, fallen, capped, floored] = [0, 0, 0, 0];
    for (let trial = 0; trial < 10_000; trial++) {
      const draws = new Draws(5, streams.draw, 0, trial);
      const beginnings = [2 ** 32, LARGEST, 2e38, 1, 1.2, 1.5];
      const begin = initialLossScale("dynamic", beginnings[trial % beginnings.length]);
      const finite = pattern(draws);
      const model = new Model(begin.scale);
      const engineSaid = countedByEngine(begin, finite);
      let own = begin;
      const restored = draws.below(finite.length + 1);
      let applied = 0;
      for (const [i, each] of finite.entries()) {
        const before = own.scale;
        own = nextLossScale(
          i === restored ? (JSON.parse(JSON.stringify(own)) as LossScale) : own,
          each === 1,
        );
        applied += each;
        model.add(each === 1);
        const { scale, good, bad, consecutive } = own;
        // An assertion each would take minutes.
        const at = 5 * i;
        const agree =
          scale === model.scale &&
          good === model.good &&
          bad === model.bad &&
          consecutive === model.consecutive &&
          engineSaid[at] === scale &&
          engineSaid[at + 1] === good &&
          engineSaid[at + 2] === bad &&
          engineSaid[at + 3] === consecutive &&
          engineSaid[at + 4] === Number(isStuck(own));
        if (!agree) {
          const { scale: s, good: g, bad: b, consecutive: c } = model;
          assert.fail(
            `pattern ${trial}, step ${i}: ${JSON.stringify(own)}; model ${[s, g, b, c].join(" ")}; engine ${engineSaid.slice(at, at + 5).join(" ")}`,
          );
        }
        grown += Number(scale > before);
        fallen += Number(scale < before);
        capped += Number(scale === before && good === 0 && each === 1 && scale > 2e38);
        floored += Number(scale === 1 && before > 1);
      }
      assert.equal(applied, model.steps);
      // What the engine is handed in the middle goes on as if it had counted all.
      const half = finite.subarray(restored);
      const middle = finite
        .subarray(0, restored)
        .reduce((state, each) => nextLossScale(state, each === 1), begin);
      assert.deepEqual(countedByEngine(middle, half), engineSaid.subarray(5 * restored));
    }
    // Otherwise the patterns show nothing.
    for (const times of [grown, fallen, capped, floored])
      assert.ok(times > 500, `${[grown, fallen, capped, floored].join(" ")}`);
  });

  test("begins at 2^32, doubles after a thousand finite steps and falls to 0.8 after two others", () => {
    let scale = initialLossScale("dynamic", 2 ** 32);
    const count = (finite: boolean, times: number): void => {
      for (let i = 0; i < times; i++) scale = nextLossScale(scale, finite);
    };
    count(true, 999);
    assert.deepEqual([scale.scale, scale.good], [2 ** 32, 999]);
    count(true, 1);
    assert.deepEqual([scale.scale, scale.good], [2 ** 33, 0]);
    count(false, 1);
    count(true, 500); // do not count the step before back
    assert.deepEqual([scale.bad, scale.good], [1, 500]);
    count(false, 1);
    assert.deepEqual([scale.scale, scale.bad, scale.good], [Math.fround(2 ** 33 * Math.fround(0.8)), 0, 0]);
  });

  test("a fixed scale stays, and is stuck after twenty steps in a row", () => {
    let scale = initialLossScale("fixed", 1024);
    for (let i = 0; i < 20; i++) {
      assert.equal(isStuck(scale), false);
      scale = nextLossScale(scale, false);
    }
    assert.deepEqual([scale.scale, scale.consecutive, isStuck(scale)], [1024, 20, true]);
    assert.equal(isStuck(nextLossScale(scale, true)), false);
  });

  test("without scaling nothing is counted", () => {
    const none = initialLossScale("none");
    assert.deepEqual(nextLossScale(none, false), none);
  });
});

const tiny = compile(
  tinyNetwork({ padding: "same", classes: 7, stem: 3 }, (net) => {
    net.pointwise("a", "pool1", 4);
    net.depthwise("b", normalised("a"), 2, true);
    net.pointwise("c", normalised("b"), 5);
  }),
  { batch: 3, imageSize: 13, mode: "train" },
);
const small = compile(shuffleNetV2({ variant: "tensorflow", width: 0.5, classes: 7 }), {
  batch: 4,
  imageSize: 64,
  mode: "train",
});

for (const backend of [referenceBackend, nativeBackend]) {
  const program = backend === nativeBackend ? small : tiny;

  suite(`scaled steps (${backend.name})`, () => {
    test("a power of two changes neither gradients nor weights, to the bit", async () => {
      const [plain, scaled] = await Promise.all(
        [initialLossScale("none"), initialLossScale("fixed", 2 ** 20)].map((scale) =>
          onRun(backend, program, async (run) => {
            run.scaleLoss(scale);
            for (let step = 0; step < 3; step++) await run.step(randomBatch(program, step), loss, update);
            return stateOf(run);
          }),
        ),
      );
      // Sums of f64 that are rounded once may differ where products are tiny.
      if (backend === nativeBackend) assert.deepEqual(scaled, plain);
      else assertAlike(scaled as TrainingArrays, plain as TrainingArrays);
    });

    test("computeGradients and applyUpdate do what a step does", async () => {
      const [one, two] = await Promise.all(
        [true, false].map((whole) =>
          onRun(backend, program, async (run) => {
            run.scaleLoss(initialLossScale("dynamic", 3 * 2 ** 20));
            const batch = randomBatch(program, 0);
            if (whole) await run.step(batch, loss, update);
            else {
              await run.computeGradients(batch, loss);
              await run.applyUpdate(update);
            }
            return stateOf(run);
          }),
        ),
      );
      assert.deepEqual(two, one);
    });

    // In f64 a weight of 3e38 overflows nowhere, and batch norm takes a huge beta out again.
    for (const value of backend === nativeBackend ? [Infinity, 3e38] : [Infinity]) {
      for (const { name, offset } of ofEachKind(program)) {
        test(`${value} in ${name}: nothing changes but the scale`, () =>
          onRun(backend, program, async (run) => {
            const state = await stateOf(run);
            state.parameters[offset] = value;
            await run.writeState(state);
            run.scaleLoss(initialLossScale("dynamic", 3e38));
            const before = await learnt(run);
            const result = await run.step(randomBatch(program, 1), loss, update);
            assert.equal(result.finite, false);
            assert.deepEqual(result.lossScale, { scale: Math.fround(3e38), good: 0, bad: 1, consecutive: 1 });
            assert.deepEqual(await learnt(run), before);
          }));
      }
    }

    test("an Inf in a dropout mask, or a scale that is too large, skips a step of any shards", async () => {
      for (const count of [1, 2, 3]) {
        await onRun(backend, tiny, async (run) => {
          run.scaleLoss(initialLossScale("dynamic", 2 ** 32));
          const before = await learnt(run);
          const blown = new Float32Array(tiny.batch * 5).fill(1);
          blown[2] = Infinity;
          const plain = new Float32Array(tiny.batch * 5).fill(1);
          const [result] = await run.steps({
            batches: Array.from({ length: count }, (_, i) => randomBatch(tiny, i)),
            first: { index: 0, count },
            loss,
            dropoutMasks: Array.from({ length: count }, (_, i) => (i === count - 1 ? blown : plain)),
            updates: [update],
          });
          assert.equal(result?.finite, false);
          assert.deepEqual(result?.lossScale, { scale: 2 ** 32, good: 0, bad: 1, consecutive: 1 });
          assert.deepEqual(await learnt(run), before);
        });
      }
    });
  });

  suite(`loops of steps (${backend.name})`, () => {
    for (const count of [1, 3]) {
      test(`one call is as many of one step, ${count} shards, skipped steps among them`, async () => {
        const steps = 9;
        const masks = Array.from({ length: steps * count }, (_, i) => {
          const mask = new Float32Array(tiny.batch * 5).fill(1);
          // The third and the fourth step overflow, and the last.
          if ([2, 3, 8].includes(Math.floor(i / count)) && i % count === 0) mask[1] = Infinity;
          return mask;
        });
        const batches = masks.map((_, i) => randomBatch(tiny, i));
        const updates = Array.from({ length: steps }, (_, i) => ({
          ...update,
          learningRate: 0.05 / (i + 1),
        }));
        const [together, apart, byShards] = await Promise.all(
          [steps, 1, 0].map((perCall) =>
            onRun(backend, tiny, async (run) => {
              run.scaleLoss(initialLossScale("dynamic", 2 ** 24));
              const results: StepResult[] = [];
              let applied = 0;
              const size = perCall === 0 ? 1 : perCall * count;
              for (let from = 0; from < batches.length; from += size) {
                const first = { index: from % count, count };
                const loop: Loop = {
                  batches: batches.slice(from, from + size),
                  first,
                  loss,
                  dropoutMasks: masks.slice(from, from + size),
                  updates: updates.slice(applied, applied + Math.floor((first.index + size) / count)),
                };
                const made = await run.steps(loop);
                if ((from + size) % count > 0) continue;
                results.push(...made);
                applied += made.filter(({ finite }) => finite).length;
              }
              return { results: results.map(withoutTimes), state: await stateOf(run) };
            }),
          ),
        );
        assert.equal(together?.results.length, steps);
        assert.deepEqual(
          together?.results.map(({ finite }) => finite),
          [true, true, false, false, true, true, true, true, false],
        );
        assert.equal(together?.results[3]?.lossScale.scale, Math.fround(2 ** 24 * Math.fround(0.8)));
        assert.deepEqual(apart, together);
        assert.deepEqual(byShards, together);
      });
    }

    test("end where a step is not finite and the loss is not scaled, and where they are asked to stop", async () => {
      const blown = new Float32Array(tiny.batch * 5).fill(Infinity);
      const plain = new Float32Array(tiny.batch * 5).fill(1);
      const loop: Loop = {
        batches: [0, 1, 2].map((i) => randomBatch(tiny, i)),
        first: { index: 0, count: 1 },
        loss,
        dropoutMasks: [plain, blown, plain],
        updates: [update, update, update],
      };
      const made = async (prepare: (run: TrainingRun) => void): Promise<boolean[]> =>
        onRun(backend, tiny, async (run) => {
          prepare(run);
          return (await run.steps(loop)).map(({ finite }) => finite);
        });
      assert.deepEqual(await made(() => undefined), [true, false]);
      assert.deepEqual(await made((run) => run.scaleLoss(initialLossScale("fixed", 8))), [true, false, true]);
      assert.deepEqual(await made((run) => run.requestStop()), [true]);
      // Twenty in a row at a scale that cannot fall: the engine does not use up what is left of the loop.
      const patient = { ...initialLossScale("dynamic"), consecutive: 19 };
      assert.deepEqual(
        await onRun(backend, tiny, async (run) => {
          run.scaleLoss(patient);
          const again = { ...loop, dropoutMasks: [blown, plain, plain] };
          return (await run.steps(again)).map(({ lossScale }) => lossScale.consecutive);
        }),
        [20],
      );
    });
  });
}

/** Of each kind of tensor the first and the last. */
function ofEachKind({ parameters }: Program): readonly Program["parameters"][number][] {
  const kindOf = (name: string): string => `${name.split(".").at(-1)} ${String(/depthwise|^b\b/.test(name))}`;
  return parameters.filter(({ name }) => {
    const alike = parameters.filter((other) => kindOf(other.name) === kindOf(name));
    return alike[0]?.name === name || alike.at(-1)?.name === name;
  });
}

function withoutTimes(result: StepResult): StepResult {
  return { ...result, exchangeSeconds: 0 };
}

async function onRun<T>(
  backend: Backend,
  program: Program,
  work: (run: TrainingRun) => Promise<T>,
): Promise<T> {
  const run = backend.train(program, { threads: 2 });
  try {
    const { parameterCount } = program;
    const draws = new Draws(3, streams.draw, 1, 0);
    const parameters = Float32Array.from({ length: parameterCount }, () => draws.below(1000) / 1000 - 0.5);
    const planes = program.planes.length;
    await run.writeState({
      parameters,
      averages: parameters.slice(),
      momentum: new Float32Array(parameterCount).fill(0.01),
      statistics: new Float32Array(2 * planes).fill(1, planes),
    });
    return await work(run);
  } finally {
    run.close();
  }
}

function randomBatch({ batch, imageSize, classes }: Program, index: number): Batch {
  const draws = new Draws(7, streams.draw, 2, index);
  return {
    images: Uint8Array.from({ length: batch * imageSize ** 2 * 3 }, () => draws.below(256)),
    labels: Int32Array.from({ length: batch }, () => draws.below(classes)),
  };
}

async function stateOf(run: TrainingRun): Promise<TrainingArrays> {
  const { parameters, statistics, momentum, averages, gradients } = await run.readState();
  return {
    parameters: parameters.slice(),
    statistics: statistics.slice(),
    momentum: momentum.slice(),
    averages: averages.slice(),
    gradients: gradients.slice(),
  };
}

/** What a skipped step must not change. */
async function learnt(run: TrainingRun): Promise<Omit<TrainingArrays, "gradients">> {
  const { parameters, statistics, momentum, averages } = await stateOf(run);
  return { parameters, statistics, momentum, averages };
}

function assertAlike(actual: TrainingArrays, expected: TrainingArrays): void {
  for (const name of ["parameters", "gradients", "momentum"] as const)
    actual[name].forEach((value, i) => {
      const other = expected[name][i] as number;
      assert.ok(
        Math.abs(value - other) <= 1e-6 * Math.max(1, Math.abs(other)),
        `${name}[${i}]: ${value}, ${other}`,
      );
    });
}
