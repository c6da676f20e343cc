/** `--over_dump` names where a number that is not finite begins; `--data_dump_flag` writes what a step consists of. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import type { Backend, Batch, TrainingRun } from "../../src/backends/backend.js";
import { referenceBackend } from "../../src/backends/reference/reference.js";
import { Draws, streams } from "../../src/core/random.js";
import { DivergedError } from "../../src/core/error.js";
import { ALONE } from "../../src/distributed/alone.js";
import { parseNpy } from "../../src/formats/npy.js";
import { initialise, initialStatistics } from "../../src/models/initialise.js";
import { channelsOf, normalised } from "../../src/models/layers.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";
import type { Program } from "../../src/program/program.js";
import { Journal } from "../../src/run/journal.js";
import { train } from "../../src/train/trainer.js";
import { type OverflowReport, Overflows } from "../../src/train/overflow.js";
import type { Plan } from "../../src/train/plan.js";
import type { Prepared } from "../../src/train/prepare.js";
import { fastBackend } from "../support/fast-backend.js";
import { assertClose } from "../support/compare.js";
import { families, needsMpi, program as riffle, startRanks } from "../support/mpi.js";
import { tinyNetwork } from "../support/tiny-network.js";
import { scratch, tinySettings, trainAndWatch, trainedBits, writeTinySet } from "../support/tiny-run.js";

const folder = scratch();
const data = writeTinySet(folder);
const loss = { labelSmoothing: 0.1, weightDecay: 1e-3 };
const update = { learningRate: 0.05, momentum: 0.9, nesterov: true, weightDecay: 1e-3, averageDecay: 0.9 };
let runs = 0;

/** Every kind of layer: conv1, a, then b beside c, join, classifier. */
const branches = tinyNetwork({ padding: "same", classes: 7, stem: 3 }, (net) => {
  net.pointwise("a", "pool1", 4);
  net.depthwise("b", normalised("a"), 2, true);
  net.depthwise("c", normalised("a"), 2, false);
  net.arrange("both", [...channelsOf(normalised("b"), 4), ...channelsOf(normalised("c"), 4)]);
  net.pointwise("join", "both", 5);
});
const small = compile(branches, { batch: 3, imageSize: 13, mode: "train" });

function randomBatch({ batch, imageSize, classes }: Program, seed = 0): Batch {
  const draws = new Draws(seed, streams.draw, 0, 0);
  return {
    images: Uint8Array.from({ length: batch * imageSize ** 2 * 3 }, () => draws.below(256)),
    labels: Int32Array.from({ length: batch }, () => draws.below(classes)),
  };
}

/** Makes a step with parameters changed by `plant`, and looks for where it began. */
async function lookAt(
  backend: Backend,
  program: Program,
  plant: (parameters: (name: string) => Float32Array) => void,
): Promise<{ words: string | undefined; report: OverflowReport }> {
  const run = backend.train(program, { threads: 2 });
  try {
    const state = await run.readState();
    initialise(program, { version: "he_uniform", seed: 3 }, state.parameters);
    state.statistics.set(initialStatistics(program));
    plant((name) => {
      const found = program.parameters.find((parameter) => parameter.name === name);
      assert.ok(found, `${name} of ${program.parameters.map((each) => each.name).join(", ")}`);
      return state.parameters.subarray(found.offset, found.offset + found.size);
    });
    await run.writeState(state);
    const batch = randomBatch(program);
    const before = (await run.readState()).parameters.slice();
    const { finite } = await run.step(batch, loss, update);
    assert.equal(finite, false);
    const runDir = join(folder, `look-${runs++}`);
    mkdirSync(runDir);
    const plan = { runDir, ranks: ALONE, shards: { first: 0, count: 1, of: 1 } } as unknown as Plan;
    const prepared = { run, program } as unknown as Prepared;
    const words = await new Overflows(plan, prepared, new Journal(() => undefined)).look(1, 1, [
      { batch, loss },
    ]);
    assert.deepEqual((await run.readState()).parameters, before, "looking changed weights");
    const text = readFileSync(join(runDir, "dump", "step-1", "overflow.json"), "utf8");
    return { words, report: JSON.parse(text) as OverflowReport };
  } finally {
    run.close();
  }
}

