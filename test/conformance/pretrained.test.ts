/**
 * Published weights: every PyTorch file of the test material is read, or refused with the reason; and the pretrained
 * torchvision 1.0x sees in pixels and in photographs what PyTorch sees.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { CheckpointError } from "../../src/core/error.js";
import { importWeights, writeImportedFile, writeImportedRun } from "../../src/weights/import-weights.js";
import { openTorchCheckpoint } from "../../src/formats/torch-checkpoint-file.js";
import { loadNetwork } from "../../src/inference/evaluate.js";
import { useWeights } from "../../src/weights/open.js";
import { predict } from "../../src/inference/predict.js";
import { train } from "../../src/train/trainer.js";
import { words } from "../support/rule.js";
import { program } from "../support/paths.js";
import { needs, sharedPath, storedPath } from "../support/shared.js";
import { scratch, tinySettings, writeTinySet } from "../support/tiny-run.js";

const pretrained = ["torch-checkpoints", "torchvision_shufflenet_v2_x1_0_pretrained.pth"] as const;

suite("the PyTorch files of the test material", needs("torch-checkpoints"), () => {
  // What PyTorch 2.13 finds in each: tensors, and elements in all of them.
  const files = [
    {
      file: pretrained[1],
      form: "zip",
      tensors: 338,
      elements: 2_294_840,
      network: "torchvision 1, 1000 outputs",
    },
    {
      file: "yolo-fastestv2_shufflenetv2_0.5x_backbone.pth",
      form: "zip",
      tensors: 330,
      elements: 149_095,
      // A detector's: the stages of megvii's 0.5x without conv5 and classifier.
      refused: /without what follows them.*conv_last\.0\.weight/,
    },
    {
      file: "kimhormong_fitnet_shufflenet_v2_15_4_90.pth",
      form: "zip",
      tensors: 337,
      elements: 285_104,
      // Stages of 40, 80 and 160 channels, a width of its own.
      refused: /no network of this family.*\[24, 24, 1, 1\], found \[20, 24, 1, 1\]/,
    },
    {
      file: "yangyuke001_ShuffleNetV2_emotion.pth",
      form: "legacy",
      tensors: 339,
      elements: 188_080,
      refused:
        /no network of this family.*expected a tensor net\.stage2\.0\.branch2\.0\.weight, found no such/,
    },
    {
      file: "megvii_ShuffleNetV1_group3_0.5x.pth.tar",
      form: "legacy",
      tensors: 295,
      elements: 729_613,
      // ShuffleNet V1, whose first convolution has 12 channels.
      refused: /no network of this family.*\[24, 3, 3, 3\], found \[12, 3, 3, 3\]/,
    },
  ] as const;

  for (const expected of files) {
    test(`${expected.file} is read${"refused" in expected ? ", and refused as a network with the reason" : ""}`, async () => {
      const path = sharedPath("torch-checkpoints", expected.file);
      const { container, tensors } = await openTorchCheckpoint(path);
      let elements = 0;
      for (const tensor of tensors.values()) elements += tensor.read().length;
      assert.deepEqual(
        { form: container, tensors: tensors.size, elements },
        { form: expected.form, tensors: expected.tensors, elements: expected.elements },
      );
      if ("refused" in expected) {
        await assert.rejects(importWeights(path, { classes: 10 }), (error: Error) => {
          assert.ok(error instanceof CheckpointError, String(error));
          assert.match(error.message, expected.refused);
          return true;
        });
      } else {
        const { recognised } = await importWeights(path);
        const { variant, width, classes, missing, leftOver } = recognised;
        assert.equal(`${variant} ${width}, ${classes} outputs`, expected.network);
        assert.deepEqual([missing, leftOver], [[], []]);
      }
    });
  }
});

suite("the pretrained 1.0x", needs(...pretrained), () => {
  const folder = scratch();
  const path = sharedPath(...pretrained);

  test("gives PyTorch's logits on equal pixels to 1e-3", async () => {
    const golden = JSON.parse(readFileSync(storedPath("golden", "torch-pretrained-1.0x.json"), "utf8")) as {
      images: number;
      size: number;
      block: number;
      seed: number;
      logits: string;
    };
    const bytes = Buffer.from(golden.logits, "base64");
    const expected = new Float32Array(new Uint8Array(bytes).buffer);
    const { weights, model } = await importWeights(path);
    const { run } = await loadNetwork(model, { eval_batch_size: golden.images });
    try {
      await run.load(weights);
      const logits = await run.infer(picturesByRule(golden), golden.images);
      assert.equal(expected.length, golden.images * 1000);
      const worst = Math.max(...expected.map((value, i) => Math.abs(value - (logits[i] as number))));
      assert.ok(worst < 1e-3, `${worst}`);
    } finally {
      run.close();
    }
  });

  test(
    "names what PyTorch names first in at least 199 of 200 photographs",
    needs("imagenet-samples"),
    async () => {
      const rows = readFileSync(sharedPath("imagenet-samples", "predictions.tsv"), "utf8")
        .trim()
        .split("\n")
        .slice(1);
      const expected = rows.map((row) => row.split("\t"));
      const files = expected.map(([file = ""]) => sharedPath("imagenet-samples", file));
      const results = await predict(path, files, { logits: true });
      let agreed = 0;
      const differences: number[] = [];
      results.forEach((result, i) => {
        assert.ok("top" in result, result.file);
        const [, , ...numbers] = (expected[i] as string[]).map(Number);
        const [classes, logits] = [numbers.slice(0, 5), numbers.slice(5)];
        if (result.top[0]?.index === classes[0]) agreed++;
        // Class names are WordNet ids in order, with which the photographs' names begin.
        const label = Number(expected[i]?.[1]);
        if (result.top[0]?.index === label) assert.ok(result.file.includes(result.top[0].name), result.file);
        differences.push(
          ...classes.map((c, k) => Math.abs((result.logits?.[c] as number) - (logits[k] as number))),
        );
      });
      assert.ok(agreed >= 199, `${agreed} of ${results.length}`);
      assert.equal(results.length, 200);
      const [tench] = results;
      assert.ok(tench !== undefined && "top" in tench);
      assert.equal(tench.top[0]?.words, "tench, Tinca tinca");
      // Decoded by the same library and resized to the byte, so only the order of f32 sums is left; the table has 5 digits.
      const worst = Math.max(...differences);
      assert.ok(worst < 1e-3, `logits differ by up to ${worst}`);
    },
  );

  test("is inspected as it is, and not as another network", () => {
    const inspect = (...more: string[]) =>
      spawnSync(process.execPath, [program, "inspect", path, "--json", ...more], { encoding: "utf8" });
    const report = JSON.parse(inspect().stdout) as { parameters: number; num_classes: number };
    assert.deepEqual([report.parameters, report.num_classes], [2_278_604, 1000]);
    const other = inspect("--width", "0.5");
    assert.equal(other.status, 2);
    assert.match(other.stderr + other.stdout, /another network than --width asks for/);
  });

  test("is fine-tuned for other classes from the file itself, from an imported file and from an imported run", async () => {
    const data = writeTinySet(folder);
    const file = join(folder, "start.safetensors");
    await writeImportedFile(await importWeights(path, { classes: 3, classifier: "drop" }), file);
    const run = join(folder, "start");
    await writeImportedRun(await importWeights(path), run);
    const losses: number[] = [];
    for (const [i, from] of [path, file, run].entries()) {
      const warnings: string[] = [];
      const into = join(folder, `tuned-${i}`);
      mkdirSync(into);
      const settings = {
        ...tinySettings(data, into),
        width: 1,
        variant: "torchvision",
        init_from: from,
        max_epochs: 1,
        solve_classifier: false,
      } as const;
      const abort = new AbortController();
      await train(
        { ...settings, lr: 0.001 },
        (event) => {
          if (event.event === "warning") warnings.push(event.what);
          if (event.event === "step") {
            losses.push(event.loss);
            abort.abort();
          }
        },
        abort.signal,
      );
      const skipped = warnings.filter((what) => what.includes("start from the seed"));
      assert.equal(skipped.length, from === file ? 0 : 1, warnings.join("; "));
      if (from !== file) assert.match(skipped[0] as string, /^classifier\.weight, classifier\.bias start/);
    }
    assert.equal(losses.length, 3);
    assert.ok(losses.every(Number.isFinite), losses.join());
  });

  test("is refused as the start of another variant, whose shapes may fit and whose maths do not", async () => {
    const into = join(folder, "other");
    mkdirSync(into);
    const settings = {
      ...tinySettings(writeTinySet(folder), into),
      width: 1,
      variant: "tensorflow",
    } as const;
    await assert.rejects(
      train({ ...settings, init_from: path }),
      /another variant.*expected tensorflow, found torchvision/,
    );
  });
});

test(
  "an index of TensorFlow's without its data is listed, and refused when it is to be used",
  needs("tf-checkpoints"),
  async () => {
    const path = sharedPath(
      "tf-checkpoints",
      "shufflenetv2-index-only",
      "assafmus_run01_1.0x_model.ckpt-1661328.index",
    );
    assert.equal(await useWeights(path, ({ tensors }) => Promise.resolve(tensors.size)), 623);
    await assert.rejects(importWeights(path), CheckpointError);
  },
);

test("what is no file of weights is refused by its first bytes", async () => {
  const path = join(scratch(), "photo.pth");
  writeFileSync(path, "\xff\xd8\xff\xe0 JFIF", "latin1");
  await assert.rejects(importWeights(path), /is a picture, not a run or weights.*found a JPEG/);
});

/** As make_pretrained.py: blocks of one colour, with low bits of noise. */
function picturesByRule({
  images,
  size,
  block,
  seed,
}: {
  images: number;
  size: number;
  block: number;
  seed: number;
}): Uint8Array {
  const side = size / block;
  const blocks = words("blocks", images * side * side * 3, seed);
  const noise = words("noise", images * size * size * 3, seed);
  return Uint8Array.from(noise, (word, i) => {
    const channel = i % 3;
    const x = Math.floor(i / 3) % size;
    const y = Math.floor(i / (3 * size)) % size;
    const image = Math.floor(i / (3 * size * size));
    const at = ((image * side + Math.floor(y / block)) * side + Math.floor(x / block)) * 3 + channel;
    return Math.min(((blocks[at] as number) >>> 24) + (word >>> 27), 255);
  });
}
