import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { CheckpointError, DataError, UsageError } from "../core/error.js";
import { reportError } from "./report-error.js";
import { coloursOf, shown, type Terminal } from "./terminal.js";

/** A terminal that keeps what it is given. */
function recorder(): { terminal: Terminal; notes: string[]; emitted: object[] } {
  const notes: string[] = [];
  const emitted: object[] = [];
  const colour = coloursOf({});
  const terminal: Terminal = {
    json: true,
    interactive: false,
    printsToTerminal: false,
    width: 80,
    columns: [0, 0],
    drawing: process.stderr,
    colour,
    noteColour: colour,
    print: () => {},
    emit: (object) => emitted.push(object),
    table: () => {},
    page: () => {},
    note: (...line) => notes.push(shown(line)),
    warn: (what) => notes.push(`warning: ${what}`),
    interrupt: () => {},
    opens: () => {},
    record: () => {},
    relay: () => {},
    keepGoing: () => {},
    finish: () => Promise.resolve(),
  };
  return { terminal, notes, emitted };
}

suite("reportError", () => {
  test("says what and where, expected and found, what is safe, what to do", () => {
    const { terminal, notes, emitted } = recorder();
    const error = new CheckpointError({
      what: "holds another width",
      where: "runs/a/step-1200",
      expected: "width 0.5",
      found: "width 1.0",
      safe: "The checkpoint is untouched",
      hint: "Leave --width out: riffle train --resume runs/a",
    });
    assert.equal(reportError(error, terminal, false), 4);
    assert.deepEqual(notes, [
      "riffle: runs/a/step-1200: holds another width (expected width 0.5, found width 1.0).",
      "  The checkpoint is untouched.",
      "  Leave --width out: riffle train --resume runs/a",
    ]);
    assert.deepEqual(emitted, [{ event: "error", code: 4, ...error.problem }]);
  });

  test("does not repeat a place that the sentence names, nor the option it is about", () => {
    const { terminal, notes } = recorder();
    reportError(new DataError({ what: "photos/a.jpg is cut short", where: "photos/a.jpg" }), terminal, false);
    reportError(new UsageError({ what: "--lr cannot be x", where: "option --lr" }), terminal, false);
    assert.deepEqual(notes, ["riffle: photos/a.jpg is cut short.", "riffle: --lr cannot be x."]);
  });

  for (const [what, error] of [
    ["no home", Object.assign(new Error("uv_os_homedir returned ENOENT"), { code: "ERR_SYSTEM_ERROR" })],
    ["no thread", Object.assign(new Error("EAGAIN"), { code: "ERR_WORKER_INIT_FAILED" })],
    ["no memory", new RangeError("Array buffer allocation failed")],
  ] as const) {
    test(`H1: an error of the system that nobody translated (${what}) ends with 6, not as a bug`, () => {
      const { terminal, notes, emitted } = recorder();
      assert.equal(reportError(error, terminal, false), 6);
      assert.match(
        notes[0] ?? "",
        new RegExp(`^riffle: (the system refused|there is not enough memory): ${error.message}\\.$`),
      );
      assert.equal((emitted[0] as { code: number }).code, 6);
    });
  }

  test("a failure nobody foresaw is code 1, asks for a report, and shows its stack only when asked", () => {
    const quiet = recorder();
    assert.equal(reportError(new TypeError("x is undefined"), quiet.terminal, false), 1);
    assert.match(
      quiet.notes.join("\n"),
      /should not be able to: TypeError: x is undefined[^]*report it[^]*--debug/,
    );
    assert.doesNotMatch(quiet.notes.join("\n"), /^\s+at /m);
    const loud = recorder();
    reportError(new TypeError("x is undefined"), loud.terminal, true);
    assert.match(loud.notes.join("\n"), /^\s+at /m);
  });

  test("H1: an error of the system that nobody put into words ends with 6, not as a bug", () => {
    for (const code of ["EROFS", "EACCES", "EMFILE", "EIO", "ESTALE"]) {
      const { terminal, notes } = recorder();
      const error = Object.assign(new Error(`${code}: refused, unlink 'runs/a/.lock'`), { code });
      assert.equal(reportError(error, terminal, false), 6);
      assert.match(notes.join("\n"), new RegExp(`the system refused: ${code}.*runs/a/.lock`));
    }
    const { terminal } = recorder();
    const misuse = Object.assign(new TypeError("not a string"), { code: "ERR_INVALID_ARG_TYPE" });
    assert.equal(reportError(misuse, terminal, false), 1);
  });
});
