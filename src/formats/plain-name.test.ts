import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { isPlainName, quoted } from "./plain-name.js";

suite("a name out of a file", () => {
  test("may be printed as it is when nothing in it steers a terminal or hides", () => {
    for (const name of ["conv1.weight", "ü/ß", "名前", "a b", "x".repeat(1024)])
      assert.ok(isPlainName(name), name);
    const disturbing = [
      "",
      "\x1b[2J",
      "a\nb",
      "\x7f",
      "\u202egpj.exe",
      "\u2028",
      "\ud800",
      "x".repeat(1025),
      "ü".repeat(513),
    ];
    for (const name of disturbing) assert.ok(!isPlainName(name), JSON.stringify(name));
  });

  test("is quoted, escaped and short in a message, whatever it is", () => {
    assert.equal(quoted('a"b'), '"a\\"b"');
    assert.equal(quoted("\x1b[31m\u202e\x9b"), '"\\u001b[31m\\u{202e}\\u{9b}"');
    assert.equal(quoted("x".repeat(200)), `"${"x".repeat(80)}…"`);
    // Twice in a row: a pattern that remembers its place would find only every second one.
    assert.equal(isPlainName("\u202e"), false);
    assert.equal(isPlainName("\u202e"), false);
  });
});
