/**
 * A network whose beginning is frozen: what trains has the gradients it should have, what does not keeps its bits and
 * runs as inference does. Step by step, the two backends are compared in native-steps.test.ts.
 */

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import type { Batch, TrainingArrays } from "../../src/backends/backend.js";
import { referenceBackend } from "../../src/backends/reference/reference.js";
import { UsageError } from "../../src/core/error.js";
import { Draws, streams } from "../../src/core/random.js";
import { initialise } from "../../src/models/initialise.js";
import { channelsOf, normalised } from "../../src/models/layers.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";
import { firstTraining, type Program } from "../../src/program/program.js";
import { fastBackend } from "../support/fast-backend.js";
import { assertClose } from "../support/compare.js";
import { trainOn } from "../support/run.js";
import { stateInDoubles, tinyNetwork } from "../support/tiny-network.js";

const loss = { labelSmoothing: 0.1, weightDecay: 1e-3 };
const update = { learningRate: 0.05, momentum: 0.9, nesterov: true, weightDecay: 1e-3, averageDecay: 0.9 };
const network = shuffleNetV2({ variant: "tensorflow", width: 0.5, classes: 7 });
const whole = compile(network, { batch: 4, imageSize: 64, mode: "train" });

/** "a" has two readers; "join" reads planes of "b", frozen or not, and of "c". */
const branches = tinyNetwork({ padding: "same", classes: 5, stem: 3 }, (net) => {
  net.pointwise("a", "pool1", 4);
  net.depthwise("b", normalised("a"), 2, true);
  net.depthwise("c", normalised("a"), 2, false);
  net.arrange("both", [...channelsOf(normalised("b"), 4), ...channelsOf(normalised("c"), 4)]);
  net.pointwise("join", "both", 5);
});

suite("a frozen beginning", () => {
  for (const through of ["conv1", "a", "b", "join"]) {
    test(`through "${through}": what trains has the gradients of central differences, the rest none`, async () => {
      const program = compile(branches, { batch: 3, imageSize: 13, mode: "train", freeze: { through } });
      const state = randomState(program);
      const batch = randomBatch(program);
      const run = trainOn(referenceBackend, program, state, { threads: 1 });
      const at = async () => (await run.computeGradients(batch, { ...loss, weightDecay: 0 })).crossEntropy;
      await at();
      const computed = Array.from(state.gradients);
      assert.ok(computed.slice(program.trainedCount).every((g) => g === 0));
      assert.ok(program.trainedCount > 0 && program.trainedCount < program.parameterCount);
      const measured: number[] = [];
      for (let i = 0; i < program.trainedCount; i++) {
        const [kept, h] = [state.parameters[i] as number, 1e-6];
        state.parameters[i] = kept + h;
        const above = await at();
        state.parameters[i] = kept - h;
        measured.push((above - (await at())) / (2 * h));
        state.parameters[i] = kept;
      }
      assertClose("gradients", computed.slice(0, program.trainedCount), measured, {
        ofScale: 1e-6,
        absolute: 1e-8,
      });
    });
  }

  for (const backend of [fastBackend, referenceBackend]) {
    test(`keeps its bits over three updates, and the rest moves (${backend.name})`, async () => {
      const program = compile(network, { ...shape, mode: "train", freeze: { through: "stage3.unit2" } });
      const state = startOf(program);
      const run = trainOn(backend, program, state, { threads: 2 });
      const before = copy(state);
      for (let i = 0; i < 3; i++) assert.ok((await run.step(randomBatch(program, i), loss, update)).finite);
      run.close();
      for (const name of ["parameters", "momentum", "averages"] as const) {
        const [was, is] = [before[name], state[name]];
        assert.deepEqual(is.subarray(program.trainedCount), was.subarray(program.trainedCount), name);
        assert.notDeepEqual(is.subarray(0, program.trainedCount), was.subarray(0, program.trainedCount));
      }
      const { first } = program.steps[firstTraining(program)] ?? { first: NaN };
      program.planes.forEach((_, plane) => {
        const moved = state.statistics[plane] !== before.statistics[plane];
        assert.equal(moved, plane >= first, `moving mean of plane ${plane}`);
      });
    });
  }

  test("gives what an inference run gives, to the bit, whatever lies behind it", async () => {
    const { parameters, statistics } = startOf(whole);
    const maps: Float32Array[] = [];
    for (const mode of ["train", "infer"] as const) {
      const freeze = mode === "train" ? { through: "stage4" } : undefined;
      const program = compile(network, {
        ...shape,
        mode,
        freeze,
        keep: ["stage4", "stage2.unit1.main.before"],
      });
      const { images, labels } = randomBatch(program);
      if (mode === "train") {
        const run = fastBackend.train(program, { threads: 2 });
        await run.writeState({ parameters, statistics });
        await run.computeGradients({ images, labels }, loss);
        maps.push(run.kept("stage4"), run.kept("stage2.unit1.main.before"));
        run.close();
      } else {
        const run = fastBackend.infer(program, { threads: 2 });
        await run.load({ parameters, statistics });
        await run.infer(images, program.batch);
        maps.push(run.kept("stage4"), run.kept("stage2.unit1.main.before"));
        run.close();
      }
    }
    const [a, b, c, d] = maps;
    assert.ok(a?.some((value) => value > 0));
    assert.deepEqual([a, b], [c, d]);
  });

  test("takes less memory: no gradients, and values only until their last reader", () => {
    const sizes = ["stage2", "stage3", "stage4", "conv5"].map((through) => {
      const program = compile(network, { ...shape, mode: "train", freeze: { through } });
      return program.memory.size;
    });
    [whole.memory.size, ...sizes].reduce((before, after) => {
      assert.ok(after < before, `${after} bytes after ${before}`);
      return after;
    });
  });

  test("names no layer that is not there, nor all of them, nor in inference", () => {
    const through = (name: string, mode: "train" | "infer" = "train") =>
      compile(network, { ...shape, mode, freeze: { through: name } });
    assert.throws(
      () => through("stage5"),
      (error) => error instanceof UsageError && /stage4/.test(error.message),
    );
    assert.throws(() => through("classifier"), /nothing would be left to train/);
    assert.throws(() => through("stage2", "infer"), UsageError);
    assert.throws(() => compile(network, { ...shape, mode: "train", keep: ["stage9"] }), UsageError);
  });
});

