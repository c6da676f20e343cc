import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { columnsOf } from "../core/columns.js";
import { tableLines } from "./table.js";

const table = {
  head: ["layer", "kind", "parameters", "bytes"],
  align: ["left", "left", "right", "right"],
  rows: [
    ["stage2.unit1.main.depthwise", "depthwise", "264", "186.9 kB"],
    ["层的名字很长很长很长很长很长很长", "stem", "1,025,000", "1 MB"],
  ],
} as const;

const widest = (lines: readonly string[]): number => Math.max(...lines.map(columnsOf));

suite("a table", () => {
  test("is as wide as it is where nothing says how wide it may be", () => {
    const lines = tableLines(table);
    assert.match(lines[1] ?? "", /layer.*kind.*parameters.*bytes/);
    assert.ok(widest(lines) > 60);
  });

  test("leaves out the columns that can go, the first named first, and says which", () => {
    const full = widest(tableLines(table));
    assert.deepEqual(tableLines({ ...table, spare: [1, 3] }, full), tableLines(table));
    const less = tableLines({ ...table, spare: [1, 3] }, full - 1);
    assert.doesNotMatch(less[1] ?? "", /kind/);
    assert.match(less[1] ?? "", /bytes/);
    assert.equal(less.at(-1), "left out, for the terminal is narrow: kind");
    const least = tableLines({ ...table, spare: [1, 3] }, 50);
    assert.match(least.join(" "), /left out, for the terminal is narrow: kind, +bytes$/);
    assert.ok(widest(least) <= 50);
    // A column that is not there cannot go.
    assert.deepEqual(tableLines({ ...table, spare: [7, 1, 3] }, 50), least);
  });

  test("then shortens text in its middle, and never a number", () => {
    const lines = tableLines({ ...table, spare: [1, 3] }, 40);
    assert.ok(widest(lines) <= 40, lines.join("\n"));
    assert.match(lines.join("\n"), /stage2\.\S*…\S*wise/);
    const long = "1,234,567,890,123,456,789";
    const narrow = tableLines({ rows: [["some words", long]], align: ["left", "right"] }, 30).join("\n");
    assert.ok(narrow.includes(long), narrow);
  });

  test("of which all columns matter becomes several, its first column in each", () => {
    const head = ["", "one", "two", "three"];
    const rows = [["setting", "a".repeat(20), "b".repeat(20), "c".repeat(20)]];
    const lines = tableLines({ head, rows, splits: true }, 60);
    assert.ok(widest(lines) <= 60, lines.join("\n"));
    assert.equal(lines.filter((line) => line.includes("setting")).length, 2);
    for (const letter of ["a", "b", "c"]) assert.ok(lines.some((line) => line.includes(letter.repeat(20))));
    assert.deepEqual(tableLines({ head, rows, splits: true }), tableLines({ head, rows }));
  });
});
