import assert from "node:assert/strict";
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { Draws, streams } from "../../src/core/random.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";
import { openCheckpoint, saveCheckpoint } from "../../src/run/checkpoint.js";
import type { CheckpointState } from "../../src/run/checkpoint-state.js";
import type { TrainEvent } from "../../src/run/events.js";
import { findWeights } from "../../src/run/find-checkpoint.js";
import { train } from "../../src/train/trainer.js";
import {
  scratch,
  stepsPerEpoch,
  tinySettings,
  trainAndWatch,
  trainedBits,
  writeTinySet,
} from "../support/tiny-run.js";

const folder = scratch();
const data = writeTinySet(folder);
const straight = join(folder, "straight");
/** Learns its pictures, so that more than one evaluation is best; saves with every one. */
const settings = {
  average_decay: 0,
  lr: 0.05,
  augment: "none",
  max_epochs: 10,
  save_checkpoints_steps: stepsPerEpoch,
} as const;
const steps = 10 * stepsPerEpoch;
let bestSteps: number[];

before(async () => {
  const { events } = await trainAndWatch({ ...tinySettings(data, straight), ...settings });
  bestSteps = events.flatMap((event) => (event.event === "evaluation" && event.best ? [event.step] : []));
  assert.ok(bestSteps.length >= 2, `best at ${bestSteps.join(", ")}`);
});

const warnings = (events: readonly TrainEvent[]): string =>
  events.flatMap((event) => (event.event === "warning" ? [event.what] : [])).join("\n");

/** The newest checkpoint's word for what is best, which must lie in `best/`. */
async function settled(run: string, step = steps): Promise<CheckpointState["best"]> {
  const { best } = (await openCheckpoint(join(run, `step-${step}`))).state;
  const held = (await openCheckpoint(join(run, "best"))).state;
  assert.deepEqual({ step: held.step, top1: held.scores?.top1, loss: held.scores?.loss }, best);
  return best;
}

suite("H2: best/ is what the run says is best", () => {
  test("after a save of it that failed, and what beats it later is saved", async () => {
    const run = join(folder, "refused");
    const [first, second] = bestSteps as [number, number];
    const foreign = join(run, "best", "mine.txt");
    const { events } = await trainAndWatch({ ...tinySettings(data, run), ...settings }, (event) => {
      // Someone's file in it: the folder is not replaced.
      if (event.event === "save" && event.step === first) writeFileSync(foreign, "mine");
      return event.event === "save" && event.step === second;
    });
    assert.match(warnings(events), new RegExp(`not saved at step ${second}: .*something else stands`));
    const { best } = (await openCheckpoint(join(run, `step-${second}`))).state;
    assert.equal(best?.step, first);
    assert.equal((await openCheckpoint(join(run, "best"))).state.step, first);
    assert.ok(
      events.every((event) => event.event !== "evaluation" || event.step !== second || !event.best),
      "an evaluation was called best that is not in best/",
    );
    rmSync(foreign);
    await train({ resume: run });
    await settled(run);
  });

  test("where it was lost and a checkpoint of that step is left: written again, and said", async () => {
    const run = join(folder, "lost");
    const first = bestSteps[0] as number;
    await trainAndWatch({ ...tinySettings(data, run), ...settings }, (event) => {
      return event.event === "step" && event.step === first + 1;
    });
    const bits = trainedBits(join(run, "best"));
    rmSync(join(run, "best"), { recursive: true });
    const seen: string[] = [];
    const { events } = await trainAndWatch({ resume: run }, (event) => {
      if (event.event === "start") seen.push(trainedBits(join(run, "best")));
      return event.event === "start";
    });
    assert.deepEqual(seen, [bits]);
    assert.match(warnings(events), new RegExp(`written there from step-${first}`));
    await settled(run, first + 1);
  });

  test("where it was lost for good: decided anew, and said", async () => {
    const run = join(folder, "gone");
    const first = bestSteps[0] as number;
    const given = { ...tinySettings(data, run), ...settings, save_checkpoints_steps: 100 };
    await trainAndWatch(given, (event) => event.event === "step" && event.step === first + 1);
    rmSync(join(run, "best"), { recursive: true });
    const { events } = await trainAndWatch({ resume: run });
    assert.match(warnings(events), /no checkpoint of it is left; the next evaluation decides anew/);
    await settled(run);
  });

  test("where a run goes on from before it: the better ones stay", async () => {
    const run = join(folder, "earlier");
    cpSync(straight, run, { recursive: true });
    for (let step = bestSteps.at(-1) as number; step <= steps; step += stepsPerEpoch) {
      rmSync(join(run, `step-${step}`), { recursive: true });
    }
    const best = readFileSync(join(run, "best", "weights.safetensors"));
    await train({ resume: run });
    assert.deepEqual(await settled(run), await settled(straight));
    assert.ok(best.equals(readFileSync(join(run, "best", "weights.safetensors"))));
  });

  test("read while it is replaced, it is of one step, never of two", async () => {
    const run = scratch();
    const { state } = await openCheckpoint(join(straight, "best"));
    const { variant, width, classes, image_size: imageSize } = state.model;
    const layout = compile(shuffleNetV2({ variant, width, classes }), { batch: 1, imageSize, mode: "infer" });
    const weights = {
      parameters: new Float32Array(layout.parameterCount),
      statistics: new Float32Array(2 * layout.planes.length),
    };
    const save = async (step: number): Promise<void> => {
      weights.parameters.fill(step);
      weights.statistics.fill(step);
      await saveCheckpoint(run, "best", layout, { kind: "weights", weights }, { ...state, step });
    };
    await save(1);
    // Saves follow each other without a pause, or when a read has ended: so reads end, and begin at any moment of a save.
    let writing = true;
    let readEnded = (): void => {};
    const draws = new Draws(11, streams.draw, 0, 0);
    const writer = (async () => {
      for (let step = 2; step <= 40; step++) {
        await save(step);
        if (draws.below(3) === 0) await new Promise<void>((resolve) => (readEnded = resolve));
      }
      writing = false;
    })();
    const seen = new Set<number>();
    while (writing) {
      const found = await findWeights(run);
      readEnded();
      const { step } = found.checkpoint.state;
      seen.add(step);
      assert.ok(
        found.weights.parameters.every((value) => value === step),
        `weights of another step under ${step}`,
      );
    }
    await writer;
    assert.ok(seen.size > 1, "nothing was replaced while it was read");
    assert.ok(!existsSync(join(run, ".replaced-best")));
  });

  test("a kill between the two renames of a save leaves the old one to be read", async () => {
    const run = join(folder, "between");
    cpSync(join(straight, "best"), join(run, ".replaced-best"), { recursive: true });
    const { checkpoint } = await findWeights(run);
    assert.equal(checkpoint.state.step, (await openCheckpoint(join(straight, "best"))).state.step);
  });
});