suite("batch norms that keep their statistics", () => {
  for (const freeze of [undefined, { through: "a" }]) {
    const what = freeze === undefined ? "where all trains" : `frozen through "${freeze.through}"`;
    const options = { batch: 3, imageSize: 13, mode: "train", statistics: "moving", freeze } as const;
    const program = compile(branches, options);

    test(`have the gradients of central differences, ${what}`, async () => {
      const state = randomState(program);
      const batch = randomBatch(program);
      const run = trainOn(referenceBackend, program, state, { threads: 1 });
      const at = async () => (await run.computeGradients(batch, { ...loss, weightDecay: 0 })).crossEntropy;
      await at();
      const computed = Array.from(state.gradients.subarray(0, program.trainedCount));
      const measured: number[] = [];
      for (let i = 0; i < program.trainedCount; i++) {
        const [kept, h] = [state.parameters[i] as number, 1e-6];
        state.parameters[i] = kept + h;
        const above = await at();
        state.parameters[i] = kept - h;
        measured.push((above - (await at())) / (2 * h));
        state.parameters[i] = kept;
      }
      assertClose("gradients", computed, measured, { ofScale: 1e-6, absolute: 1e-8 });
    });

    test(`have the logits of inference, and those of the f64 twin are the engine's gradients, ${what}`, async () => {
      const whole = compile(network, {
        ...shape,
        mode: "train",
        statistics: "moving",
        freeze: freeze && { through: "stage2" },
      });
      const batch = randomBatch(whole);
      const [native, reference] = await Promise.all(
        [fastBackend, referenceBackend].map(async (backend) => {
          const state = startOf(whole);
          const run = trainOn(backend, whole, state, { threads: 2 });
          await run.computeGradients(batch, loss);
          const logits = run.logits();
          run.close();
          return { state, logits };
        }),
      );
      assert.ok(native !== undefined && reference !== undefined);
      assertClose("gradients", native.state.gradients, reference.state.gradients, { ofScale: 1e-4 });
      const inference = compile(network, { ...shape, mode: "infer" });
      const run = fastBackend.infer(inference, { threads: 2 });
      await run.load(startOf(whole));
      assertClose("logits", native.logits, await run.infer(batch.images, whole.batch), { ofScale: 1e-4 });
      run.close();
    });
  }

  for (const backend of [fastBackend, referenceBackend]) {
    test(`move all weights in a step, and no statistic (${backend.name})`, async () => {
      const program = compile(network, { ...shape, mode: "train", statistics: "moving" });
      const state = startOf(program);
      const run = trainOn(backend, program, state, { threads: 2 });
      const before = copy(state);
      assert.ok((await run.step(randomBatch(program), loss, update)).finite);
      run.close();
      assert.deepEqual(state.statistics, before.statistics);
      for (const { name, offset, size } of program.parameters)
        assert.notDeepEqual(
          state.parameters.subarray(offset, offset + size),
          before.parameters.subarray(offset, offset + size),
          name,
        );
    });
  }
});

