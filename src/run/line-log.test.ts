import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, mock, suite, test } from "node:test";

import { LineLog } from "./line-log.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-lines-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const logAt = (path: string): LineLog => new LineLog(path, (count) => JSON.stringify({ lost: count }));

function parsed(path: string): unknown[] {
  const text = readFileSync(path, "utf8");
  assert.ok(text.endsWith("\n"));
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as unknown);
}

suite("H11: half a line at a log's end", () => {
  for (const [what, half] of [
    ["short", '{"event": "st'],
    ["longer than a piece that is read", `{"event": "${"x".repeat(10_000)}`],
  ] as const) {
    test(`left by a kill is cut before the next line: ${what}`, async () => {
      const path = join(folder, `${what.length}.jsonl`);
      writeFileSync(path, `{"step":1}\n{"step":2}\n${half}`);
      const log = logAt(path);
      log.add('{"step":3}');
      assert.equal(await log.flush(), undefined);
      assert.deepEqual(parsed(path), [{ step: 1 }, { step: 2 }, { step: 3 }]);
    });
  }

  test("that is all there is, is cut too", async () => {
    const path = join(folder, "only.jsonl");
    writeFileSync(path, '{"event": "st');
    const log = logAt(path);
    log.add('{"step":3}');
    await log.flush();
    assert.deepEqual(parsed(path), [{ step: 3 }]);
  });

  for (const cuts of [true, false]) {
    const how = cuts ? "at once" : "before the next line, where the disk refuses that too";
    test(`left by a full disk in the middle of a run is cut ${how}`, async () => {
      const path = join(folder, `full-${cuts}.jsonl`);
      const log = logAt(path);
      log.add('{"step":1}');
      await log.flush();
      const handle = await open(path);
      const prototype = Object.getPrototypeOf(handle) as FileHandle;
      await handle.close();
      const refused = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
      const append = mock.method(prototype, "appendFile", async function (this: FileHandle, text: string) {
        await this.write(text.slice(0, 14));
        throw refused;
      });
      const truncate = cuts
        ? undefined
        : mock.method(prototype, "truncate", () => Promise.reject(new Error("EIO")));
      log.add('{"step":2}', '{"step":3}');
      assert.match((await log.flush()) ?? "", /ENOSPC/);
      log.add('{"step":4}');
      assert.equal(await log.flush(), undefined, "is said once");
      append.mock.restore();
      truncate?.mock.restore();
      if (cuts) assert.deepEqual(parsed(path), [{ step: 1 }]);
      log.add('{"step":5}');
      await log.flush();
      const lines = parsed(path);
      assert.deepEqual(lines.at(-1), { step: 5 });
      assert.deepEqual(lines.at(-2), { lost: 3 });
    });
  }
});