suite("where a number that is not finite begins", () => {
  const planted = [
    "conv1.weight",
    "conv1.gamma",
    "a.weight",
    "a.gamma",
    "a.beta",
    "b.weight",
    "c.gamma",
    "join.weight",
    "classifier.weight",
    "classifier.bias",
  ];
  for (const backend of [fastBackend, referenceBackend]) {
    for (const name of planted) {
      for (const value of [NaN, Infinity, -Infinity]) {
        if (name === "a.beta" && value < 0) continue; // below every number, so the ReLU makes it a finite 0
        test(`${value} in ${name} is named (${backend.name})`, async () => {
          const { words, report } = await lookAt(backend, small, (parameters) => {
            parameters(name)[1] = value;
          });
          const [layer, tensor] = name.split(".");
          const { first } = report;
          assert.deepEqual(
            [first?.layer, first?.tensor, first?.direction, first?.shard],
            [layer, tensor, "forward", 0],
          );
          const kinds = Number.isNaN(value) ? [1, 0] : [0, 1];
          assert.deepEqual([first?.nan, first?.infinite], kinds);
          assert.match(words ?? "", new RegExp(`in ${layer}, ${tensor}: 1 (NaN|Inf) of \\d+ \\(`));
        });
      }
    }
  }

  // f64, which the reference computes in, holds these.
  for (const [name, tensor] of [
    ["conv1.weight", "z"],
    ["a.weight", "z"],
    ["a.gamma", "y"],
    ["b.weight", "z"],
    ["join.weight", "z"],
    ["classifier.weight", "logits"],
  ] as const) {
    test(`finite numbers of ${name} that overflow are found in what the layer makes, ${tensor}`, async () => {
      const { report } = await lookAt(fastBackend, small, (parameters) => parameters(name).fill(3e38));
      assert.deepEqual([report.first?.layer, report.first?.tensor], [name.split(".")[0], tensor]);
    });
  }

  test("a gradient that overflows after a finite forward pass is found on the way back", async () => {
    const { report } = await lookAt(fastBackend, small, (parameters) => {
      const shrink = (values: Float32Array): void => values.forEach((value, i) => (values[i] = value * 1e-6));
      shrink(parameters("join.weight"));
      parameters("join.gamma").fill(2e19);
      parameters("classifier.weight").forEach((_, i, all) => (all[i] = i % 2 === 0 ? 2e19 : -2e19));
    });
    const { first, shards } = report;
    assert.deepEqual(
      [first?.direction, first?.layer, first?.tensor],
      ["backward", "join", "weight.gradient"],
    );
    const forward = shards[0]?.tensors.filter(({ direction }) => direction === "forward") ?? [];
    assert.ok(forward.length > 15 && forward.every(({ nan, infinite }) => nan + infinite === 0));
    assert.ok(Number.isFinite(Number(shards[0]?.cross_entropy)));
  });

  test("a weight deep in a network of the usual size is named, with statistics of every tensor", async () => {
    const large = compile(shuffleNetV2({ variant: "tensorflow", width: 0.5, classes: 7 }), {
      batch: 4,
      imageSize: 64,
      mode: "train",
    });
    const { report } = await lookAt(fastBackend, large, (parameters) => {
      parameters("stage3.unit2.main.depthwise.weight")[4] = NaN;
    });
    assert.equal(report.first?.layer, "stage3.unit2.main.depthwise");
    const tensors = report.shards[0]?.tensors ?? [];
    // Of 55 convolutions weight, gamma, beta and their gradients, z, y and g; of the classifier weight, bias, logits.
    assert.equal(tensors.length, large.parameters.length * 2 + 3 * (large.steps.length - 1) + 1);
    const [weight] = tensors;
    assert.ok(weight && weight.min !== null && weight.max !== null && weight.min < 0 && weight.max > 0);
    assert.ok(weight.mean !== null && weight.mean > weight.min && weight.mean < weight.max);
  });
});

