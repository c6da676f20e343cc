import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import { CheckpointError, UsageError } from "../core/error.js";
import { encodeSafetensors } from "../formats/safetensors.js";
import { initialStatistics } from "../models/initialise.js";
import { type VariantName, variantNames, type Width, widths } from "../models/variants.js";
import { exportWeights, type FlatWeights, type Scheme } from "../models/tensor-names.js";
import { loadWeights } from "../run/load-checkpoint.js";
import { findCheckpoint } from "../run/find-checkpoint.js";
import { layoutOf } from "./fill.js";
import { importWeights, writeImportedFile, writeImportedRun } from "./import-weights.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-import-"));
after(() => rmSync(folder, { recursive: true, force: true }));

interface Made {
  readonly path: string;
  readonly weights: FlatWeights;
}

let made = 0;
/** A safetensors file of a network under the scheme's names. */
function make(
  variant: VariantName,
  width: Width,
  classes: number,
  { scheme, prefix = "", without }: { scheme: Scheme; prefix?: string; without?: RegExp },
): Made {
  const layout = layoutOf(variant, width, classes);
  // No two neighbours alike in any order of axes; drawn ones would take seconds.
  const weights = {
    parameters: new Float32Array(layout.parameterCount),
    statistics: initialStatistics(layout),
  };
  for (let i = 0; i < layout.parameterCount; i++) weights.parameters[i] = (i % 104_729) / 104_729 - 0.5;
  weights.statistics.forEach((value, i) => (weights.statistics[i] = value + i / 65536));
  const tensors = [...exportWeights(layout, scheme, weights)]
    .filter(([name]) => without?.test(name) !== true)
    .map(([name, tensor]) => ({ name: `${prefix}${name}`, ...tensor }));
  const path = join(folder, `${made++}.safetensors`);
  writeFileSync(path, Buffer.concat(encodeSafetensors(tensors, new Map())));
  return { path, weights };
}

suite("names and shapes tell the network", () => {
  for (const variant of variantNames) {
    for (const width of widths) {
      test(`${variant} ${width.toFixed(1)}x in its own names, behind a prefix`, async () => {
        const { path, weights } = make(variant, width, 7, { scheme: variant, prefix: "model.module." });
        const imported = await importWeights(path);
        const { model, recognised } = imported;
        assert.deepEqual([model.variant, model.width, model.classes], [variant, width, 7]);
        assert.deepEqual([recognised.scheme, recognised.prefix], [variant, "model.module."]);
        assert.deepEqual(imported.weights, weights);
        assert.equal(model.pipeline, variant === "tensorflow" ? "tensorflow" : "torchvision");
        assert.match(imported.notices.join(), /begins with "model\.module\."/);
      });
    }
  }

  test("our own names say no variant: where shapes fit several, one has to be given", async () => {
    const { path } = make("torchvision", 0.5, 3, { scheme: "canonical" });
    await assert.rejects(importWeights(path), /more than one variant.*expected --variant/);
    assert.equal((await importWeights(path, { variant: "torchvision" })).model.variant, "torchvision");
  });
});

