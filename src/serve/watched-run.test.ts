import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";

import { evaluationLine, resumedLine, startLine, stepLine, textOf } from "../../test/support/log-lines.js";
import { scratch } from "../../test/support/tiny-run.js";
import { WatchedRun } from "./watched-run.js";

const top = scratch();
let runs = 0;

interface Watched {
  readonly run: WatchedRun;
  readonly append: (...lines: readonly object[]) => void;
  /** Says who has the lock: a process by its number, nobody by undefined. */
  readonly lock: (pid: number | undefined, host?: string) => void;
  /** Looks so many seconds after the log was last written to. */
  readonly look: (seconds?: number) => Promise<string>;
}

function watch(): Watched {
  const folder = join(top, `run-${runs++}`);
  mkdirSync(folder);
  const log = join(folder, "events.jsonl");
  const run = new WatchedRun(1, folder, "r");
  return {
    run,
    append: (...lines) => appendFileSync(log, textOf(...lines)),
    lock: (pid, host = hostname()) => {
      const path = join(folder, ".lock");
      if (pid === undefined) rmSync(path, { force: true });
      else writeFileSync(path, `${JSON.stringify({ pid, host, started: "" })}\n`);
    },
    look: async (seconds = 0) => {
      const written = statSync(log, { throwIfNoEntry: false })?.mtimeMs ?? 0;
      await run.look(written + 1000 * seconds);
      return run.standing;
    },
  };
}

suite("a watched run", () => {
  test("is running while it says something, silent or gone by whether its process lives", async () => {
    const { run, append, lock, look } = watch();
    assert.equal(await look(), "not begun");
    append(startLine());
    lock(process.pid);
    assert.equal(await look(), "running");
    assert.equal(await look(50), "running");
    assert.equal(await look(70), "silent");
    append(stepLine(1));
    assert.equal(await look(), "running");
    assert.equal(await look(-3600), "running", "a clock that is ahead makes nobody silent");
    // No process has this number.
    lock(2 ** 30);
    assert.equal(await look(1), "running");
    assert.equal(await look(6), "gone");
    lock(2 ** 30, "elsewhere");
    assert.equal(await look(6), "running", "nobody can be looked up there");
    assert.equal(await look(70), "silent");
    lock(undefined);
    assert.equal(await look(6), "gone");
    assert.equal(run.step?.step, 1);
  });

  test("is waited for as long as its steps take", async () => {
    const { append, lock, look } = watch();
    lock(process.pid);
    // 4 pictures a step at 0.1 a second: a line every 400 s.
    append(startLine({ settings: { log_steps: 10 } }), { ...stepLine(1), images_per_second: 0.1 });
    assert.equal(await look(1000), "running");
    assert.equal(await look(1300), "silent");
  });

  test("says how it ended", async () => {
    const { run, append, look } = watch();
    append(startLine(), stepLine(1), { event: "failed", step: 1, epoch: 0.5, code: 5, what: "it diverged" });
    assert.equal(await look(1000), "failed");
    assert.equal(run.ending?.event === "failed" && run.ending.what, "it diverged");
    append(resumedLine(0), stepLine(1), { event: "stopped", step: 1, epoch: 0.5, checkpoint: "c" });
    assert.equal(await look(1000), "stopped");
    append(resumedLine(1), stepLine(2));
    assert.equal(await look(), "running");
    append({ event: "end", step: 2, epoch: 1, images_per_second: 10 });
    assert.equal(await look(1000), "ended");
    assert.equal(run.beginnings, 3);
  });

  test("that was resumed from an earlier step is as it stands now", async () => {
    const { run, append, look } = watch();
    append(startLine(), stepLine(1), stepLine(2), evaluationLine(2, 0.7, true), stepLine(3), stepLine(4, 40));
    append(evaluationLine(4, 0.9, true), { event: "warning", what: "w" });
    await look();
    append(resumedLine(2), stepLine(3, 33));
    const version = run.version;
    await look();
    assert.ok(run.version > version);
    assert.deepEqual(
      run.steps.map(({ step, loss }) => [step, loss]),
      [
        [1, 1],
        [2, 2],
        [3, 33],
      ],
    );
    assert.deepEqual(
      run.evaluations.map(({ step }) => step),
      [2],
    );
    assert.deepEqual(run.warnings, []);
    await look();
    assert.equal(run.version, version + 1, "nothing new, no new version");
  });

  test("takes no more memory however long it is", async () => {
    const { run, append, look } = watch();
    append(startLine());
    for (let step = 1; step <= 20_000; step += 1000) {
      append(
        ...Array.from({ length: 1000 }, (_, i) => stepLine(step + i)),
        ...Array.from({ length: 200 }, (_, i) => evaluationLine(step + i, 0.5, step === 3001 && i === 7)),
      );
    }
    await look();
    assert.ok(run.steps.length > 400 && run.steps.length <= 961, String(run.steps.length));
    assert.ok(run.evaluations.length > 400 && run.evaluations.length <= 1000, String(run.evaluations.length));
    assert.equal(run.evaluations.find(({ best }) => best)?.step, 3008, "the best is kept");
    assert.equal(run.steps.at(-1)?.step, 20_000);
  });

  test("whose log cannot be read says why", async () => {
    const { run, look } = watch();
    mkdirSync(join(run.folder, "events.jsonl"));
    assert.equal(await look(), "unreadable");
    assert.match(run.problem ?? "", /not a regular file|EISDIR/);
    rmSync(join(run.folder, "events.jsonl"), { recursive: true });
    assert.equal(await look(), "not begun");
    assert.equal(run.problem, undefined);
  });
});
