import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { repository as root } from "../support/paths.js";

/** `| what | read | how, or why not | \`test\` |`: the four cells of every row. */
const rows = readFileSync(join(root, "docs", "what-is-read.md"), "utf8")
  .split("\n")
  .filter((line) => line.startsWith("| ") && !/^\| (?:what|---) /.test(line))
  .map((line) => line.split(/(?<!\\)\|/).slice(1, -1).map((cell) => cell.trim())); // prettier-ignore

/** All text of the test files: a title stands in it as it is written, or as a template's beginning. */
const tests = ["src", "test"]
  .flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).map((name) => join(folder, name)),
  )
  .filter((name) => name.endsWith(".test.ts"))
  .map((name) => readFileSync(join(root, name), "utf8"))
  .join("\n");

test("every row of docs/what-is-read.md is whole and names a test that there is", () => {
  for (const row of rows) {
    assert.equal(row.length, 4, row.join(" | "));
    const [what, read, how, by] = row as [string, string, string, string];
    assert.ok(what !== "" && how !== "", row.join(" | "));
    assert.match(read, /^(?:yes|no|in part)$/, row.join(" | "));
    const title = /^`(.+)`$/.exec(by)?.[1];
    assert.ok(title !== undefined, `${what}: no test is named`);
    const escaped = title.replaceAll('"', '\\"');
    assert.ok(
      [`"${escaped}"`, `"${title}"`, `'${title}'`, `\`${title}\``].some((quoted) => tests.includes(quoted)),
      `${what}: there is no test ${by}`,
    );
  }
});
