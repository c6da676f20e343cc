import assert from "node:assert/strict";
import { Writable } from "node:stream";
import { mock, suite, test } from "node:test";
import { stripVTControlCharacters } from "node:util";

import { startProgress } from "./progress.js";
import type { TrainEvent } from "../run/events.js";
import { reportRun, saysTop5 } from "./report-run.js";
import { listenForStop } from "./stop.js";
import { openTerminal, shown, type Terminal } from "./terminal.js";

/** What is drawn on a terminal. */
function screen(columns = 120) {
  let text = "";
  const stream = Object.assign(
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        text += chunk.toString();
        done();
      },
    }),
    { isTTY: true, columns },
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

/** A line as it stands when nothing has been drawn over it yet. */
function lineAt(columns: number, show: Parameters<ReturnType<typeof startProgress>["show"]>[0]): string {
  const { terminal, text } = screen(columns);
  const clock = mock.method(performance, "now", () => 0);
  const drawn = startProgress({ ...terminal, record: () => undefined });
  drawn.show({ ...show, done: 0 });
  clock.mock.mockImplementation(() => 2000);
  drawn.show(show);
  drawn.end();
  clock.mock.restore();
  // Up to where a line is begun anew.
  return stripVTControlCharacters(text()).split("left ").at(-1)?.split("\n")[0] ?? "";
}

suite("a line on a terminal", () => {
  const full = {
    label: "epoch 12/90",
    done: 12_345,
    total: 50_000,
    secondsLeft: 303,
    columns: ["loss 0.512", "top-1 98.9 %", { rate: "4,310 img/s" }, "waiting 0.4 %", "exchange 3.0 %"],
  };

  test("begins with the time left, and shows all that a wide one has room for", () => {
    const line = lineAt(140, full);
    assert.match(
      line,
      /^5 min 3 s {2}epoch 12\/90 {3}[━─]{20} {2}12,345\/50,000 {2}loss 0\.512 {2}top-1 98\.9 % {2}4,310 img\/s {2}waiting 0\.4 % {2}exchange 3\.0 %$/,
    );
  });

  test("of 80 columns leaves out what matters least, and cuts no word", () => {
    assert.match(
      lineAt(80, full),
      /^5 min 3 s {2}epoch 12\/90 {3}[━─]{5,} {2}12,345\/50,000 {2}loss 0\.512 {2}top-1 98\.9 %$/,
    );
  });

  test("of any width ends with a whole column, and leaves room for ^C", () => {
    const words = [
      "12,345/50,000",
      "loss 0.512",
      "top-1 98.9 %",
      "4,310 img/s",
      "waiting 0.4 %",
      "exchange 3.0 %",
    ];
    for (let columns = 45; columns < 160; columns++) {
      const line = `left ${lineAt(columns, full)}`;
      assert.ok(line.length <= columns - 3, `${line} at ${columns}`);
      assert.ok(
        words.some((word) => line.endsWith(word)),
        `${line} at ${columns}`,
      );
    }
  });

  test("shows colour where it counts, and is no shorter for it", () => {
    const { terminal, text } = screen(60);
    const drawn = startProgress({ ...terminal, record: () => undefined });
    const best = terminal.noteColour.green("best so far");
    drawn.show({ label: "validation", done: 4, total: 4, columns: ["top-1 10.0 %", best] });
    assert.match(text(), /\u001b\[32mbest so far\u001b\[39m/);
    assert.match(stripVTControlCharacters(text()), / best so far\n$/);
  });
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
    const stop = listenForStop(terminal, () => "Stopping after step 3.");
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

  test("is ended before whatever else is printed, by whom ever", () => {
    for (const [name, print] of Object.entries({
      note: (terminal) => terminal.note("Network"),
      warn: (terminal) => terminal.warn("Network"),
      print: (terminal) => terminal.print("Network"),
      interrupt: (terminal) => terminal.interrupt("Network"),
    } satisfies Record<string, (terminal: Terminal) => void>)) {
      const { terminal, text } = screen();
      const drawn = startProgress(terminal);
      drawn.show(state("solving", 0));
      print(terminal);
      drawn.end();
      const [line, next, ...more] = stripVTControlCharacters(text()).trimEnd().split("\n");
      assert.match(line ?? "", /solving .*0\/4/, name);
      assert.match(next ?? "", /^(warning: )?Network$/, name);
      assert.deepEqual(more, [], name);
    }
  });
});

suite("a run's lines", () => {
  const check = { event: "preparing", what: "check", images_per_second: 9, seconds_left: 1 } as const;

  test("of its report say so, and end with the last picture", () => {
    const { terminal, text } = screen();
    const run = reportRun(terminal);
    run.report({ event: "end" } as TrainEvent);
    for (const done of [64, 153]) run.report({ event: "evaluating", done, images: 153 });
    for (const done of [64, 398]) run.report({ ...check, done, total: 398 });
    const lines = text()
      .split("\n")
      .map((line) => stripVTControlCharacters(line).split("\r").at(-1));
    assert.match(lines[0] ?? "", /report .*━ {2}153\/153 {2}pictures scored$/);
    assert.match(lines[1] ?? "", /report .*━ {2}398\/398 {2}pictures looked at$/);
  });

  test("are not drawn of what was given up at Ctrl-C", () => {
    const { terminal, text } = screen();
    const run = reportRun(terminal, AbortSignal.abort());
    run.report({ ...check, what: "features", done: 64, total: 980 });
    assert.equal(text(), "");
  });
});

test("top-5 is said of more than five classes", () => {
  assert.deepEqual([2, 5, 6, 1000].map(saysTop5), [false, false, true, true]);
});
