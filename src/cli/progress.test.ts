import assert from "node:assert/strict";
import { Writable } from "node:stream";
import { mock, suite, test } from "node:test";

import { startProgress } from "./progress.js";
import { saysTop5 } from "./report-run.js";
import { listenForStop } from "./stop.js";
import { openTerminal, shown } from "./terminal.js";

/** What is drawn on a terminal 120 columns wide. */
function screen() {
  let text = "";
  const stream = Object.assign(
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        text += chunk.toString();
        done();
      },
    }),
    { isTTY: true, columns: 120 },
  );
  const terminal = openTerminal(false, { stdout: stream, stderr: stream });
  return { terminal, text: () => text };
}

const state = (label: string, done: number) => ({
  label,
  done,
  total: 4,
  columns: ["loss 1.0", { rate: `${done}00 img/s` }],
});

suite("progress", () => {
  test("shows no rate before a second has passed, and it goes on over the epochs", () => {
    const lines: string[] = [];
    const { terminal } = screen();
    const log = startProgress({
      ...terminal,
      interactive: false,
      note: (line) => void lines.push(shown([line ?? ""])),
    });
    let now = 0;
    const clock = mock.method(performance, "now", () => now);
    log.show(state("epoch 1/3", 4));
    now = 900;
    log.show(state("epoch 2/3", 4));
    now = 1100;
    log.show(state("epoch 3/3", 4));
    log.show(state("validation", 4));
    clock.mock.restore();
    assert.deepEqual(
      lines.map((line) => /img\/s/.test(line)),
      [false, false, true, false],
    );
  });

  test("is ended before what Ctrl-C prints, which has a line of its own", () => {
    const { terminal, text } = screen();
    const drawn = startProgress(terminal);
    const stop = listenForStop(terminal, () => "Stopping after step 3.", drawn);
    drawn.show(state("epoch 1/3", 1));
    process.emit("SIGINT");
    stop.release();
    assert.equal(stop.signal.aborted, true);
    // Up to the message the bar's line is ended by its own newline, and no empty line stands between.
    const [before = "", after] = text().split("Stopping after step 3.");
    assert.match(before, /epoch 1\/3.*1\/4.*[^\n]\n$/s);
    assert.equal(after, "\n");
    drawn.show(state("epoch 1/3", 2));
    drawn.end();
    assert.match(text().split("Stopping after step 3.\n")[1] ?? "", /epoch 1\/3.*2\/4/s);
  });
});

test("top-5 is said of more than five classes", () => {
  assert.deepEqual([2, 5, 6, 1000].map(saysTop5), [false, false, true, true]);
});
