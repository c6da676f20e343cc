import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { UsageError } from "../core/error.js";
import { parseDuration } from "./duration.js";

suite("a length of time", () => {
  for (const [text, seconds] of [
    ["90s", 90],
    ["3m", 180],
    ["1h30m", 5400],
    ["1.5H", 5400],
    [" 2h1m5s ", 7265],
  ] as const) {
    test(`${text} is ${seconds} s`, () => assert.equal(parseDuration(text, "budget"), seconds));
  }

  for (const text of ["3", "m", "0s", "-3m", "3 m", "3m1h", "3m3m", "1e3s", "3min", ""]) {
    test(`"${text}" is none`, () => assert.throws(() => parseDuration(text, "budget"), UsageError));
  }
});
