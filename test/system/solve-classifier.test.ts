/**
 * A run whose classifier is solved before its first step: the same bits for any threads, ranks and stops; what stays as it
 * is when nothing else learns; classes that weigh alike.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import type { StartEvent, TrainEvent } from "../../src/run/events.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { recipes } from "../../src/settings/recipe.js";
import { rateAt } from "../../src/settings/resolve-settings.js";
import { solvedLines } from "../../src/cli/report-run.js";
import { drawFolder } from "../../src/prepare/draw/draw-folder.js";
import { openCheckpoint } from "../../src/run/checkpoint.js";
import { loadTraining } from "../../src/run/load-checkpoint.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";
import type { HeadStep } from "../../src/program/program.js";
import { emptyState } from "../../src/train/prepare.js";
import { train } from "../../src/train/trainer.js";
import { asOptions } from "../support/fresh-runs.js";
import { needsMpi, startRanks } from "../support/mpi.js";
import { scratch, tinySettings, trainAndWatch, trainedBits, writeTinySet } from "../support/tiny-run.js";

const folder = scratch();
/** Ten shapes, 4 pictures of each to learn from and one to be scored. */
const photos = join(folder, "photos");
/** Of three classes, so the classifier is new to the shapes. */
const weights = join(folder, "weights");
let runs = 0;

before(async () => {
  await drawFolder({ folder: photos, seed: 4, size: 40, train: 40, validation: 10 });
  const data = writeTinySet(folder);
  await train({ ...tinySettings(data, weights), recipe: "small-set", max_epochs: 2, warmup_epochs: 0 });
});

function given(more: GivenSettings = {}): GivenSettings {
  const log_dir = join(folder, `run-${runs++}`);
  // As few rows as there can be: what is nearly the same in all of them is slow to solve.
  const few = { train_dataset_size: 20, augment: "none", batch_size: 8 } as const;
  const short = { ...few, max_epochs: 2, eval_batch_size: 5, save_summary_steps: 0 };
  return { data_dir: photos, init_from: weights, log_dir, ...short, ...more };
}

function startOf(events: readonly TrainEvent[]): StartEvent {
  return events.find((event) => event.event === "start") as StartEvent;
}

function scoresOf(events: readonly TrainEvent[]): unknown[] {
  return events.flatMap((e) => (e.event === "evaluation" ? [[e.step, e.weights, e.loss, e.top1]] : []));
}

const network = shuffleNetV2({ variant: "torchvision", width: 0.5, classes: 10 });
const program = compile(network, { batch: 8, imageSize: 32, mode: "train" });

async function stateAt(checkpoint: string): Promise<ReturnType<typeof emptyState>> {
  const state = emptyState(program);
  await loadTraining(await openCheckpoint(checkpoint), program, state);
  return state;
}

