import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { ResourceError } from "../../src/core/error.js";
import { openCheckpoint } from "../../src/run/checkpoint.js";
import type { TrainEvent } from "../../src/run/events.js";
import { train } from "../../src/train/trainer.js";
import { scratch, steps, tinySettings, trainAndWatch, writeTinySet } from "../support/tiny-run.js";

const folder = scratch();
const data = writeTinySet(folder);

const warnings = (events: readonly TrainEvent[]): string[] =>
  events.flatMap((event) => (event.event === "warning" ? [event.what] : []));

function logged(run: string): (TrainEvent | { event: "lost_lines" })[] {
  const lines = readFileSync(join(run, "events.jsonl"), "utf8").trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line) as TrainEvent);
}

suite("H1: what fails beside a good save does not end a run", () => {
  test("a checkpoint that cannot be pruned is warned of, and goes with a later start", async () => {
    const run = join(folder, "prune");
    const given = { ...tinySettings(data, run), keep_checkpoint_max: 1 };
    // A folder in the way of the one that step-0 would be removed under: the system refuses the rename.
    const { result, events } = await trainAndWatch(given, (event) => {
      if (event.event === "start") mkdirSync(join(run, ".deleting-step-0", "other"), { recursive: true });
      return false;
    });
    assert.equal(result.step, steps);
    assert.match(warnings(events)[0] ?? "", /step-0 could not be removed: Error: ENOTEMPTY/);
    await openCheckpoint(join(run, `step-${steps}`));
    await train({ resume: run });
    assert.ok(!existsSync(join(run, ".deleting-step-0")));
  });

  test("nor does one of TensorFlow's", async () => {
    const run = join(folder, "prune-tf");
    const settings = { variant: "tensorflow", checkpoint_format: "tf", keep_checkpoint_max: 1 } as const;
    const given = { ...tinySettings(data, run), ...settings, max_train_steps: 4 };
    const { events } = await trainAndWatch(given, (event) => {
      if (event.event !== "start") return false;
      // A folder where the file was that is to be removed.
      rmSync(join(run, "model.ckpt-0.data-00000-of-00001"));
      mkdirSync(join(run, "model.ckpt-0.data-00000-of-00001", "other"), { recursive: true });
      return false;
    });
    assert.equal(events.at(-1)?.event, "end");
    assert.match(warnings(events)[0] ?? "", /model\.ckpt-0 could not be removed/);
  });

  test("a reporter that throws is caught once, said as a warning, and training goes on", async () => {
    const reporters: readonly (readonly [string, () => unknown])[] = [
      ["throws", () => assert.fail("reader gone")],
      ["rejects", () => Promise.reject(new Error("reader gone"))],
    ];
    for (const [how, report] of reporters) {
      const run = join(folder, `reporter-${how}`);
      const { step } = await train({ ...tinySettings(data, run), max_train_steps: 3 }, report);
      assert.equal(step, 3);
      const said = logged(run).filter((event) => event.event === "warning");
      assert.equal(said.length, 1);
      assert.match(JSON.stringify(said[0]), /reader gone/);
    }
  });

  test("the error that ends a run is told, not the one of closing or of saving after it", async () => {
    const run = join(folder, "first");
    const refused = train({ ...tinySettings(data, run), max_train_steps: 5 }, (event) => {
      // Another's file where every checkpoint is to stand: no save succeeds, nor the one that is tried at last.
      if (event.event !== "start") return;
      for (const step of [4, 5]) mkdirSync(join(run, `step-${step}`, "mine"), { recursive: true });
    });
    await assert.rejects(refused, (error) => {
      assert.ok(error instanceof ResourceError, String(error));
      assert.match(error.message, /step-5: something else stands in the place of a checkpoint/);
      return true;
    });
    assert.ok(!readdirSync(run).some((name) => name.startsWith(".saving")));
  });
});

suite("H11: logs that cannot be written", () => {
  test("are warned of once; every line that was written parses, and says how many are missing", async () => {
    const run = join(folder, "logs");
    const path = join(run, "events.jsonl");
    mkdirSync(run);
    symlinkSync("/dev/full", path);
    const { events } = await trainAndWatch({ ...tinySettings(data, run), log_name: "log.txt" }, (event) => {
      if (event.event === "step" && event.step === 3) rmSync(path);
      return event.event === "step" && event.step === 6;
    });
    assert.equal(warnings(events).length, 1, warnings(events).join("\n"));
    assert.match(warnings(events)[0] ?? "", /a log is not written.*not a regular file/);
    const [first] = logged(run);
    assert.equal(first?.event, "lost_lines");
    assert.match(readFileSync(join(run, "log.txt"), "utf8"), /\nwarning: a log is not written.*\n.*\n$/s);
  });
});
