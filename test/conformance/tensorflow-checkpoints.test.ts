/** Checkpoints of TensorFlow's lineage: imported, exported, and gone on from. */

import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { CheckpointError, UsageError } from "../../src/core/error.js";
import { importAsRun } from "../../src/train/import-tf-run.js";
import { exportTfCheckpoint } from "../../src/weights/export-tf-checkpoint.js";
import { encodeBundle, readBundle } from "../../src/formats/tf-bundle.js";
import { latestCheckpoint } from "../../src/formats/tf-checkpoint-state.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import type { Width } from "../../src/models/variants.js";
import { compile } from "../../src/program/compile.js";
import { openCheckpoint, saveCheckpoint } from "../../src/run/checkpoint.js";
import { loadTraining } from "../../src/run/load-checkpoint.js";
import { importTfCheckpoint, tfTensors, writeTfCheckpoint } from "../../src/weights/tf-checkpoint.js";
import { train } from "../../src/train/trainer.js";
import { fastBackend } from "../support/fast-backend.js";
import { assertClose } from "../support/compare.js";
import { needs, sharedPath } from "../support/shared.js";
import { emptyState, readArrays } from "../support/tf-reference.js";
import {
  hashes,
  scratch,
  steps,
  tinySettings,
  trainAndWatch,
  trainedBits,
  writeTinySet,
} from "../support/tiny-run.js";

const reference = sharedPath("tf-reference", "ckpt-0.5x-10");
const folder = scratch();

const program = (width: Width, classes: number, batch = 1) =>
  compile(shuffleNetV2({ variant: "tensorflow", width, classes }), { batch, imageSize: 224, mode: "infer" });

suite("the checkpoint after five steps", needs("tf-reference", "ckpt-0.5x-10"), () => {
  for (const which of ["raw", "ema"] as const) {
    test(`gives TensorFlow's logits of 16 photographs with ${which} weights`, async () => {
      const stored = await readArrays("logits.npz");
      const imported = await importTfCheckpoint(join(reference, "model.ckpt-5"));
      const run = fastBackend.infer(program(0.5, 10, 16), { threads: 2 });
      const { parameters, averages, statistics } = imported;
      await run.load({ parameters: which === "raw" ? parameters : (averages as Float32Array), statistics });
      const logits = await run.infer(Uint8Array.from(stored.numbers("images").data), 16);
      run.close();
      // 1e-5 of the largest logit; the issue asks for 1e-4.
      assertClose("logits", logits, stored.numbers(`${which}_eval_logits`).data, { ofScale: 1e-5 });
    });
  }

  test("is found from the folder's file `checkpoint`, says what network it is, and leaves nothing out", async () => {
    const imported = await importTfCheckpoint(reference);
    assert.deepEqual([imported.width, imported.classes, imported.step], [0.5, 10, 5]);
    assert.deepEqual([imported.ignored, imported.passedOver], [[], []]);
    assert.equal(imported.path, join(reference, "model.ckpt-5"));
  });

  test("is the same from the name of one of its files", async () => {
    const imported = await importTfCheckpoint(join(reference, "model.ckpt-0.index"));
    assert.deepEqual([imported.path, imported.step], [join(reference, "model.ckpt-0"), 0]);
  });

  test("becomes a run that goes on from its step, with its momentum and averages", async () => {
    const run = join(folder, "from-tensorflow");
    const given = tinySettings(writeTinySet(folder, "for-tensorflow.npz"), run);
    const { checkpoint, step, notices } = await importAsRun(reference, run, given);
    assert.deepEqual([step, notices], [5, []]);
    const imported = await importTfCheckpoint(reference);
    const state = await loadTraining(await openCheckpoint(checkpoint), imported.layout);
    for (const array of ["parameters", "statistics", "momentum", "averages"] as const) {
      assert.deepEqual(state[array], imported[array], array);
      assert.ok(state[array].some((value) => value !== 0), array); // prettier-ignore
    }
    const { events } = await trainAndWatch({ resume: run });
    const trained = events.flatMap((event) => (event.event === "step" ? [event.step] : []));
    assert.deepEqual([trained[0], trained.at(-1)], [6, steps]);
  });

  test("becomes a run of as many shards as are asked for, which several processes may go on with", async () => {
    const run = join(folder, "shards-from-tensorflow");
    const given = tinySettings(writeTinySet(folder, "for-shards.npz"), run);
    const { checkpoint } = await importAsRun(reference, run, { ...given, batch_size: 4, shards: 4 });
    const { state } = await openCheckpoint(checkpoint);
    assert.deepEqual([state.settings["shards"], state.steps_per_epoch], [4, 3]);
  });

  test("is written again as the same two files, byte for byte", async () => {
    const imported = await importTfCheckpoint(reference);
    const prefix = await writeTfCheckpoint(folder, imported.layout, 5, imported);
    for (const file of ["model.ckpt-5.index", "model.ckpt-5.data-00000-of-00001"]) {
      assert.ok(readFileSync(join(folder, file)).equals(readFileSync(join(reference, file))), file);
    }
    assert.equal((await latestCheckpoint(folder)).prefix, prefix);
  });
});

