import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { train } from "../../src/train/trainer.js";
import { readEvents } from "../support/events-reader.js";
import {
  scratch,
  steps,
  tinySettings,
  trainAndWatch,
  trainedBits,
  writeTinySet,
} from "../support/tiny-run.js";

/** Steps with a value of the tag, over all event files of a folder in the order of their names. */
async function stepsWith(tag: string, folder: string): Promise<number[]> {
  const found: number[] = [];
  for (const name of readdirSync(folder).sort()) {
    if (!name.startsWith("events.out.tfevents.")) continue;
    for await (const { step, content } of readEvents(join(folder, name))) {
      if (content.kind === "summary" && content.values.some((value) => value.tag === tag)) found.push(step);
    }
  }
  return found;
}

suite("Summaries for TensorBoard", () => {
  const folder = scratch();
  const data = writeTinySet(folder);

  test("come every --save_summary_steps and at evaluations, and change no bit of a run", async () => {
    const bits = new Set<string>();
    for (const save_summary_steps of [0, 4]) {
      const run = join(folder, `every-${save_summary_steps}`);
      const result = await train({ ...tinySettings(data, run), save_summary_steps });
      bits.add(trainedBits(result.checkpoint));
      const wanted = save_summary_steps === 0 ? [] : [1, 4, 8, 12, 16];
      assert.deepEqual(await stepsWith("conv1.weight_grad_hist", run), wanted);
      if (save_summary_steps === 0) assert.ok(!existsSync(join(run, "eval")));
      else assert.deepEqual(await stepsWith("accuracy", join(run, "eval")), [6, 12, 18]);
    }
    assert.equal(bits.size, 1);
  });

  test("of a run that was stopped go on in a new file, each step once", async () => {
    const run = join(folder, "stopped");
    const settings = { ...tinySettings(data, run), save_summary_steps: 3 };
    await trainAndWatch(settings, (event) => event.event === "step" && event.step === 7);
    const { result } = await trainAndWatch({ resume: run });
    assert.equal(result.step, steps);
    assert.deepEqual(await stepsWith("loss", run), [1, 3, 6, 9, 12, 15, 18]);
    assert.deepEqual(await stepsWith("loss", join(run, "eval")), [6, 12, 18]);
  });
});
