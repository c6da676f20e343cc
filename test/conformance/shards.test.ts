/**
 * Steps of several shards: gradients, statistics and losses are those of the shards, each with its own batch norm,
 * added in the tree that every number of processes adds in.
 */

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import type { Backend, Batch, StepResult, TrainingArrays, TrainingRun } from "../../src/backends/backend.js";
import { referenceBackend } from "../../src/backends/reference/reference.js";
import { Draws, streams } from "../../src/core/random.js";
import { channelsOf, normalised } from "../../src/models/layers.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";
import type { Program } from "../../src/program/program.js";
import { fastBackend } from "../support/fast-backend.js";
import { assertClose } from "../support/compare.js";
import { meanByLevels } from "../support/shard-tree.js";
import { tinyNetwork } from "../support/tiny-network.js";

const loss = { labelSmoothing: 0.1, weightDecay: 1e-3 };
const update = { learningRate: 0.05, momentum: 0.9, nesterov: true, weightDecay: 1e-3, averageDecay: 0.9 };

const branches = tinyNetwork({ padding: "same", classes: 7, stem: 3 }, (net) => {
  net.pointwise("a", "pool1", 4);
  net.depthwise("b", normalised("a"), 2, true);
  net.depthwise("c", normalised("a"), 2, false);
  net.arrange("both", [...channelsOf(normalised("b"), 4), ...channelsOf(normalised("c"), 4)]);
  net.pointwise("join", "both", 5);
});
const small = compile(branches, { batch: 3, imageSize: 13, mode: "train" });
/** More than one bucket of gradients. */
const large = compile(shuffleNetV2({ variant: "tensorflow", width: 0.5, classes: 7 }), {
  batch: 4,
  imageSize: 64,
  mode: "train",
});

for (const backend of [referenceBackend, fastBackend]) {
  suite(`a step of several shards (${backend.name})`, () => {
    for (const count of [2, 3, 4, 7, 8]) {
      test(`${count} shards: gradients and losses are the tree's over the shards, to the bit`, () =>
        compareWithTree(backend, small, count));
    }

    test("one shard is a step without shards, to the bit", async () => {
      const batch = randomBatch(small, 0);
      const [plain, sharded] = await Promise.all(
        [undefined, { index: 0, count: 1 }].map((shard) =>
          onRun(backend, small, async (run) => {
            const result = await run.step(batch, loss, update, shard);
            return { result, ...(await stateOf(run)) };
          }),
        ),
      );
      assert.deepEqual(sharded, plain);
    });

    test("each shard but the last reports itself, and leaves the weights alone", () =>
      onRun(backend, small, async (run) => {
        const before = await stateOf(run);
        for (const [index, batch] of batchesOf(small, 3).entries()) {
          const alone = await onRun(backend, small, (other) => other.computeGradients(batch, loss));
          const result = await run.step(batch, loss, update, { index, count: 4 });
          assert.deepEqual(result, alone);
        }
        assert.deepEqual(await learnt(run), learntOf(before));
      }));

    test("a step begun anew forgets the one before", async () => {
      const [first, second, third] = batchesOf(small, 3) as [Batch, Batch, Batch];
      const clean = await onRun(backend, small, async (run) => {
        await run.step(second, loss, update, { index: 0, count: 2 });
        await run.step(third, loss, update, { index: 1, count: 2 });
        return learnt(run);
      });
      const begunTwice = await onRun(backend, small, async (run) => {
        await run.step(first, loss, update, { index: 0, count: 2 });
        await run.step(second, loss, update, { index: 0, count: 2 });
        await run.step(third, loss, update, { index: 1, count: 2 });
        return learnt(run);
      });
      assert.deepEqual(begunTwice, clean);
    });

    test("a shard that is not finite makes a step that is not, and updates nothing", async () => {
      const program = small;
      // One feature is blown up in the second shard alone.
      const dropoutMask = new Float32Array(program.batch * 5).fill(1);
      dropoutMask[2] = Infinity;
      await onRun(backend, program, async (run) => {
        const before = await learnt(run);
        const results: StepResult[] = [];
        for (const [index, batch] of batchesOf(program, 4).entries()) {
          const own = index === 1 ? { ...loss, dropoutMask } : loss;
          results.push(await run.step(batch, own, update, { index, count: 4 }));
        }
        assert.deepEqual(
          results.map(({ finite }) => finite),
          [true, false, true, false],
        );
        assert.deepEqual(await learnt(run), before);
      });
    });

    test("shards out of order are refused", () =>
      onRun(backend, small, async (run) => {
        const batch = randomBatch(small, 0);
        await assert.rejects(async () => run.step(batch, loss, update, { index: 1, count: 2 }));
        await run.step(batch, loss, update, { index: 0, count: 4 });
        await assert.rejects(async () => run.step(batch, loss, update, { index: 2, count: 4 }));
      }));
  });
}

