import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, openSync, closeSync, renameSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import { CheckpointError } from "../core/error.js";
import { initialise, initialStatistics } from "../models/initialise.js";
import { saveCheckpoint } from "../run/checkpoint.js";
import type { Saved } from "../run/checkpoint-tensors.js";
import { layoutOf } from "./fill.js";
import { exportRun } from "./export-run.js";
import { importWeights, writeImportedFile } from "./import-weights.js";
import { initialiseFrom } from "./initialise-from.js";
import { useWeights } from "./open.js";
import { writeTfCheckpoint } from "./tf-checkpoint.js";

const scratch = mkdtempSync(join(tmpdir(), "riffle-open-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

const layout = layoutOf("tensorflow", 0.5, 3);
const draw = (seed: number): Float32Array => initialise(layout, { version: "he_normal", seed });
const state = {
  parameters: draw(1),
  averages: draw(2),
  momentum: draw(3),
  statistics: initialStatistics(layout),
  gradients: new Float32Array(layout.parameterCount),
};
const run = join(scratch, "run");

before(async () => {
  mkdirSync(run);
  const save = (name: string, saved: Saved): Promise<string> =>
    saveCheckpoint(run, name, layout, saved, {
      step: 7,
      steps_per_epoch: 3,
      evaluated_step: -1,
      scores: null,
      best: null,
      model: {
        variant: "tensorflow",
        width: 0.5,
        classes: 3,
        image_size: 32,
        eval_resize: 37,
        pipeline: "torchvision",
        class_names: ["a", "b", "c"],
      },
      settings: { average_decay: 0.99 },
      origins: {},
      data: { fingerprint: "0", train_images: 9 },
    });
  await save("step-7", { kind: "training", state });
});

suite("weights come in by one door", () => {
  test("which tells every form by what stands in it, whatever it is called", async () => {
    const formOf = (path: string): Promise<string> => useWeights(path, ({ form }) => Promise.resolve(form));
    const file = join(scratch, "photo.jpg");
    await writeImportedFile(await importWeights(run), file);
    assert.equal(await formOf(file), "Riffle weights (safetensors)");
    assert.equal(await formOf(run), "Riffle weights (safetensors)");
    assert.equal(await formOf(join(run, "step-7", "weights.safetensors")), "Riffle weights (safetensors)");
    const folder = join(scratch, "tf");
    mkdirSync(folder);
    const prefix = await writeTfCheckpoint(folder, layout, 7, state);
    for (const path of [folder, prefix, `${prefix}.index`, `${prefix}.data-00000-of-00001`]) {
      assert.equal(await formOf(path), "TensorFlow checkpoint", path);
    }
    renameSync(`${prefix}.index`, join(folder, "other.index"));
    renameSync(`${prefix}.data-00000-of-00001`, join(folder, "other.data-00000-of-00001"));
    assert.equal(await formOf(join(folder, "other")), "TensorFlow checkpoint");
  });

  test("and a checkpoint of ours is used by its averages, and trained on as it was trained", async () => {
    const { weights } = await importWeights(run);
    assert.deepEqual(weights.parameters, state.averages);
    const into = {
      parameters: new Float32Array(layout.parameterCount),
      statistics: new Float32Array(state.statistics.length),
    };
    const left = await initialiseFrom(run, "tensorflow", layout, into, ["a", "b", "c"]);
    assert.deepEqual(left, { tensors: [], classifier: false });
    assert.deepEqual(into, { parameters: state.parameters, statistics: state.statistics });
  });

  test("and an export of ours comes back as the network it was: rule, pipeline and size of pictures, names and numbers", async () => {
    const output = join(scratch, "round.safetensors");
    await exportRun(run, { format: "safetensors", output });
    const { model, weights } = await importWeights(output);
    assert.deepEqual(model, { ...(await importWeights(run)).model, exif_orientation: "ignore" });
    assert.deepEqual(
      [model.eval_resize, model.pipeline, model.class_names],
      [37, "torchvision", ["a", "b", "c"]],
    );
    assert.deepEqual(weights.parameters, state.averages);
    // And again, from the file itself.
    const again = join(scratch, "again.safetensors");
    await exportRun(output, { format: "safetensors", output: again });
    assert.deepEqual((await importWeights(again)).weights, weights);
    await assert.rejects(
      exportRun(output, { format: "tf-checkpoint" }),
      /riffle-vision import .* --log_dir NEW/,
    );
  });

  test("where a classifier's rows follow the names of the classes, and none is reused under another name", async () => {
    const [linear, bias] = ["linear", "bias"].map((role) => layout.parameters.find((p) => p.role === role));
    assert.ok(linear !== undefined && bias !== undefined);
    const row = (of: Float32Array, { offset, size }: typeof linear, i: number): Float32Array =>
      of.subarray(offset + (i * size) / 3, offset + ((i + 1) * size) / 3);
    const drawn = draw(9);
    for (const [names, from, says] of [
      [["a", "b", "c"], [0, 1, 2], undefined],
      [["c", "a", "b"], [2, 0, 1], /put in the order of the classes/],
      [["b", "x", "a"], [1, -1, 0], /those of x start from the seed/],
      [["x", "y", "z"], [-1, -1, -1], /starts from the seed: .* names other classes/],
    ] as const) {
      const into = { parameters: drawn.slice(), statistics: initialStatistics(layout) };
      const notices: string[] = [];
      const notice = (what: string): number => notices.push(what);
      const left = await initialiseFrom(run, "tensorflow", layout, into, names, notice);
      assert.equal(left.classifier, (from as readonly number[]).includes(-1));
      for (const tensor of [linear, bias]) {
        from.forEach((source, i) => {
          const expected = source < 0 ? row(drawn, tensor, i) : row(state.parameters, tensor, source);
          assert.deepEqual(row(into.parameters, tensor, i), expected, `${names.join()} ${i}`);
        });
      }
      assert.equal(notices.length, says === undefined ? 0 : 1, notices.join());
      if (says !== undefined) assert.match(notices[0] as string, says);
    }
  });

  test("where a damaged checkpoint of ours is refused for every use", async () => {
    const path = join(run, "step-7", "weights.safetensors");
    const file = openSync(path, "r+");
    writeSync(file, Uint8Array.of(0x3f), 0, 1, 200_003);
    closeSync(file);
    const into = { parameters: state.parameters.slice(), statistics: state.statistics.slice() };
    for (const use of [
      importWeights,
      (of: string) => initialiseFrom(of, "tensorflow", layout, into, ["a", "b", "c"]),
    ]) {
      for (const of of [run, path]) {
        await assert.rejects(
          async () => use(of),
          (error: unknown) =>
            error instanceof CheckpointError && /step-7.*not those that were saved/.test(error.message),
        );
      }
    }
  });
});