suite("the classifier", () => {
  for (const scheme of ["torchvision", "tensorflow"] as const) {
    test(`of another size is refused, kept in part, or dropped (${scheme}'s layout)`, async () => {
      const { path, weights } = make(scheme, 0.5, 4, { scheme });
      await assert.rejects(importWeights(path, { classes: 6 }), (error: Error) => {
        assert.ok(error instanceof UsageError);
        assert.match(error.message, /expected 6, found 4.*--classifier drop/);
        return true;
      });
      const theirs = linear(weights, layoutOf(scheme, 0.5, 4));
      for (const classes of [2, 6]) {
        const kept = await importWeights(path, { classes, classifier: "keep" });
        const ours = linear(kept.weights, kept.layout);
        const both = Math.min(classes, 4) * 1024;
        assert.deepEqual(ours.weight.slice(0, both), theirs.weight.slice(0, both));
        assert.deepEqual(
          ours.bias.slice(0, Math.min(classes, 4)),
          theirs.bias.slice(0, Math.min(classes, 4)),
        );
        assert.equal(ours.weight.length, classes * 1024);
        assert.ok(ours.weight.every(Number.isFinite));
      }
      const dropped = await importWeights(path, { classes: 4, classifier: "drop", seed: 5 });
      assert.notDeepEqual(linear(dropped.weights, dropped.layout).weight, theirs.weight);
      assert.match(dropped.notices.join(), /the classifier is new, 4 outputs drawn from seed 5/);
    });
  }

  test("that is not there is drawn, when the number of outputs is said", async () => {
    const { path } = make("megvii", 1, 4, { scheme: "megvii", without: /^classifier/ });
    await assert.rejects(importWeights(path), /no classifier.*expected --num_classes/);
    assert.equal((await importWeights(path, { classes: 3 })).model.classes, 3);
  });

  test("has names: ImageNet's for 1,000 outputs, given ones, never more than outputs", async () => {
    const { path } = make("torchvision", 0.5, 1000, { scheme: "torchvision" });
    const { model, notices } = await importWeights(path);
    assert.deepEqual([model.class_names[0], model.class_names[999]], ["n01440764", "n15075141"]);
    assert.match(notices.join(), /WordNet ids/);
    const named = await importWeights(path, { classNames: ["a", "b"], classes: 1000 });
    assert.deepEqual(named.model.class_names, ["a", "b"]);
    await assert.rejects(
      importWeights(path, { classNames: ["a", "a"], classes: 1000 }),
      /same class name twice/,
    );
    const names = Array.from({ length: 1001 }, (_, i) => `c${i}`);
    await assert.rejects(
      importWeights(path, { classNames: names, classes: 1000 }),
      /more names than outputs/,
    );
  });
});

test("a missing tensor is named, and so is one that is not finite", async () => {
  const { path } = make("torchvision", 1, 4, {
    scheme: "torchvision",
    without: /^stage3\.2\.branch2\.3\.weight$/,
  });
  await assert.rejects(
    importWeights(path),
    /281 of 282 tensors.*expected a tensor stage3\.2\.branch2\.3\.weight, found no/,
  );
  const layout = layoutOf("torchvision", 1, 2);
  const weights = {
    parameters: new Float32Array(layout.parameterCount).fill(NaN),
    statistics: initialStatistics(layout),
  };
  const tensors = [...exportWeights(layout, "torchvision", weights)].map(([name, tensor]) => ({
    name,
    ...tensor,
  }));
  const bad = join(folder, "nan.safetensors");
  writeFileSync(bad, Buffer.concat(encodeSafetensors(tensors, new Map())));
  await assert.rejects(importWeights(bad), (error: Error) => {
    assert.ok(error instanceof CheckpointError);
    assert.match(error.message, /not finite.*tensor|tensor .* not finite/);
    return true;
  });
});

test("what is written is read back to the bit, as a file and as a run, and nothing is overwritten", async () => {
  const { path, weights } = make("megvii", 1.5, 5, { scheme: "megvii" });
  const imported = await importWeights(path, { classNames: ["a", "b", "c", "d", "e"] });
  const file = join(folder, "out", "model.safetensors");
  await writeImportedFile(imported, file);
  const again = await importWeights(file);
  assert.deepEqual(again.weights, weights);
  assert.deepEqual(again.model, imported.model);
  await assert.rejects(writeImportedFile(imported, file), /exists already/);

  const run = join(folder, "run");
  await writeImportedRun(imported, run);
  const checkpoint = await findCheckpoint(run);
  assert.deepEqual(await loadWeights(checkpoint, imported.layout), weights);
  assert.deepEqual(checkpoint.state.model, imported.model);
  await assert.rejects(writeImportedRun(imported, run), /holds a run already/);
});

function linear(
  weights: FlatWeights,
  layout: ReturnType<typeof layoutOf>,
): { weight: Float32Array; bias: Float32Array } {
  const part = (name: string): Float32Array => {
    const { offset, size } = layout.parameters.find((p) => p.name === name) as {
      offset: number;
      size: number;
    };
    return weights.parameters.slice(offset, offset + size);
  };
  return { weight: part("classifier.weight"), bias: part("classifier.bias") };
}