suite("a classifier that the weights do not have", () => {
  test("is solved before the first step, said with what it was solved on, and scored", async () => {
    const { events, result } = await trainAndWatch(given({ augment: "torchvision" }));
    const { solved } = startOf(events);
    assert.deepEqual([solved?.pictures, solved?.views, solved?.features], [20, 4, 1024]);
    assert.equal(solved?.held_out?.pictures, 20);
    assert.equal(solved.converged, true);
    const said = (converged?: boolean): string =>
      solvedLines({ ...solved, converged }, { freeze: false, class_weights: "none" }).join();
    assert.match(said(false), /penalty [\d.]+ \(its iterations ended before the minimum was met\)/);
    for (const whole of [true, undefined]) assert.match(said(whole), /penalty [\d.]+ · /);
    const [first] = scoresOf(events) as [number, string, number, number][];
    assert.equal(first?.[0], 0);
    const { parameters, averages } = await stateAt(join(result.run, "step-0"));
    assert.deepEqual(averages, parameters);
    const state = JSON.parse(readFileSync(join(result.run, "step-4", "state.json"), "utf8")) as object;
    assert.deepEqual((state as { solved: unknown }).solved, solved);
  });

  test("has the same bits for any number of threads, and after a stop at any time", async () => {
    const whole = await trainAndWatch(given({ threads: 1 }));
    const other = await trainAndWatch(given({ threads: 3 }));
    const bits = trainedBits(whole.result.checkpoint);
    assert.equal(trainedBits(other.result.checkpoint), bits);
    assert.deepEqual(scoresOf(other.events), scoresOf(whole.events));
    for (const stopsAt of [
      (event: TrainEvent) => event.event === "evaluating" && event.done > 0,
      (event: TrainEvent) => event.event === "step" && event.step === 1,
    ]) {
      const stopped = await trainAndWatch(given(), stopsAt);
      assert.ok(stopped.result.stopped && stopped.result.step < 2);
      const resumed = await trainAndWatch({ resume: stopped.result.run });
      assert.deepEqual(startOf(resumed.events).solved, startOf(whole.events).solved);
      assert.equal(trainedBits(resumed.result.checkpoint), bits);
    }
  });

  test("is not solved for when that is stopped, and nothing is left behind", async () => {
    const settings = given();
    const isThere = (event: TrainEvent): boolean => event.event === "preparing" && event.what === "features";
    await assert.rejects(trainAndWatch(settings, isThere), /abort/i);
    await trainAndWatch({ ...settings, max_train_steps: 1 });
  });

  test("is drawn where it is not to be solved or too large, learnt at rates for that, and a known one is taken over", async () => {
    const drawn = await trainAndWatch(given({ solve_classifier: false, max_train_steps: 1 }));
    const many = { num_classes: 4000, train_dataset_size: 40, do_checkpoint: false };
    const tooMany = await trainAndWatch(given({ ...many, max_train_steps: 1 }));
    const known = await trainAndWatch(given({ init_from: drawn.result.run, max_train_steps: 1 }));
    const { values, forDrawn = {} } = recipes["fine-tune"];
    const { batch_size = 0 } = values;
    for (const [{ events }, { lr = 0, classifier_rate = 1 }, warning] of [
      [drawn, forDrawn, /starts from the seed, for it is not to be solved: .* rates, epochs and batch norms/],
      [tooMany, forDrawn, /starts from the seed, for 4000 classes are too many to solve it for/],
      [known, values, undefined],
    ] as const) {
      const { solved, settings, scaled_rate } = startOf(events);
      assert.equal(solved, null);
      assert.deepEqual(scaled_rate, { lr, batch_size });
      const expected = [rateAt(8, { lr, batch_size }), classifier_rate];
      assert.deepEqual([settings["lr"], settings["classifier_rate"]], expected);
      const warnings = events.flatMap((e) => (e.event === "warning" ? [e.what] : []));
      const said = warnings.filter((what) => /^the classifier starts from the seed/.test(what));
      assert.equal(said.length, warning === undefined ? 0 : 1);
      if (warning !== undefined) assert.match(said[0] as string, warning);
    }
  });

  test("is the first rank's on all of them", needsMpi("openmpi"), async () => {
    const settings = given({ shards: 2, batch_size: 4, max_train_steps: 2 });
    const alone = await train(settings);
    const ranked = { ...settings, log_dir: join(folder, `run-${runs++}`) };
    const { code, stderr } = await startRanks("openmpi", 2, ["train", ...asOptions(ranked)]).ended;
    assert.equal(code, 0, stderr);
    assert.equal(trainedBits(join(ranked.log_dir, "step-2")), trainedBits(alone.checkpoint));
  });
});

suite("with all other layers frozen", () => {
  test("a solved classifier is all that a run makes: no step, the rest as it was, and a best", async () => {
    const free = await trainAndWatch(given());
    const { events, result } = await trainAndWatch(given({ freeze: true }));
    assert.deepEqual([result.step, result.stopped, result.best?.step], [0, false, 0]);
    assert.deepEqual(scoresOf(events), scoresOf(free.events).slice(0, 2));
    assert.equal(trainedBits(join(result.run, "step-0")), trainedBits(join(free.result.run, "step-0")));
    assert.ok(events.some(({ event }) => event === "end"));
    const again = await trainAndWatch({ resume: result.run });
    assert.deepEqual([again.result.step, again.result.stopped], [0, false]);
  });

  test("a stop while it is scored is made up for", async () => {
    const stopped = await trainAndWatch(
      given({ freeze: true }),
      (event) => event.event === "evaluating" && event.done > 0,
    );
    assert.ok(stopped.result.stopped);
    const { result } = await trainAndWatch({ resume: stopped.result.run });
    assert.deepEqual([result.stopped, result.best?.step], [false, 0]);
  });

  test("a drawn classifier learns by steps, and nothing else moves", async () => {
    const { result } = await trainAndWatch(given({ freeze: true, solve_classifier: false }));
    assert.equal(result.step, 4);
    const [before, after] = [
      await stateAt(join(result.run, "step-0")),
      await stateAt(join(result.run, "step-4")),
    ];
    const end = (program.steps.at(-1) as HeadStep).bias + 10;
    assert.deepEqual(after.parameters.subarray(end), before.parameters.subarray(end));
    assert.deepEqual(after.statistics, before.statistics);
    assert.notDeepEqual(after.parameters.subarray(0, end), before.parameters.subarray(0, end));
  });

  test("classes weigh alike where that is asked for", async () => {
    // 13 of 40, spread over the classes in order: one or two of each.
    const few = { freeze: true, train_dataset_size: 13 };
    const [alike, asTheyAre] = [given({ ...few, class_weights: "balanced" }), given(few)];
    const solved = [await trainAndWatch(alike), await trainAndWatch(asTheyAre)].map(({ events }) =>
      scoresOf(events),
    );
    assert.notDeepEqual(solved[0], solved[1]);
  });
});