/** A run's best weights with a weight so large that its layer overflows, as a file to start from. */
async function overflowingWeights(): Promise<string> {
  const run = join(folder, `weights-${runs++}`);
  await train({ ...tinySettings(data, run), max_train_steps: 1 });
  const bytes = readFileSync(join(run, "best", "weights.safetensors"));
  const header = Number(bytes.readBigUInt64LE(0));
  const tensors = JSON.parse(bytes.toString("utf8", 8, 8 + header)) as Record<
    string,
    { data_offsets: [number, number] }
  >;
  const name = Object.keys(tensors).find(
    (each) => each.includes("stage2") && each.endsWith("depthwise.weight"),
  );
  assert.ok(name, Object.keys(tensors).join(" "));
  const [from, to] = tensors[name]?.data_offsets as [number, number];
  for (let at = from; at < to; at += 4) bytes.writeFloatLE(3e38, 8 + header + at);
  const path = join(folder, `overflowing-${runs++}.safetensors`);
  writeFileSync(path, bytes);
  return path;
}

suite("a run that ends because a step is not finite", () => {
  test("names the layer in its message and leaves the report; without the option it says that there is one", async () => {
    const init_from = await overflowingWeights();
    const base = { ...tinySettings(data, ""), recipe: "small-set", init_from } as const;
    const end = async (more: object): Promise<DivergedError> => {
      const run = join(folder, `diverged-${runs++}`);
      const error: unknown = await train({ ...base, log_dir: run, ...more }).catch(
        (thrown: unknown) => thrown,
      );
      assert.ok(error instanceof DivergedError, String(error));
      assert.equal(existsSync(join(run, "dump", "step-1", "overflow.json")), "over_dump" in more);
      return error;
    };
    assert.match(
      (await end({ over_dump: true })).message,
      /in stage2\.unit1\.\w+\.depthwise, z: \d+ Inf of \d+/,
    );
    assert.match(
      (await end({ over_dump: true, shards: 3 })).message,
      /stage2\.unit1\.\w+\.depthwise, z, of shard 0/,
    );
    assert.match((await end({})).message, /--over_dump/);
    const argv = [
      "train",
      "--init_from",
      init_from,
      "--over_dump",
      "--data_dir",
      data,
      "--log_dir",
      join(folder, "cli"),
    ];
    const sizes = ["--width", "0.5", "--image_size", "32", "--batch_size", "8"];
    const { status, stderr } = spawnSync(process.execPath, [riffle, ...argv, ...sizes], { encoding: "utf8" });
    assert.equal(status, 5, stderr);
    assert.match(stderr, /^dumped step 1: the first such number is in stage2/m);
  });

  for (const family of families) {
    test(`as several ranks do, each with its shard (${family})`, needsMpi(family), async () => {
      const run = join(folder, `diverged-${family}`);
      const options = {
        ...tinySettings(data, run),
        recipe: "small-set",
        init_from: await overflowingWeights(),
      };
      const argv = Object.entries({ ...options, over_dump: true }).map(
        ([name, value]) => `--${name}=${String(value)}`,
      );
      const { code, stderr } = await startRanks(family, 2, ["train", ...argv]).ended;
      assert.equal(code, 5, stderr);
      const text = readFileSync(join(run, "dump", "step-1", "overflow.json"), "utf8");
      const report = JSON.parse(text) as OverflowReport;
      assert.deepEqual(
        report.shards.map(({ shard }) => shard),
        [0, 1],
      );
      assert.match(report.first?.layer ?? "", /^stage2.*depthwise$/);
    });
  }
});

interface Index {
  readonly step: number;
  readonly tensors: readonly { name: string; file: string; dtype: string; shape: number[] }[];
}

/** The arrays of a dump by name. */
function readDump(path: string): Map<string, Float32Array> {
  const index = JSON.parse(readFileSync(join(path, "index.json"), "utf8")) as Index;
  assert.deepEqual(readdirSync(path).sort(), [...index.tensors.map(({ file }) => file), "index.json"].sort());
  return new Map(
    index.tensors.map(({ name, file, shape }) => {
      const array = parseNpy(readFileSync(join(path, file)), file);
      assert.deepEqual(array.shape, shape);
      return [name, array.data as Float32Array];
    }),
  );
}

