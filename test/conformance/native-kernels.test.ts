/**
 * Builds and runs native/test, the engine's tests without Node: each of its lines becomes a test here.
 *
 * Its guards catch what a comparison of results cannot. .ci/run runs the same program under sanitizers, and not here a third time:
 * compiling it takes minutes.
 */

// Needs the native engine.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";

import { repository } from "../support/paths.js";

const skip =
  process.env["RIFFLE_KERNELS"] === "elsewhere" &&
  "RIFFLE_KERNELS=elsewhere: they are tested under sanitizers in the same run";

test(
  "kernels agree with their definitions, whatever the shape and the instruction set",
  { skip },
  async (t) => {
    const script = join(repository, "scripts", "native-test.mjs");
    const { stdout, stderr, status } = spawnSync(process.execPath, [script], { encoding: "utf8" });
    let ok = 0;
    let explanation: string[] = [];
    for (const line of stdout.split("\n")) {
      const [, outcome, name = ""] = /^(ok {2}|FAIL|skip) (.*)$/.exec(line) ?? [];
      if (outcome === undefined) {
        explanation.push(line);
        continue;
      }
      const details = [...explanation, line].join("\n");
      explanation = [];
      if (outcome.startsWith("ok")) ok++;
      await t.test(name, { skip: outcome === "skip" }, () => assert.notEqual(outcome, "FAIL", details));
    }
    assert.equal(status, 0, `${stderr}\n${stdout}`);
    assert.ok(ok > 0, "the program reported no test");
  },
);
