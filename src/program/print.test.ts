/** Programs as stored text: when the compiler changes, the difference is what is reviewed. UPDATE=1 rewrites it. */

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { storedPath } from "../../test/support/shared.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { variantNames } from "../models/variants.js";
import { compile } from "./compile.js";
import { describe, print } from "./print.js";

const folder = storedPath("golden", "programs");

suite("print", () => {
  for (const variant of variantNames) {
    test(`the ${variant} program at 0.5x is the stored one`, () => {
      const network = shuffleNetV2({ variant, width: 0.5, classes: 10 });
      const text = print(compile(network, { batch: 2, imageSize: 75, mode: "train" }));
      const path = join(folder, `${variant}-0.5x.txt`);
      if (process.env["UPDATE"] === "1") writeFileSync(path, text);
      assert.equal(text, readFileSync(path, "utf8"));
    });
  }
});

suite("describe", () => {
  const batch = 2;
  const network = shuffleNetV2({ variant: "tensorflow", width: 0.5, classes: 10 });
  const rows = (mode: "train" | "infer") => describe(compile(network, { batch, imageSize: 224, mode }));

  test("counts the stem by hand", () => {
    assert.deepEqual(rows("infer")[0], {
      name: "conv1",
      kind: "stem",
      outputShape: [24, 56, 56],
      parameters: 24 * 27 + 48,
      multiplyAdds: 24 * 27 * 112 * 112,
      bytes: 4 * (batch * 24 * 56 * 56 + 24 * 27) + batch * 224 * 224 * 3,
    });
  });

  test("counts the classifier by hand", () => {
    assert.deepEqual(rows("infer").at(-1), {
      name: "classifier",
      kind: "head",
      outputShape: [10],
      parameters: 10250,
      multiplyAdds: 10240,
      bytes: 4 * (batch * 1024 * 49 + 10240),
    });
  });

  test("training touches a plane six times, seven where its gradient accumulates", () => {
    const row = rows("train").find(({ name }) => name === "stage2.unit2.main.depthwise");
    const plane = batch * 24 * 28 * 28;
    assert.equal(row?.bytes, 4 * (6 * plane + 3 * 24 * 9));
    const adding = rows("train").find(({ name }) => name === "stage2.unit1.main.before");
    const input = batch * 24 * 56 * 56;
    assert.equal(adding?.bytes, 4 * (7 * input + 3 * 24 * 24));
  });
});
