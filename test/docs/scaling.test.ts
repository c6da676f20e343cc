/**
 * docs/scaling.md shows what its commands print. UPDATE=1 writes it anew: all of what is printed where the page shows the
 * first line, else the table alone.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import { program, repository } from "../support/paths.js";

const path = join(repository, "docs", "scaling.md");
let page = readFileSync(path, "utf8");

/** A command and the indented lines right behind it. */
const blocks = [...page.matchAll(/^ {4}\$ npx riffle-vision (plan .+)\n((?: {4}[^$\s].*\n)(?: {4}.*\n)*)/gm)];

suite("docs/scaling.md", () => {
  test("shows tables up to 1,024 ranks", () => {
    assert.ok(blocks.length >= 4, `${blocks.length} blocks: has the form of the page changed?`);
    assert.ok(blocks.some(([block]) => /│ 1,024 │/.test(block)));
  });

  for (const [, command = "", shown = ""] of blocks) {
    test(`prints what the page shows: ${command}`, () => {
      // Else the machine would decide what is printed.
      for (const given of ["--step_ms", "--memory_gb_s", "--threads"])
        assert.ok(command.includes(given), given);
      const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...command.split(" ")], {
        encoding: "utf8",
      });
      assert.equal(status, 0, stderr);
      const lines = stdout.trimEnd().split("\n");
      const isWhole = shown.startsWith("    Network");
      const wanted = isWhole ? lines : lines.filter((line) => /^[┌├└│]/.test(line));
      const text = wanted.map((line) => `    ${line}`.trimEnd() + "\n").join("");
      if (process.env["UPDATE"] === "1")
        page = page.replace(`${command}\n${shown}`, () => `${command}\n${text}`);
      else assert.equal(shown, text);
    });
  }

  after(() => {
    if (process.env["UPDATE"] === "1") writeFileSync(path, page);
  });
});
