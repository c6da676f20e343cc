import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { CheckpointError, UsageError } from "../../src/core/error.js";
import { openSafetensors } from "../../src/formats/safetensors-file.js";
import type { TrainEvent } from "../../src/run/events.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { train } from "../../src/train/trainer.js";
import {
  hashes,
  saveEvery,
  scratch,
  steps,
  stepsPerEpoch,
  tinySettings,
  trainAndWatch,
  trainedBits,
  writeTinySet,
} from "../support/tiny-run.js";

const folder = scratch();
const data = writeTinySet(folder);
const straight = join(folder, "straight");
let straightEvents: TrainEvent[] = [];

/** The numbers of every step, as text. */
function stepNumbers(events: readonly TrainEvent[]): string[] {
  return events.flatMap((event) =>
    event.event === "step"
      ? [JSON.stringify([event.step, event.loss, event.cross_entropy, event.top1, event.learning_rate])]
      : [],
  );
}

/** The numbers of every evaluation, as text. */
function evaluations(events: readonly TrainEvent[]): string[] {
  return events.flatMap((event) => (event.event === "evaluation" ? [JSON.stringify(event)] : []));
}

async function refusal(given: GivenSettings): Promise<CheckpointError["problem"]> {
  let problem: CheckpointError["problem"] | undefined;
  await assert.rejects(train(given), (error) => {
    assert.ok(error instanceof CheckpointError, String(error));
    assert.equal(error.exitCode, 4);
    problem = error.problem;
    return true;
  });
  return problem!;
}

before(async () => {
  ({ events: straightEvents } = await trainAndWatch(tinySettings(data, straight)));
});

suite("an uninterrupted run", () => {
  test("reports every step, an evaluation of both sets of weights per epoch, and its end", () => {
    assert.equal(stepNumbers(straightEvents).length, steps);
    assert.equal(evaluations(straightEvents).length, 2 * (steps / stepsPerEpoch));
    assert.equal(straightEvents.at(-1)?.event, "end");
  });

  test("learns: the loss falls", () => {
    const losses = straightEvents.flatMap((event) => (event.event === "step" ? [event.cross_entropy] : []));
    const mean = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
    assert.ok(mean(losses.slice(-6)) < mean(losses.slice(0, 6)), losses.join(" "));
  });

  test("ends with the same bits with 1, 3 and 4 threads", async () => {
    for (const threads of [1, 3, 4]) {
      const run = join(folder, `threads-${threads}`);
      const { result } = await trainAndWatch({ ...tinySettings(data, run), threads });
      assert.equal(
        trainedBits(result.checkpoint),
        trainedBits(join(straight, `step-${steps}`)),
        `${threads}`,
      );
    }
  });

  test("ends with other bits for another seed", async () => {
    const { result } = await trainAndWatch({ ...tinySettings(data, join(folder, "seed")), seed: 1 });
    assert.notEqual(trainedBits(result.checkpoint), trainedBits(join(straight, `step-${steps}`)));
  });
});

suite("a run that was stopped and resumed", () => {
  // In and around a checkpoint, an epoch's end, the warm-up's end and the run's.
  const stops = [1, saveEvery, saveEvery + 1, stepsPerEpoch, stepsPerEpoch + 1, 11, 12, 17];
  for (const stop of stops) {
    test(`after step ${stop} goes on to the same bits, losses and scores`, async () => {
      const run = join(folder, `stopped-${stop}`);
      const first = await trainAndWatch(
        tinySettings(data, run),
        (event) => event.event === "step" && event.step === stop,
      );
      assert.equal(first.result.stopped, true);
      assert.equal(first.result.step, stop);
      assert.equal(first.events.at(-1)?.event, "stopped");
      const second = await trainAndWatch({ resume: run });
      assert.equal(second.result.stopped, false);
      assert.equal(trainedBits(second.result.checkpoint), trainedBits(join(straight, `step-${steps}`)));
      assert.deepEqual(
        [...stepNumbers(first.events), ...stepNumbers(second.events)],
        stepNumbers(straightEvents),
      );
      assert.deepEqual(
        [...evaluations(first.events), ...evaluations(second.events)],
        evaluations(straightEvents),
      );
      assert.equal(trainedBits(join(run, "best")), trainedBits(join(straight, "best")));
    });
  }

  test("in the middle of an evaluation makes up for it", async () => {
    const run = join(folder, "stopped-evaluating");
    const first = await trainAndWatch(
      tinySettings(data, run),
      (event) => event.event === "evaluating" && event.done > 0,
    );
    assert.equal(first.result.step, stepsPerEpoch);
    assert.deepEqual(evaluations(first.events), []);
    const second = await trainAndWatch({ resume: run });
    assert.deepEqual(evaluations(second.events), evaluations(straightEvents));
    assert.equal(trainedBits(second.result.checkpoint), trainedBits(join(straight, `step-${steps}`)));
  });

  test("ten times over goes on to the same bits", async () => {
    const run = join(folder, "stopped-often");
    let given = tinySettings(data, run);
    for (let stop = 1; stop < steps; stop += 2) {
      const { result } = await trainAndWatch(given, (event) => event.event === "step" && event.step === stop);
      assert.equal(result.step, stop);
      given = { resume: run };
    }
    const { result } = await trainAndWatch(given);
    assert.equal(trainedBits(result.checkpoint), trainedBits(join(straight, `step-${steps}`)));
  });

  test("before its first step starts from step 0", async () => {
    const run = join(folder, "stopped-at-once");
    const { result } = await trainAndWatch(tinySettings(data, run), (event) => event.event === "start");
    assert.equal(result.step, 0);
    const resumed = await trainAndWatch({ resume: run });
    assert.equal(trainedBits(resumed.result.checkpoint), trainedBits(join(straight, `step-${steps}`)));
  });
});

