import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { columnsOf, endOf, padded, shortened, startOf } from "./columns.js";

suite("columns of a text", () => {
  test("are two for a Chinese character, none for a mark or a colour", () => {
    assert.deepEqual(
      ["abc", "照片", "e\u0301", "\u001b[31mred\u001b[39m", ""].map(columnsOf),
      [3, 4, 1, 3, 0],
    );
    assert.equal(padded("照片", 6), "照片  ");
    assert.equal(padded("longer", 3), "longer");
  });

  test("a name is shortened in its middle, and to no more than it may take", () => {
    assert.equal(shortened("photos/holiday-0017.jpg", 23), "photos/holiday-0017.jpg");
    assert.equal(shortened("photos/holiday-0017.jpg", 15), "photos/…017.jpg");
    assert.equal(endOf("photos/holiday-0017.jpg", 9), "…0017.jpg");
    assert.equal(startOf("photos/holiday-0017.jpg", 9), "photos/h…");
    const names = ["photos/holiday-0017.jpg", "照片/假期的照片一二三四.jpg", "🐝🐝🐝🐝🐝🐝.jpg", ""];
    for (const name of names) {
      for (let width = 1; width < 30; width++) {
        for (const short of [shortened(name, width), endOf(name, width), startOf(name, width)]) {
          assert.ok(columnsOf(short) <= width, `${short} in ${width}`);
          assert.equal(short.includes("…"), columnsOf(name) > width);
        }
      }
    }
  });
});
