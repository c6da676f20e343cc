import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { UsageError } from "../core/error.js";
import { classesOf } from "./kept-pictures.js";
import { refuseOptions } from "./training-plan.js";
import type { GivenLabelled } from "./wire.js";

function pictures(...labels: readonly string[]): GivenLabelled[] {
  return labels.map((label, i) => ({ label, picture: { name: `#${i}`, content: new Blob([]) } }));
}

function refuses(work: () => unknown, words: RegExp): void {
  assert.throws(work, (error: unknown) => {
    assert.ok(error instanceof UsageError, String(error));
    assert.match(error.message, words);
    return true;
  });
}

suite("the classes of a training", () => {
  test("are the labels in the order of their code points, or as they are given", () => {
    assert.deepEqual(classesOf(pictures("b", "ä", "B", "b"), [], undefined), ["B", "b", "ä"]);
    assert.deepEqual(classesOf(pictures("a", "b"), [], ["b", "a"]), ["b", "a"]);
  });

  const cases: readonly (readonly [string, () => unknown, RegExp])[] = [
    [
      "the same name twice",
      () => classesOf(pictures("a", "b"), [], ["a", "b", "a"]),
      /two classes have the same name.*"a"/,
    ],
    [
      "names that look the same",
      () => classesOf(pictures("a", "a ", "b"), [], undefined),
      /two classes have the same name/,
    ],
    [
      "letters composed in two ways",
      () => classesOf(pictures("\u00e4", "a\u0308"), [], undefined),
      /two classes have the same name/,
    ],
    [
      "one class",
      () => classesOf(pictures("a", "a"), [], undefined),
      /nothing to tell apart.*two classes at least/,
    ],
    ["no pictures", () => classesOf([], [], undefined), /nothing to tell apart/],
    ["no name", () => classesOf(pictures("a", " "), [], undefined), /a class needs a name/],
    [
      "a label that is no class",
      () => classesOf(pictures("a", "b", "c"), [], ["a", "b"]),
      /not named.*found c/,
    ],
    [
      "a class that is only scored",
      () => classesOf(pictures("a", "b"), pictures("c"), undefined),
      /no pictures to learn from.*"c"/,
    ],
  ];
  for (const [what, work, words] of cases) test(`refuses ${what}`, () => refuses(work, words));
});

test("options out of range are refused by their own names", () => {
  refuses(() => refuseOptions({ imageSize: 31 }, false), /imageSize cannot be 31.*from 32 to 4096/);
  refuses(() => refuseOptions({ epochs: 0 }, false), /epochs cannot be 0/);
  refuses(() => refuseOptions({ learningRate: NaN }, false), /learningRate cannot be/);
  refuses(() => refuseOptions({ width: 3 as 2 }, false), /width cannot be 3/);
  refuseOptions({ epochs: 0 }, true);
});
