import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { repository } from "../../../test/support/paths.js";
import { needs, sharedPath } from "../../../test/support/shared.js";
import { challengeClasses, shownClass, wordsOf } from "./challenge-classes.js";

suite("the classes of ImageNet's challenge", () => {
  test("are 1,000 WordNet ids, sorted, each with its words", () => {
    assert.equal(challengeClasses.length, 1000);
    assert.deepEqual(challengeClasses, [...challengeClasses].sort());
    assert.ok(challengeClasses.every((id) => /^n\d{8}$/.test(id) && (wordsOf(id) ?? "") !== ""));
    // torchvision's _IMAGENET_CATEGORIES have these at 0, 281 and 999.
    assert.deepEqual(
      [0, 281, 999].map((i) => wordsOf(challengeClasses[i] ?? "")?.split(",")[0]),
      ["tench", "tabby", "toilet tissue"],
    );
  });

  test("are shown by their first word, or as much as tells one from another", () => {
    assert.equal(shownClass("n01440764"), "tench");
    assert.equal(shownClass("n02012849"), "crane (n02012849)");
    assert.equal(shownClass("n03710721"), "maillot, tank suit");
    assert.equal(new Set(challengeClasses.map(shownClass)).size, 1000);
    assert.equal(shownClass("ants"), "ants");
  });

  test("and their words are those of the devkit's own meta.mat", needs("imagenet-devkit"), () => {
    const script = join(repository, "scripts", "challenge-classes.mjs");
    const written = execFileSync(process.execPath, [script, sharedPath("imagenet-devkit")], {
      encoding: "utf8",
    });
    assert.equal(
      written,
      readFileSync(join(repository, "src/prepare/imagenet/challenge-classes.ts"), "utf8"),
    );
  });
});
