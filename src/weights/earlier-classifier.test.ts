import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { encodeSafetensors } from "../formats/safetensors.js";
import { initialise, initialStatistics } from "../models/initialise.js";
import { exportWeights } from "../models/tensor-names.js";
import { scratch } from "../../test/support/tiny-run.js";
import { earlierClassifier } from "./earlier-classifier.js";
import { layoutOf } from "./fill.js";
import { settingsOfWeights } from "./initialise-from.js";
import { useWeights } from "./open.js";

const folder = scratch();

type Variant = "torchvision" | "tensorflow" | "megvii";

/** A file in the names of others, without some of its tensors. */
function written(
  variant: Variant,
  without = /$^/,
): { readonly path: string; readonly classifier: Float32Array } {
  const layout = layoutOf(variant, 0.5, 7);
  const parameters = initialise(layout, { version: "torch", seed: 4 });
  const statistics = initialStatistics(layout);
  const tensors = [...exportWeights(layout, variant, { parameters, statistics })].filter(([name]) => !without.test(name)); // prettier-ignore
  const path = join(folder, `${variant}-${tensors.length}.safetensors`);
  writeFileSync(path, Buffer.concat(encodeSafetensors(tensors.map(([name, each]) => ({ name, ...each })), new Map()))); // prettier-ignore
  const { offset, size } = layout.parameters.find(({ role }) => role === "linear") as {
    offset: number;
    size: number;
  };
  return { path, classifier: parameters.slice(offset, offset + size) };
}

function earlierIn(path: string, variant: Variant, features: number): Promise<Float32Array | undefined> {
  return useWeights(path, (file) => earlierClassifier(file, variant, features));
}

suite("the weights of others", () => {
  for (const variant of ["torchvision", "tensorflow", "megvii"] as const) {
    test(`in ${variant}'s names: their classifier, as our features lie, and their width`, async () => {
      const { path, classifier } = written(variant);
      assert.deepEqual(await earlierIn(path, variant, 1024), classifier);
      assert.equal(await earlierIn(path, variant, 2048), undefined);
      const { width, variant: own } = await settingsOfWeights(path, undefined);
      assert.deepEqual([width, own], [0.5, variant]);
    });
  }

  test("without a classifier have none to begin with", async () => {
    assert.equal(await earlierIn(written("torchvision", /^fc\./).path, "torchvision", 1024), undefined);
  });
});
