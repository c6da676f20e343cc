import assert from "node:assert/strict";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { scratch } from "../../test/support/tiny-run.js";
import { replaceOwn } from "./own-file.js";

const folder = scratch();

suite("a file of ours beside a run", () => {
  test("is written over as long as nobody changed it", async () => {
    const path = join(folder, "card.md");
    assert.equal(await replaceOwn(path, "one\n"), true);
    assert.equal(await replaceOwn(path, "two\n"), true);
    assert.match(readFileSync(path, "utf8"), /^two\n<!-- /);
    appendFileSync(path, "a word of mine\n");
    const mine = readFileSync(path);
    assert.equal(await replaceOwn(path, "three\n"), false);
    assert.deepEqual(readFileSync(path), mine);
  });

  test("is not taken for ours because it quotes one", async () => {
    const path = join(folder, "other.md");
    await replaceOwn(path, "one\n");
    writeFileSync(path, readFileSync(path, "utf8").replace("one", "mine"));
    assert.equal(await replaceOwn(path, "two\n"), false);
  });
});
