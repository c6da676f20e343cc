import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { columnsOf } from "../core/columns.js";
import { nameColumns, plainLine, resultLines } from "./prediction-line.js";
import { coloursOf, shown } from "./terminal.js";

const file = "photos/2024/holiday/a-long-name-of-a-photograph-0017.jpg";
const top = [
  { index: 0, name: "bees", probability: 0.903 },
  { index: 1, name: "ants", probability: 0.052 },
  { index: 2, name: "a class with a name of many words and more of them", probability: 0.03 },
  { index: 3, name: "蜜蜂", probability: 0.015 },
];
const colours = coloursOf({});

function linesAt(width: number, isTopAsked: boolean, result: Parameters<typeof plainLine>[0]): string[] {
  const format = { names: nameColumns([result.file], width), width, isTopAsked };
  return resultLines(result, format, colours).map(shown);
}

suite("a prediction's line", () => {
  test("is whole where no terminal bounds it", () => {
    const words =
      "bees 90.3 %   ants 5.2 %   a class with a name of many words and more of them 3.0 %   蜜蜂 1.5 %";
    assert.deepEqual(linesAt(Infinity, false, { file, top }), [`${file}   ${words}`]);
  });

  test("on a terminal shortens the name in its middle, and leaves out classes that have no room", () => {
    assert.deepEqual(linesAt(60, false, { file, top }), ["photos/20…h-0017.jpg   bees 90.3 %   ants 5.2 %"]);
  });

  test("goes on below where so many classes were asked for, none of them cut but one longer than a line", () => {
    for (const width of [60, 80, 140]) {
      const lines = linesAt(width, true, { file, top });
      for (const line of lines) assert.ok(columnsOf(line) <= width, `${line} at ${width}`);
      for (const share of ["bees 90.3 %", "ants 5.2 %", "3.0 %", "蜜蜂 1.5 %"])
        assert.ok(
          lines.some((line) => line.includes(share)),
          `${share} at ${width}`,
        );
    }
    assert.match(linesAt(60, true, { file, top }).join("\n"), /a class with a …nd more of them 3\.0 %/);
  });

  test("says why there is no prediction, in whole words", () => {
    const error = "a text file, not a picture; JPEG, PNG, WebP, GIF, TIFF and AVIF are read";
    const lines = linesAt(60, false, { file: "a.jpg", error });
    for (const line of lines) assert.ok(columnsOf(line) <= 60);
    assert.equal(lines.join(" ").replace(/\s+/g, " "), `a.jpg not read: ${error}`);
  });

  test("makes what a terminal acts upon visible", () => {
    for (const width of [60, Infinity])
      assert.doesNotMatch(
        linesAt(width, true, { file: "a\u001b[31m\n.jpg", top }).join(""),
        /[\u0000-\u001f]/,
      );
  });
});