suite("kept maps", () => {
  test("of training, where all trains, are those of the f64 twin", async () => {
    const program = compile(branches, { batch: 3, imageSize: 13, mode: "train", keep: ["a", "both"] });
    const state = randomState(program);
    const batch = randomBatch(program);
    const reference = trainOn(referenceBackend, program, state, { threads: 1 });
    await reference.computeGradients(batch, loss);
    const native = fastBackend.train(program, { threads: 2 });
    await native.writeState({ parameters: Float32Array.from(state.parameters) });
    await native.computeGradients(batch, loss);
    for (const layer of ["a", "both"])
      assertClose(layer, native.kept(layer), reference.kept(layer), { ofScale: 1e-5 });
    assert.equal(native.kept("both").length, 3 * 8 * 2 * 2);
    assert.throws(() => native.kept("c"), RangeError);
    native.close();
  });

  test("of an inference on fewer pictures than the program is for are as many", async () => {
    const program = compile(branches, { batch: 32, imageSize: 13, mode: "infer", keep: ["join"] });
    const { images } = randomBatch(program);
    const state = randomState(program);
    const weights = {
      parameters: Float32Array.from(state.parameters),
      statistics: Float32Array.from(state.statistics),
    };
    const maps: Float32Array[] = [];
    for (const backend of [fastBackend, referenceBackend]) {
      const run = backend.infer(program, { threads: 2 });
      await run.load(weights);
      await run.infer(images.subarray(0, 5 * 13 * 13 * 3), 5);
      maps.push(run.kept("join"));
      run.close();
    }
    const [native = [], reference = []] = maps;
    assert.equal(native.length, 5 * 5 * 2 * 2);
    assertClose("join", native, reference, { ofScale: 1e-5 });
  });
});

const shape = { batch: 4, imageSize: 64 } as const;

/** Weights as training begins, with statistics of their own. */
function startOf(program: Program): TrainingArrays {
  const parameters = initialise(program, { version: "he_normal", seed: 4 });
  const draws = new Draws(6, streams.draw, 0, 1);
  return {
    parameters,
    averages: parameters.slice(),
    momentum: new Float32Array(program.parameterCount),
    gradients: new Float32Array(program.parameterCount),
    statistics: Float32Array.from({ length: 2 * program.planes.length }, (_, i) =>
      i < program.planes.length ? 0.1 * draws.normal() : draws.uniform(0.5, 1.5),
    ),
  };
}

function randomState(program: Program): TrainingArrays {
  const draws = new Draws(1, streams.initialise, 0, 0);
  return stateInDoubles(
    program,
    Float64Array.from({ length: program.parameterCount }, () => draws.normal()),
  );
}

function randomBatch({ batch, imageSize, classes }: Program, seed = 2): Batch {
  const draws = new Draws(seed, streams.draw, 0, 0);
  return {
    images: Uint8Array.from({ length: batch * imageSize ** 2 * 3 }, () => draws.below(256)),
    labels: Int32Array.from({ length: batch }, () => draws.below(classes)),
  };
}

function copy(state: TrainingArrays): TrainingArrays {
  const { parameters, momentum, averages, gradients, statistics } = state;
  return {
    parameters: parameters.slice(),
    momentum: momentum.slice(),
    averages: averages.slice(),
    gradients: gradients.slice(),
    statistics: statistics.slice(),
  };
}