suite("a dumped step", () => {
  test("is what the reference computes from the dumped pictures and weights, and changes no bit of the run", async () => {
    const plain = await trainAndWatch({ ...tinySettings(data, join(folder, "plain")), max_train_steps: 4 });
    const run = join(folder, "dumped");
    const options = { data_dump_flag: true, data_dump_step: "1|3", over_dump: true };
    const { result } = await trainAndWatch({ ...tinySettings(data, run), max_train_steps: 4, ...options });
    assert.equal(trainedBits(result.checkpoint), trainedBits(plain.result.checkpoint));
    assert.deepEqual(readdirSync(join(run, "dump")).sort(), ["step-1", "step-3"]);

    const recipe = JSON.parse(readFileSync(join(run, "recipe.json"), "utf8")) as {
      settings: { variant: "tensorflow"; label_smoothing: number; weight_decay: number };
    };
    const network = shuffleNetV2({ variant: recipe.settings.variant, width: 0.5, classes: 3 });
    const program = compile(network, { batch: 8, imageSize: 32, mode: "train" });
    for (const step of [1, 3])
      await compareWithReference(join(run, "dump", `step-${step}`), program, recipe.settings);
  });

  test("that is there already is kept, and said", async () => {
    const run = join(folder, "again");
    const given = {
      ...tinySettings(data, run),
      save_checkpoints_steps: 1,
      data_dump_flag: true,
      data_dump_step: "2",
    };
    await trainAndWatch({ ...given, max_train_steps: 1, data_dump_flag: false });
    mkdirSync(join(run, "dump", "step-2"), { recursive: true });
    const { events } = await trainAndWatch({ resume: run, data_dump_flag: true, max_train_steps: 2 });
    assert.ok(events.some((event) => event.event === "warning" && /step 2 is not dumped/.test(event.what)));
    assert.deepEqual(readdirSync(join(run, "dump", "step-2")), []);
  });

  test("that the run does not make is refused", async () => {
    const given = { ...tinySettings(data, join(folder, "beyond")), max_train_steps: 3, data_dump_flag: true };
    await assert.rejects(train({ ...given, data_dump_step: "4" }), /steps 1 to 3, found step 4/);
    await assert.rejects(train({ ...given, data_dump_step: "2-1" }), /steps from 1/);
  });
});

async function compareWithReference(
  path: string,
  program: Program,
  { label_smoothing, weight_decay }: { label_smoothing: number; weight_decay: number },
): Promise<void> {
  const dump = readDump(path);
  const run: TrainingRun = referenceBackend.train(program, { threads: 1 });
  const state = await run.readState();
  for (const { name, offset } of program.parameters)
    state.parameters.set(dump.get(name) as Float32Array, offset);
  await run.writeState(state);
  const batch = {
    images: dump.get("images") as unknown as Uint8Array,
    labels: dump.get("labels") as unknown as Int32Array,
  };
  let maps = 0;
  await run.walk(
    batch,
    { labelSmoothing: label_smoothing, weightDecay: weight_decay },
    1,
    ({ step: index, direction }) => {
      const step = program.steps[index];
      if (step === undefined || direction === "backward") return;
      if (step.kind === "head") {
        assertClose(`${path} logits`, dump.get(`${step.name}.logits`) as Float32Array, run.logits(), {
          ofScale: 1e-3,
        });
        return;
      }
      const planes = Array.from({ length: step.count }, (_, i) => step.first + i);
      const expected = run.planes(planes, "normalised");
      assertClose(`${path} ${step.name}.y`, dump.get(`${step.name}.y`) as Float32Array, expected, {
        ofScale: 1e-3,
      });
      maps++;
    },
  );
  assert.equal(maps, program.steps.length - 1);
  // A ReLU at zero falls either way in f32 and f64, at one pixel of a few hundred thousand.
  for (const { name, offset, size } of program.parameters) {
    const expected = state.gradients.subarray(offset, offset + size);
    assertClose(`${path} ${name}`, dump.get(`${name}.gradient`) as Float32Array, expected, {
      ofScale: 5e-3,
      absolute: 1e-5,
    });
  }
}
