import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import { readOnnx } from "../../test/support/onnx-reader.js";
import type { TrainingState } from "../backends/backend.js";
import { UsageError } from "../core/error.js";
import { openSafetensors } from "../formats/safetensors-file.js";
import { initialise, initialStatistics } from "../models/initialise.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import type { VariantName } from "../models/variants.js";
import { compile } from "../program/compile.js";
import { saveCheckpoint } from "../run/checkpoint.js";
import type { Saved } from "../run/checkpoint-tensors.js";
import { type ExportFormat, type ExportOptions, exportRun } from "./export-run.js";

const scratch = mkdtempSync(join(tmpdir(), "riffle-export-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
const names = ["bee", "Ameise ü", 'a "quoted" one'];

/** A run folder with `step-7` (weights and averages that differ) and `best` (averages). */
async function makeRun(variant: VariantName, options: { averages?: number } = {}): Promise<string> {
  const run = mkdtempSync(join(scratch, `${variant}-`));
  const network = shuffleNetV2({ variant, width: 0.5, classes: names.length });
  const program = compile(network, { batch: 1, imageSize: 32, mode: "infer" });
  const draw = (seed: number): Float32Array => initialise(program, { version: "he_normal", seed });
  const state: TrainingState = {
    parameters: draw(1),
    averages: draw(2),
    momentum: draw(3),
    statistics: initialStatistics(program),
  };
  const save = (name: string, saved: Saved): Promise<string> =>
    saveCheckpoint(run, name, program, saved, {
      step: 7,
      steps_per_epoch: 3,
      evaluated_step: -1,
      scores: null,
      best: null,
      model: {
        variant,
        width: 0.5,
        classes: names.length,
        image_size: 32,
        eval_resize: 37,
        pipeline: "torchvision",
        class_names: names,
      },
      settings: { average_decay: options.averages ?? 0.99 },
      origins: {},
      data: { fingerprint: "0", train_images: 9 },
    });
  await save("step-7", { kind: "training", state });
  await save("best", { kind: "weights", weights: { ...state, parameters: state.averages } });
  return run;
}

let lineage: string;
let torchvision: string;
before(async () => {
  lineage = await makeRun("tensorflow");
  torchvision = await makeRun("torchvision");
});

suite("an export", () => {
  test("to ONNX stands beside the checkpoint, carries what its user has to know, and was read back", async () => {
    const result = await exportRun(lineage, { format: "onnx" });
    assert.equal(result.output, join(lineage, "best.onnx"));
    const { metadata, graph } = readOnnx(result.output);
    assert.deepEqual(result.check, { compared: "tensors", tensors: graph.initializers.size });
    assert.deepEqual(JSON.parse(metadata.get("class_names") ?? ""), names);
    assert.deepEqual(JSON.parse(metadata.get("preprocessing") ?? ""), {
      resize_shorter_side: 37,
      interpolation: "bilinear, antialiased",
      crop: 32,
      layout: "NCHW",
      channel_order: "RGB",
      mean: [0.5, 0.5, 0.5],
      std: [0.5, 0.5, 0.5],
    });
    assert.equal(metadata.get("exif_orientation"), "ignore");
    assert.match(metadata.get("input") ?? "", /^normalised: RGB/);
    assert.deepEqual(
      ["variant", "width", "step", "weights"].map((key) => metadata.get(key)),
      ["tensorflow", "0.5", "7", "average"],
    );
  });

  test("to ONNX keeps batch norm and takes pixels when told to", async () => {
    const output = join(scratch, "new folder", "kept.onnx");
    await exportRun(torchvision, { format: "onnx", output, keepBatchNorm: true, input: "pixels" });
    const { metadata, graph } = readOnnx(output);
    assert.match(metadata.get("input") ?? "", /^pixels: RGB, 0 to 255/);
    assert.equal(graph.nodes[0]?.operator, "Mul");
    assert.equal(graph.nodes.filter(({ operator }) => operator === "BatchNormalization").length, 56);
  });

  test("to safetensors has our names, or torchvision's", async () => {
    const expected = { safetensors: "conv5.gamma", "safetensors-torchvision": "conv5.1.weight" };
    for (const [format, name] of Object.entries(expected)) {
      const { output, check } = await exportRun(torchvision, { format: format as ExportFormat });
      const file = await openSafetensors(output);
      assert.deepEqual(file.tensors.get(name)?.shape, [1024]);
      assert.deepEqual(JSON.parse(file.metadata.get("class_names") ?? ""), names);
      assert.deepEqual(check, { compared: "tensors", tensors: file.tensors.size });
      await file.close();
    }
    const own = await openSafetensors(join(torchvision, "best.safetensors"));
    await own.close();
    // ImageNet's numbers, as everybody writes them.
    assert.match(
      own.metadata.get("preprocessing") ?? "",
      /"mean":\[0\.485,0\.456,0\.406\],"std":\[0\.229,0\.224,0\.225\]/,
    );
  });

  test("to a TensorFlow checkpoint reads back bit for bit, with momentum where there is one", async () => {
    const training = await exportRun(join(lineage, "step-7"), { format: "tf-checkpoint" });
    const best = await exportRun(lineage, { format: "tf-checkpoint" });
    // 170 tensors (56 convolutions, 112 of batch norm, 2 of the classifier) and 112 statistics.
    assert.deepEqual(training.check, { compared: "tensors", tensors: 3 * 170 + 112 });
    assert.deepEqual(best.check, { compared: "tensors", tensors: 2 * 170 + 112 });
    assert.ok(existsSync(`${training.output}.index`));
  });

  test("takes the averages, unless the weights as trained are asked for", async () => {
    const first = async (weights?: "raw" | "average"): Promise<Float32Array> => {
      const output = join(scratch, `${weights}.safetensors`);
      await exportRun(join(lineage, "step-7"), {
        format: "safetensors",
        output,
        overwrite: true,
        ...(weights === undefined ? {} : { weights }),
      });
      const file = await openSafetensors(output);
      return file.readFloat32("conv1.weight").finally(() => file.close());
    };
    assert.deepEqual(await first(), await first("average"));
    assert.notDeepEqual(await first("raw"), await first("average"));
  });
});

suite("an export is refused, with nothing written,", () => {
  const refused: readonly (readonly [string, () => string, ExportOptions, RegExp])[] = [
    [
      "under torchvision's names for another network",
      () => lineage,
      { format: "safetensors-torchvision" },
      /do not fit torchvision's/,
    ],
    [
      "as TensorFlow's for another network",
      () => torchvision,
      { format: "tf-checkpoint" },
      /found torchvision/,
    ],
    [
      "with the weights as trained from best",
      () => lineage,
      { format: "onnx", weights: "raw" },
      /the averages only.*step-N/s,
    ],
    [
      "with a graph's options for a file without one",
      () => lineage,
      { format: "safetensors", keepBatchNorm: true },
      /--keep_batch_norm/,
    ],
    [
      "with one of both sets for TensorFlow",
      () => lineage,
      { format: "tf-checkpoint", weights: "raw" },
      /--weights/,
    ],
  ];
  for (const [what, run, options, words] of refused) {
    test(what, async () => {
      const output = join(scratch, "refused");
      await assert.rejects(
        exportRun(run(), { output, ...options }),
        (error: unknown) => error instanceof UsageError && words.test(error.message),
      );
      assert.ok(!existsSync(output));
    });
  }

  test("with averages that were not kept", async () => {
    const run = await makeRun("megvii", { averages: 0 });
    await assert.rejects(exportRun(run, { format: "onnx", weights: "average" }), /no averages were kept/);
    const { weights } = await exportRun(run, { format: "onnx" });
    assert.equal(weights, "raw");
  });

  test("over a file, until it may be replaced, and over a folder always", async () => {
    const output = join(scratch, "mine.onnx");
    writeFileSync(output, "mine");
    await assert.rejects(exportRun(lineage, { format: "onnx", output }), /already.*--overwrite/s);
    assert.equal(readFileSync(output, "utf8"), "mine");
    await exportRun(lineage, { format: "onnx", output, overwrite: true });
    assert.ok(readFileSync(output).length > 1e6);
    const folder = join(scratch, "folder");
    mkdirSync(folder);
    await assert.rejects(exportRun(lineage, { format: "onnx", output: folder, overwrite: true }), UsageError);
  });
});