suite("steps of several shards on the native backend", () => {
  for (const count of [2, 3, 4, 8]) {
    test(`${count} shards: give what the reference gives`, async () => {
      const [reference, native] = await Promise.all(
        [referenceBackend, fastBackend].map((backend) =>
          onRun(backend, small, async (run) => {
            const results: StepResult[] = [];
            for (let step = 0; step < 3; step++)
              results.push(await stepOf(run, batchesOf(small, count, step * count)));
            return { results, ...(await stateOf(run)) };
          }),
        ),
      );
      if (reference === undefined || native === undefined) throw new Error("two backends, two results");
      for (const name of ["gradients", "parameters", "momentum", "averages", "statistics"] as const)
        assertClose(name, native[name], reference[name], { ofScale: 2e-5 });
      const losses = (results: readonly StepResult[]) =>
        results.flatMap(({ crossEntropy, decayLoss }) => [crossEntropy, decayLoss]);
      assertClose("losses", losses(native.results), losses(reference.results), { ofScale: 1e-5 });
      const counted = ({ correct1, correct5, finite }: StepResult) => [correct1, correct5, finite];
      assert.deepEqual(native.results.map(counted), reference.results.map(counted));
    });
  }

  test("of a network of several buckets are the tree's, to the bit", () =>
    compareWithTree(fastBackend, large, 4));

  test("give the same bits on one thread and on three", async () => {
    const [one, three] = await Promise.all(
      [1, 3].map((threads) =>
        onRun(
          fastBackend,
          large,
          async (run) => {
            const result = await stepOf(run, batchesOf(large, 3));
            return { result, ...(await stateOf(run)) };
          },
          threads,
        ),
      ),
    );
    assert.deepEqual(three, one);
  });
});

/** What the shards give one by one, added by the definition, beside what a step of them gives. */
async function compareWithTree(backend: Backend, program: Program, count: number): Promise<void> {
  const batches = batchesOf(program, count);
  const alone = await onRun(backend, program, async (run) => {
    const shards: { result: StepResult; gradients: Float32Array }[] = [];
    for (const batch of batches) {
      const result = await run.computeGradients(batch, loss);
      shards.push({ result, gradients: (await run.readState()).gradients.slice() });
    }
    return shards;
  });
  // What a batch does to the moving statistics is in proportion to its own.
  const moved = await Promise.all(
    batches.map((batch) =>
      onRun(backend, program, async (run) => {
        await run.step(batch, loss, update);
        return Float64Array.from((await run.readState()).statistics);
      }),
    ),
  );
  await onRun(backend, program, async (run) => {
    const result = await stepOf(run, batches);
    const { gradients, statistics } = await run.readState();
    assert.deepEqual(gradients, meanByLevels(alone.map((shard) => shard.gradients)));
    const losses = alone.map((shard) => Float64Array.of(shard.result.crossEntropy));
    const sum = (name: "correct1" | "correct5") =>
      alone.reduce((total, shard) => total + shard.result[name], 0);
    const crossEntropy = meanByLevels(losses)[0] as number;
    // To a rounding of f64: by SSE2 and WebAssembly 3 shards show it.
    assert.ok(Math.abs(result.crossEntropy - crossEntropy) <= 4e-16 * crossEntropy);
    assert.deepEqual(result, {
      crossEntropy: result.crossEntropy,
      decayLoss: alone[0]?.result.decayLoss,
      correct1: sum("correct1"),
      correct5: sum("correct5"),
      finite: true,
      stops: 0,
      failures: 0,
      exchangeSeconds: 0,
      lossScale: { scale: 1, good: 0, bad: 0, consecutive: 0 },
    });
    assertClose("statistics", statistics, meanByLevels(moved), { ofScale: 1e-6 });
  });
}

async function stepOf(run: TrainingRun, batches: readonly Batch[]): Promise<StepResult> {
  let last: StepResult | undefined;
  for (const [index, batch] of batches.entries())
    last = await run.step(batch, loss, update, { index, count: batches.length });
  return last as StepResult;
}

/** On a run with drawn weights, closed at the end. */
async function onRun<T>(
  backend: Backend,
  program: Program,
  work: (run: TrainingRun) => Promise<T>,
  threads = 2,
): Promise<T> {
  const run = backend.train(program, { threads });
  try {
    await run.writeState(startOf(program));
    return await work(run);
  } finally {
    run.close();
  }
}

function startOf(program: Program): Partial<TrainingArrays> {
  const draws = new Draws(5, streams.initialise, 0, 0);
  const parameters = Float32Array.from({ length: program.parameterCount }, () => 0.4 * draws.normal());
  for (const { gamma } of program.planes) parameters[gamma] = draws.uniform(0.5, 1.5);
  const planes = program.planes.length;
  return {
    parameters,
    averages: parameters.slice(),
    statistics: Float32Array.from({ length: 2 * planes }, (_, i) => (i < planes ? 0 : 1)),
  };
}

async function stateOf(run: TrainingRun): Promise<TrainingArrays> {
  const { gradients, ...others } = await run.readState();
  return { ...learntOf({ gradients, ...others }), gradients: gradients.slice() };
}

/** All but the gradients, which every shard overwrites. */
function learntOf({ parameters, momentum, averages, statistics }: TrainingArrays) {
  return {
    parameters: parameters.slice(),
    momentum: momentum.slice(),
    averages: averages.slice(),
    statistics: statistics.slice(),
  };
}

async function learnt(run: TrainingRun) {
  return learntOf(await run.readState());
}

function batchesOf(program: Program, count: number, first = 0): Batch[] {
  return Array.from({ length: count }, (_, i) => randomBatch(program, first + i));
}

function randomBatch({ batch, imageSize, classes }: Program, seed: number): Batch {
  const draws = new Draws(seed, streams.draw, 0, 0);
  return {
    images: Uint8Array.from({ length: batch * imageSize ** 2 * 3 }, () => draws.below(256)),
    labels: Int32Array.from({ length: batch }, () => draws.below(classes)),
  };
}
