import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { suite, test } from "node:test";

import { printable } from "../core/printable.js";
import { bytes, count, duration, jsonLine, millions, percent, rate, shellWord } from "./format.js";

suite("numbers", () => {
  test("carry a thousands separator and no more digits than they deserve", () => {
    assert.deepEqual([count(2400), count(0)], ["2,400", "0"]);
    assert.deepEqual(
      [millions(352_042), millions(7_600_000), millions(146_000_000)],
      ["352,042", "7.6 M", "146 M"],
    );
    assert.deepEqual([rate(4310.2), rate(61.27), rate(0.5)], ["4,310", "61.3", "0.50"]);
    assert.deepEqual([percent(0.9891), percent(1), percent(0.5, 0)], ["98.9 %", "100.0 %", "50 %"]);
  });

  test("of bytes are decimal", () => {
    assert.deepEqual(
      [bytes(999), bytes(1400), bytes(1.4e6), bytes(2e9)],
      ["999 bytes", "1.4 kB", "1.4 MB", "2.0 GB"],
    );
  });

  test("of seconds show the two largest units", () => {
    const cases = [
      [9.96, "10.0 s"],
      [59.97, "1 min 0 s"],
      [247, "4 min 7 s"],
      [3599.6, "1 h 0 min"],
      [248_400, "2 d 21 h"],
    ] as const;
    for (const [seconds, text] of cases) assert.equal(duration(seconds), text);
  });
});

suite("names from files", () => {
  const hostile = "\u001b[2Jred\nline\u009b\u202egnp.exe";

  test("are printed without what would move the cursor or turn the text round", () => {
    assert.equal(printable(hostile), "\\u001b[2Jred\\u000aline\\u009b\\u202egnp.exe");
    assert.equal(printable("Ærøskøbing 犬.jpg"), "Ærøskøbing 犬.jpg");
  });

  test("survive JSON unchanged, in one line without control characters", () => {
    const line = jsonLine({ file: hostile });
    assert.match(line, /^[\x20-\x7e]+$/);
    assert.deepEqual(JSON.parse(line), { file: hostile });
  });

  test("are quoted for a shell only where they need it", () => {
    assert.deepEqual(["runs/a", "my photos", "it's"].map(shellWord), ["runs/a", "'my photos'", `'it'\\''s'`]);
  });

  test(
    "come back from a shell as they were, control characters and all",
    { skip: !existsSync("/bin/bash") },
    () => {
      for (const name of [hostile, "it's\u0007\\n", "a b\r$HOME`id`", "", "~"]) {
        const quoted = shellWord(name);
        assert.match(quoted, /^[\x20-\x7e]*$/);
        const { stdout } = spawnSync("/bin/bash", ["-c", `printf %s ${quoted}`], { encoding: "utf8" });
        assert.equal(stdout, name);
      }
    },
  );
});
