/** What this re-creates is said in both languages, with the numbers that were published. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { repository as root } from "../support/paths.js";

for (const page of ["README.md", "README.zh-CN.md"]) {
  test(`${page} names the original, its network and its accuracy`, () => {
    const text = readFileSync(join(root, page), "utf8");
    for (const fact of ["ShufflenetV2_ID0371", "TropComplique/shufflenet-v2-tensorflow", "he_uniorm"])
      assert.ok(text.includes(fact), fact);
    for (const accuracy of ["60.7 %", "82.2 %", "68.8 %", "88.6 %"])
      assert.ok(text.includes(accuracy), accuracy);
  });
}