suite("the index of a real run", needs("tf-checkpoints", "shufflenetv2-index-only"), () => {
  for (const [file, width] of [
    ["assafmus_run00_0.5x_model.ckpt-1331064", 0.5],
    ["assafmus_run01_1.0x_model.ckpt-1661328", 1],
  ] as const) {
    test(`at ${width.toFixed(1)}x lists our 623 names, types and shapes, and our index but for the checksums`, async () => {
      const { entries } = await readBundle(sharedPath("tf-checkpoints", "shufflenetv2-index-only", file));
      const layout = program(width, 1000);
      const ours = tfTensors(layout, 0, emptyState(layout));
      const listed = [...entries].map(([name, { dtype, shape }]) => `${name} ${dtype} [${shape.join(", ")}]`);
      const expected = [...ours].map(([name, { dtype, shape }]) => `${name} ${dtype} [${shape.join(", ")}]`);
      assert.equal(listed.length, 623);
      assert.deepEqual(
        listed,
        expected.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))),
      );
      assert.equal(
        encodeBundle(ours).data.reduce((sum, { length }) => sum + length, 0),
        lastByte(entries.values()),
      );
    });
  }

  test("without data cannot be imported, and says so", async () => {
    const path = sharedPath(
      "tf-checkpoints",
      "shufflenetv2-index-only",
      "assafmus_run00_0.5x_model.ckpt-1331064",
    );
    await assert.rejects(
      importTfCheckpoint(path),
      /data is not there: its index gives names and shapes only/,
    );
  });

  test("of another network is refused, with what was looked for", async () => {
    for (const path of ["shufflenetv2-index-only/monkeyCv_model.ckpt", "mnist/model.ckpt"]) {
      await assert.rejects(importTfCheckpoint(sharedPath("tf-checkpoints", path)), (error: unknown) => {
        assert.ok(error instanceof CheckpointError);
        assert.match(
          error.message,
          /holds no ShuffleNet V2 .*expected a tensor ShuffleNetV2\/Conv1\/weights .*found \d+ tensors/,
        );
        return true;
      });
    }
  });
});

