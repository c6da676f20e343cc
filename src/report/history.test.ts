import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { scratch } from "../../test/support/tiny-run.js";
import { readHistory } from "./history.js";

const folder = scratch();
let files = 0;

const start = (resumed: number | null): object => ({
  event: "start",
  ...{ network: "n", classes: 2, image_size: 32, parameters: 1, train_images: 8, validation_images: 4 },
  ...{ steps: 4, steps_per_epoch: 2, images_per_step: 4, epochs: 2, recipe: "small-set", ranks: null },
  ...{ settings: { seed: 1 }, origins: { seed: "given" } },
  resumed: resumed === null ? null : { checkpoint: "c", step: resumed },
});
const step = (at: number, loss: number | null = at): object => ({
  event: "step",
  ...{ step: at, epoch: at / 2, loss, cross_entropy: loss, top1: 0.5, learning_rate: 0.1 },
});
const evaluation = (at: number, weights: string, top1: number): object => ({
  event: "evaluation",
  ...{ step: at, epoch: at / 2, weights, loss: 1, top1, top5: 1, images: 4, best: true },
});

function logOf(...lines: (object | string)[]): string {
  const path = join(folder, `${files++}.jsonl`);
  writeFileSync(
    path,
    lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n"),
  );
  return path;
}

suite("a run's history", () => {
  test("is that of the run as it stands after a resume: what was made again counts once", async () => {
    const path = logOf(
      start(null),
      ...[step(1), step(2), evaluation(2, "averages", 0.7), evaluation(2, "parameters", 0.6)],
      ...[step(3, 30), evaluation(3, "averages", 0.1)],
      start(2),
      ...[step(3, 3), step(4, null)],
      { event: "end", step: 4, epoch: 2, images_per_second: 10 },
    );
    const history = await readHistory(path);
    assert.deepEqual(
      history.steps.map(({ step, loss }) => [step, loss]),
      [
        [1, 1],
        [2, 2],
        [3, 3],
        [4, null],
      ],
    );
    assert.deepEqual(
      history.evaluations.map(({ step, top1 }) => [step, top1]),
      [[2, 0.7]],
    );
    assert.deepEqual([history.beginnings, history.end?.step, history.unread], [2, 4, 0]);
  });

  test("passes over what is no line of ours, and counts it", async () => {
    const path = logOf(
      ...["{", `{"event":"step","step":"one"}`, "null", `{"event":"save","step":1,"checkpoint":"c"}`],
      `{"event":"step","junk":"${"x".repeat(5 * 2 ** 20)}"}`,
      step(1),
      `{"event":"st`,
    );
    const history = await readHistory(path);
    assert.deepEqual([history.steps.length, history.unread, history.start], [1, 5, null]);
  });

  test("is empty where there is no log", async () => {
    const history = await readHistory(join(folder, "none.jsonl"));
    assert.deepEqual([history.start, history.steps.length, history.unread], [null, 0, 0]);
  });
});
