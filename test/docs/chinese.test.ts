/**
 * docs/zh-CN: each page says which English page it follows and since when; what is pasted, printed and measured is the same in
 * both languages. A change of one page that the other does not have fails here.
 */

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { repository } from "../support/paths.js";

const docs = join(repository, "docs");
const chinese = join(docs, "zh-CN");
/** Made of the table of settings, in both languages at once: parameters.test.ts. */
const GENERATED = "parameters.md";
const pages = readdirSync(chinese).filter((name) => name.endsWith(".md") && name !== GENERATED);
const read = (...path: string[]): string => readFileSync(join(...path), "utf8");
const readme = read(repository, "README.zh-CN.md");

suite("the pages in Chinese", () => {
  test("are those that readers of the original need", () => {
    for (const name of ["imagenet", "recipes", "import", "export", "exit-codes", "your-own-photos", "launch"])
      assert.ok(pages.includes(`${name}.md`), name);
  });

  for (const name of pages) {
    const own = read(chinese, name);
    const english = read(docs, name);

    test(`${name} says what it follows, and is found from there and from the README`, () => {
      const [title = ""] = english.split("\n");
      const state = `英文页：[${title.replace(/^# /, "")}](../${name})；本译文与其 `;
      assert.ok(own.includes(`\n${state}`), `${name} has no line "${state}…"`);
      assert.match(own, /；本译文与其 20\d\d-\d\d-\d\d 的内容一致。\n/);
      assert.ok(english.includes(`](zh-CN/${name})`), `docs/${name} does not link to it`);
      assert.ok(readme.includes(`](docs/zh-CN/${name})`), `README.zh-CN.md does not link to ${name}`);
      assert.ok(!readme.includes(`](docs/${name})`), `README.zh-CN.md links to ${name} in English`);
    });

    test(`${name} has the English page's code, but for comments`, () => {
      assert.deepEqual(codeLines(own), codeLines(english));
    });

    test(`${name} has the English page's numbers, its tables row by row`, () => {
      assert.deepEqual(rows(own), rows(english));
      const there = new Set(numbers(own));
      assert.deepEqual(
        numbers(english).filter((number) => !there.has(number)),
        [],
      );
    });

    test(`${name} leads to pages in Chinese where there are some, and to headings that are there`, () => {
      for (const [, target = "", anchor] of own.matchAll(/\]\(([^)#:]*\.md)?(?:#([^)]+))?\)/g)) {
        const isState = target === `../${name}`;
        if (!isState && target.startsWith("../"))
          assert.ok(!existsSync(join(chinese, target.slice(3))), `${name}: ${target} is there in Chinese`);
        if (anchor === undefined) continue;
        const page = target === "" ? own : read(chinese, target);
        assert.ok(anchors(page).includes(decodeURIComponent(anchor)), `${name}: ${target}#${anchor}`);
      }
    });
  }
});

/** The lines of fenced and of indented blocks, without comments, and where each begins. */
function codeLines(page: string): string[] {
  let isFenced = false;
  return page.split("\n").flatMap((line) => {
    if (line.startsWith("```")) isFenced = !isFenced;
    const isCode = isFenced || line.startsWith("```") || line.startsWith("    ");
    return isCode ? [line.replace(/\s+# .*$/, "")] : [];
  });
}

/** The numbers of each row of each table. */
function rows(page: string): string[][] {
  return page
    .split("\n")
    .filter((line) => line.startsWith("|"))
    .map((line) => numbers(line).sort());
}

/** Numbers with two digits or more, 1.3 million and 130 万 alike. */
function numbers(text: string): string[] {
  const factors: Readonly<Record<string, number>> = { million: 1e6, 万: 1e4 };
  return [...text.matchAll(/\d+(?:,\d{3})*(?:\.\d+)*(?:(?: (million)| ?(万))(?!\w))?/g)]
    .map(([number, english, chineseUnit]) => {
      const factor = factors[english ?? chineseUnit ?? ""];
      const plain = number.replace(/ ?(million|万)$/, "").replaceAll(",", "");
      return factor === undefined ? plain : String(Math.round(Number(plain) * factor));
    })
    .filter((number) => number.length > 1);
}

/** As GitHub makes them: letters and digits of any script, spaces as hyphens. */
function anchors(page: string): string[] {
  return [...page.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .replaceAll(" ", "-"),
  );
}
