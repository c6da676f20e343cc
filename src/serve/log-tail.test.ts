import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { scratch } from "../../test/support/tiny-run.js";
import { LogTail } from "./log-tail.js";

const folder = scratch();
let files = 0;

interface Followed {
  readonly path: string;
  readonly tail: LogTail;
  /** Lines since the last call, "START OVER" where all before is void. */
  readonly next: () => Promise<(string | undefined)[]>;
}

function follow(): Followed {
  const path = join(folder, `${files++}.jsonl`);
  const tail = new LogTail(path);
  const next = async (): Promise<(string | undefined)[]> => {
    const heard: (string | undefined)[] = [];
    await tail.read({ hear: (line) => heard.push(line), startOver: () => heard.push("START OVER") });
    return heard;
  };
  return { path, tail, next };
}

suite("the tail of a log", () => {
  test("is heard line by line, each once, half a line when it is whole", async () => {
    const { path, next } = follow();
    assert.deepEqual(await next(), [], "there is no file yet");
    writeFileSync(path, "one\ntwo\nthr");
    assert.deepEqual(await next(), ["one", "two"]);
    assert.deepEqual(await next(), []);
    appendFileSync(path, "ee\nfünf");
    assert.deepEqual(await next(), ["three"]);
    appendFileSync(path, "\n");
    assert.deepEqual(await next(), ["fünf"]);
  });

  test("begins anew where the file is another, or was cut behind what was read", async () => {
    const { path, next } = follow();
    writeFileSync(path, "one\ntwo\n");
    assert.deepEqual(await next(), ["one", "two"]);
    writeFileSync(`${path}.new`, "ONE\ntwo\nthree\n");
    renameSync(`${path}.new`, path);
    assert.deepEqual(await next(), ["START OVER", "ONE", "two", "three"]);
    truncateSync(path, 4);
    assert.deepEqual(await next(), ["START OVER", "ONE"]);
    // As long as before, and longer, with other lines in it.
    truncateSync(path, 0);
    appendFileSync(path, "EIN\n");
    assert.deepEqual(await next(), ["START OVER", "EIN"]);
    truncateSync(path, 0);
    appendFileSync(path, "UN\ndeux\n");
    assert.deepEqual(await next(), ["START OVER", "UN", "deux"]);
    rmSync(path);
    assert.deepEqual(await next(), ["START OVER"]);
  });

  test("that had half a line cut off goes on behind it", async () => {
    const { path, next } = follow();
    writeFileSync(path, "one\nhalf a l");
    assert.deepEqual(await next(), ["one"]);
    truncateSync(path, 4);
    appendFileSync(path, "two\n");
    assert.deepEqual(await next(), ["two"]);
  });

  test("passes over a line that is too long, and reads a long file piece by piece", async () => {
    const { path, tail, next } = follow();
    const long = "x".repeat(9 * 2 ** 20);
    writeFileSync(path, `one\n${long}\ntwo\n`);
    assert.deepEqual(await next(), ["one"]);
    assert.ok(tail.done > 0.5 && tail.done < 1, String(tail.done));
    assert.deepEqual(await next(), [undefined, "two"]);
    assert.equal(tail.done, 1);
  });

  test("of what is no file is refused at once, a pipe that nobody writes to among it", async () => {
    const { path, next } = follow();
    assert.equal(spawnSync("mkfifo", [path]).status, 0);
    await assert.rejects(next(), /not a regular file/);
    await assert.rejects(
      new LogTail(folder).read({ hear: () => undefined, startOver: () => undefined }),
      /not a regular file|EISDIR/,
    );
  });
});