suite("a run exported as a TensorFlow checkpoint", () => {
  const data = writeTinySet(folder);
  const straight = join(folder, "straight");
  const settings = (run: string) => ({ ...tinySettings(data, run), variant: "tensorflow" as const });

  test("and imported as a run goes on to the same bits as if it had never left", async () => {
    await trainAndWatch(settings(straight));
    const exported = join(folder, "exported");
    const middle = await openCheckpoint(join(straight, "step-8"));
    assert.equal(await exportTfCheckpoint(middle, exported), join(exported, "model.ckpt-8"));
    assert.deepEqual(readdirSync(exported).sort(), ["checkpoint", "model.ckpt-8.data-00000-of-00001", "model.ckpt-8.index"]); // prettier-ignore

    const again = join(folder, "again");
    const imported = await importAsRun(exported, again, settings(again));
    assert.deepEqual([imported.step, imported.steps, imported.notices], [8, steps, []]);
    assert.equal(trainedBits(imported.checkpoint), trainedBits(join(straight, "step-8")));
    const { step } = await train({ resume: again });
    assert.equal(step, steps);
    assert.equal(trainedBits(join(again, `step-${steps}`)), trainedBits(join(straight, `step-${steps}`)));
  });

  test("is not imported into a run's folder, nor as another network", async () => {
    const exported = join(folder, "exported");
    await assert.rejects(importAsRun(exported, straight, settings(straight)), /holds a run already/);
    const run = join(folder, "refused");
    const other = { ...settings(run), width: 1 as const };
    await assert.rejects(
      importAsRun(exported, run, other),
      /another network than --width.*expected 1, found 0.5/,
    );
  });

  test("as one set of weights is its own averages", async () => {
    const best = await openCheckpoint(join(straight, "best"));
    const imported = await importTfCheckpoint(await exportTfCheckpoint(best, join(folder, "best")));
    assert.deepEqual(imported.averages, imported.parameters);
    assert.equal(imported.momentum, undefined);
  });

  test("keeps as many as asked, and deletes only those that the file `checkpoint` lists", async () => {
    const kept = join(folder, "kept");
    mkdirSync(kept);
    const layout = program(0.5, 3);
    const state = emptyState(layout);
    await writeTfCheckpoint(kept, layout, 1, state);
    rmSync(join(kept, "checkpoint"));
    writeFileSync(join(kept, ".saving-model.ckpt-2.index"), "what a kill left");
    writeFileSync(join(kept, ".saving-other"), "somebody else's");
    for (const step of [2, 3, 4, 5]) await writeTfCheckpoint(kept, layout, step, state, { keep: 2 });
    const names = Object.keys(hashes(kept)).filter((name) => /index$|other$/.test(name));
    assert.deepEqual(names, [
      ".saving-other",
      "model.ckpt-1.index",
      "model.ckpt-4.index",
      "model.ckpt-5.index",
    ]);
    assert.equal(readFileSync(join(kept, "checkpoint"), "utf8"), 'model_checkpoint_path: "model.ckpt-5"\nall_model_checkpoint_paths: "model.ckpt-4"\nall_model_checkpoint_paths: "model.ckpt-5"\n'); // prettier-ignore
  });

  test("is refused for a network that the lineage does not have", async () => {
    const layout = compile(shuffleNetV2({ variant: "torchvision", width: 0.5, classes: 3 }), { batch: 1, imageSize: 32, mode: "infer" }); // prettier-ignore
    const { state } = await openCheckpoint(join(straight, "best"));
    const model = { ...state.model, variant: "torchvision" as const };
    const path = await saveCheckpoint(folder, "foreign", layout, { kind: "weights", weights: emptyState(layout) }, { ...stateOf(state), model }); // prettier-ignore
    await assert.rejects(exportTfCheckpoint(await openCheckpoint(path), join(folder, "no")), UsageError);
  });
});

/** Without what saveCheckpoint adds. */
function stateOf(state: Awaited<ReturnType<typeof openCheckpoint>>["state"]) {
  const { step, steps_per_epoch, evaluated_step, scores, best, model, settings, origins, data } = state;
  return { step, steps_per_epoch, evaluated_step, scores, best, model, settings, origins, data };
}

function lastByte(entries: Iterable<{ readonly offset: number; readonly bytes: number }>): number {
  return Math.max(...[...entries].map(({ offset, bytes }) => offset + bytes));
}
