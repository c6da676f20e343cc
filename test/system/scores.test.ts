/** A validation loss that is not finite: what is said of it, what is kept, and what can be read afterwards. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";
import { openCheckpoint, saveCheckpoint } from "../../src/run/checkpoint.js";
import { loadTraining } from "../../src/run/load-checkpoint.js";
import type { EvaluationEvent, TrainEvent } from "../../src/run/events.js";
import { findResumable } from "../../src/run/find-checkpoint.js";
import { scratch, stepsPerEpoch, tinySettings, trainAndWatch, writeTinySet } from "../support/tiny-run.js";

const folder = scratch();
const data = writeTinySet(folder);

const evaluations = (events: readonly TrainEvent[]): EvaluationEvent[] =>
  events.filter((event) => event.event === "evaluation");

/** Moving means so far off that evaluation overflows; training, which uses the batch's, does not see them. */
async function spoil(run: string, step: number): Promise<void> {
  const name = `step-${step}`;
  const checkpoint = await openCheckpoint(join(run, name));
  const { variant, width, classes, image_size: imageSize } = checkpoint.state.model;
  const network = shuffleNetV2({ variant, width, classes });
  const program = compile(network, { batch: 8, imageSize, mode: "train" });
  const floats = (): Float32Array => new Float32Array(program.parameterCount);
  const state = {
    parameters: floats(),
    momentum: floats(),
    averages: floats(),
    statistics: new Float32Array(2 * program.planes.length),
  };
  await loadTraining(checkpoint, program, state);
  state.statistics.fill(-3e38, 0, program.planes.length);
  await saveCheckpoint(run, name, program, { kind: "training", state }, checkpoint.state);
}

suite("a validation loss that is not finite", () => {
  test("is never the best, is said, and leaves checkpoints that resume", async () => {
    const run = join(folder, "run");
    const given = { ...tinySettings(data, run), save_checkpoints_steps: stepsPerEpoch };
    await trainAndWatch(given, (event) => event.event === "step" && event.step === 2);
    await spoil(run, 2);
    const { events, result } = await trainAndWatch({ resume: run });
    const [first] = evaluations(events);
    assert.ok(first !== undefined && !Number.isFinite(first.loss), `loss ${first?.loss}`);
    assert.ok(evaluations(events).every(({ best, loss }) => !best || Number.isFinite(loss)));
    assert.ok(
      events.some((event) => event.event === "warning" && /loss of step 6 is not finite/.test(event.what)),
      "nothing was said",
    );
    assert.equal(result.best, null);
    // Read as JSON by whoever likes, and by the next resume.
    for (const line of readFileSync(join(run, "events.jsonl"), "utf8").trimEnd().split("\n"))
      JSON.parse(line);
    const { checkpoint, damaged } = await findResumable(run);
    assert.deepEqual([checkpoint.state.step, damaged], [3 * stepsPerEpoch, []]);
    assert.ok(Number.isNaN(checkpoint.state.scores?.loss));
    await trainAndWatch({ resume: run });
  });
});

suite("the best of a run", () => {
  test("is of equal top-1 the one with the lower loss", async () => {
    const run = join(folder, "ties");
    // Learns its pictures: every evaluation ends up at the same top-1, with a falling loss.
    const learning = { average_decay: 0, lr: 0.05, augment: "none", max_epochs: 10 } as const;
    const { events, result } = await trainAndWatch({ ...tinySettings(data, run), ...learning });
    const all = evaluations(events);
    const top = Math.max(...all.map(({ top1 }) => top1));
    const tied = all.filter(({ top1 }) => top1 === top);
    assert.ok(tied.length > 1, "there was no tie");
    const lowest = tied.reduce((low, each) => (each.loss <= low.loss ? each : low));
    assert.equal(result.best?.step, lowest.step);
    assert.equal((await openCheckpoint(join(run, "best"))).state.step, lowest.step);
  });
});
