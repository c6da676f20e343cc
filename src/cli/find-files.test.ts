import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import { DataError } from "../core/error.js";
import { findFiles } from "./find-files.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-find-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const at = (...names: string[]): string[] => names.map((name) => join(folder, name));

mkdirSync(join(folder, "deep", "er"), { recursive: true });
mkdirSync(join(folder, "empty"));
for (const name of [
  "b.jpg",
  "a.jpg",
  "a.png",
  ".hidden.jpg",
  "[1].jpg",
  "set.npz",
  "deep/c.jpg",
  "deep/er/d.jpg",
]) {
  writeFileSync(join(folder, name), "");
}

suite("findFiles", () => {
  test("takes files as they are, missing ones too, in the order given", () => {
    assert.deepEqual(findFiles(at("b.jpg", "a.jpg", "none.jpg")).files, at("b.jpg", "a.jpg", "none.jpg"));
  });

  test("takes a folder's files, sorted, at any depth, hidden ones not", () => {
    assert.deepEqual(findFiles(at("deep")).files, at("deep/c.jpg", "deep/er/d.jpg"));
    assert.deepEqual(findFiles([folder]).files.includes(join(folder, ".hidden.jpg")), false);
  });

  test("expands * and ? in the last segment; brackets and dots stand for themselves", () => {
    assert.deepEqual(findFiles(at("*.jpg")).files, at("[1].jpg", "a.jpg", "b.jpg"));
    assert.deepEqual(findFiles(at("?.jpg")).files, at("a.jpg", "b.jpg"));
    assert.deepEqual(findFiles(at("[1].jpg")).files, at("[1].jpg"));
    assert.deepEqual(findFiles(at("a*")).files, at("a.jpg", "a.png"));
  });

  test("names a pattern or a folder that stands for nothing", () => {
    for (const path of at("*.webp", "empty")) {
      assert.throws(
        () => findFiles([path]),
        (error: unknown) => error instanceof DataError && error.message.includes(path),
      );
    }
  });

  test("picks single pictures of an array, and the whole of it when it is named too", () => {
    const [npz = ""] = at("set.npz");
    const some = findFiles([`${npz}#17`, `${npz}#3`]);
    assert.deepEqual(some.files, [npz]);
    assert.deepEqual(
      [3, 4, 17].map((n) => some.wanted(`${npz}#${n}`)),
      [true, false, true],
    );
    const whole = findFiles([`${npz}#17`, npz]);
    assert.deepEqual(whole.files, [npz]);
    assert.equal(whole.wanted(`${npz}#4`), true);
  });
});
