import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { closing } from "./closing.js";

const refuse = (): never => {
  throw new Error("EROFS: read-only file system, unlink");
};

suite("H1: a closing step that fails", () => {
  test("is told, and what was done is returned", async () => {
    const told: string[] = [];
    const closed: string[] = [];
    const done = await closing(
      (atEnd) => {
        atEnd(() => closed.push("first"));
        atEnd(refuse);
        atEnd(() => Promise.reject(new Error("EIO")));
        atEnd(() => closed.push("last"));
        return Promise.resolve("done");
      },
      (what) => told.push(what),
    );
    assert.equal(done, "done");
    assert.deepEqual(closed, ["last", "first"]);
    assert.equal(told.length, 2);
    assert.match(told[1] ?? "", /EROFS/);
  });

  test("never takes the place of the error that came first", async () => {
    await assert.rejects(
      closing((atEnd) => {
        atEnd(refuse);
        return Promise.reject(new Error("the first"));
      }),
      /the first/,
    );
  });
});