suite("resuming", () => {
  test("a finished run trains nothing and says its scores again", async () => {
    const before = trainedBits(join(straight, `step-${steps}`));
    const { result, events } = await trainAndWatch({ resume: straight });
    assert.equal(result.stopped, false);
    assert.deepEqual(stepNumbers(events), []);
    const [first, again] = [straightEvents.at(-1), events.at(-1)];
    assert.ok(first?.event === "end" && again?.event === "end");
    assert.deepEqual({ ...again, images_per_second: 0 }, { ...first, images_per_second: 0 });
    assert.equal(trainedBits(join(straight, `step-${steps}`)), before);
  });

  test("a folder that is not there is refused, and not made", async () => {
    const problem = await refusal({ resume: join(folder, "nowhere") });
    assert.match(problem.what, /no such file or folder/);
  });

  test("another width is refused with both widths and what to do", async () => {
    const before = hashes(straight);
    const problem = await refusal({ resume: straight, width: 1 });
    assert.match(problem.expected ?? "", /width 0\.5/);
    assert.match(problem.found ?? "", /width 1/);
    assert.match(problem.hint ?? "", /--width.*--init_from/s);
    assert.deepEqual(hashes(straight), before);
  });

  test("other data is refused", async () => {
    const other = writeTinySet(folder, "other.npz", 5);
    const problem = await refusal({ resume: straight, data_dir: other });
    assert.match(problem.what, /data is not that of the checkpoint/);
  });

  test("settings that do not touch the numbers may change", async () => {
    const run = join(folder, "changed");
    await trainAndWatch(tinySettings(data, run), (event) => event.event === "step" && event.step === 5);
    const { result } = await trainAndWatch({
      resume: run,
      threads: 1,
      save_checkpoints_steps: 7,
      log_steps: 3,
    });
    assert.equal(trainedBits(result.checkpoint), trainedBits(join(straight, `step-${steps}`)));
    const recipe = JSON.parse(readFileSync(join(run, "recipe.json"), "utf8")) as { settings: unknown };
    assert.equal((recipe.settings as GivenSettings).save_checkpoints_steps, 7);
  });

  test("from an older checkpoint of the run goes through the same bits", async () => {
    const { result } = await trainAndWatch({ resume: join(straight, "step-8") });
    assert.equal(result.step, steps);
    assert.equal(trainedBits(result.checkpoint), trainedBits(join(folder, "stopped-1", `step-${steps}`)));
  });

  test("from best/ is refused: it holds weights only", async () => {
    const problem = await refusal({ resume: join(straight, "best") });
    assert.match(problem.what, /weights only/);
  });
});

suite("a new run", () => {
  test("into the folder of another is refused, and nothing there changes", async () => {
    const before = hashes(straight);
    await assert.rejects(train(tinySettings(data, straight)), (error) => {
      assert.ok(error instanceof UsageError);
      assert.match(error.problem.hint ?? "", /--resume/);
      return true;
    });
    assert.deepEqual(hashes(straight), before);
  });

  test("from the weights of another starts with the best of that one", async () => {
    const run = join(folder, "tuned");
    await trainAndWatch({ ...tinySettings(data, run), max_train_steps: 1, init_from: straight });
    const started = await openSafetensors(join(run, "step-0", "weights.safetensors"));
    const best = await openSafetensors(join(straight, "best", "weights.safetensors"));
    assert.ok(best.tensors.size > 100);
    for (const name of best.tensors.keys()) {
      assert.deepEqual(await started.readFloat32(name), await best.readFloat32(name), name);
    }
    await Promise.all([started.close(), best.close()]);
  });

  test("from weights of another width is refused with both shapes", async () => {
    const problem = await refusal({
      ...tinySettings(data, join(folder, "wide")),
      width: 1,
      init_from: straight,
    });
    assert.match(problem.what, /another network/);
    assert.match(problem.expected ?? "", /\[/);
    assert.match(problem.found ?? "", /\[/);
  });

  test("from weights for other classes keeps all but the classifier, and says so", async () => {
    const run = join(folder, "classes");
    const { events } = await trainAndWatch({
      ...tinySettings(data, run),
      num_classes: 7,
      max_train_steps: 1,
      init_from: straight,
    });
    // A new classifier is solved, with numbers of its own; the rest is the weights'.
    const start = events.find((event) => event.event === "start");
    assert.ok(start?.event === "start" && start.solved !== null);
  });
});
