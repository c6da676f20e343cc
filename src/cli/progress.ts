/**
 * What passes while something long runs: a bar drawn over itself on a terminal, plain lines in a log.
 *
 * A log gets the first line at once, then one every ten seconds and one at the end of each part, so that a
 * file of a day's training can be read. Everything goes to stderr.
 */

import cliProgress from "cli-progress";

import { printable } from "../core/printable.js";
import { count } from "./format.js";
import type { Terminal } from "./terminal.js";

export interface Progress {
  /** A new `label` leaves the line before it standing and begins another. */
  show(state: ProgressState): void;
  /** A line of its own, above the bar where there is one. */
  note(line: string): void;
  /** The same for who pressed Ctrl-C: a terminal has written "^C" where the cursor stood. */
  interrupt(line: string): void;
  /** Leaves the last line standing. */
  end(): void;
}

export interface ProgressState {
  /** "epoch 3/12", "validation". */
  readonly label: string;
  /** Pictures so far, and in all. */
  readonly done: number;
  readonly total: number;
  /** "loss 0.512"; a rate, "4,310 img/s", is shown once a second has passed, for before that it says little. */
  readonly columns: readonly (string | { readonly rate: string })[];
}

/** A state whose columns are all to be shown. */
interface Shown extends ProgressState {
  readonly columns: readonly string[];
}

const LOG_SECONDS = 10;
const LABEL_WIDTH = 14;

export function startProgress(terminal: Terminal): Progress {
  if (!terminal.interactive) return log((line) => terminal.note(line));
  // What is drawn over itself is no log.
  const [drawn, recorded] = [bar(terminal), log((line) => terminal.record(line))];
  return {
    show: (state) => {
      drawn.show(state);
      recorded.show(state);
    },
    note: (line) => drawn.note(line),
    interrupt: (line) => drawn.interrupt(line),
    end: () => drawn.end(),
  };
}

function bar(terminal: Terminal): Progress {
  let current: cliProgress.SingleBar | undefined;
  let label: string | undefined;
  const settled = ratesThatSettled();
  const end = (): void => {
    current?.stop();
    current = undefined;
  };
  return {
    show(given) {
      const state = settled(given);
      if (state.label !== label) end();
      label = state.label;
      if (current === undefined) {
        current = new cliProgress.SingleBar({
          stream: terminal.drawing,
          format: (options, params, payload: Shown) => {
            const size = options.barsize ?? 20;
            const filled = Math.round(size * params.progress);
            return printable(lineOf(payload, "━".repeat(filled) + "─".repeat(size - filled))).slice(
              0,
              terminal.width - 1,
            );
          },
          // What follows a label is about 70 columns; the bar takes what is left.
          barsize: Math.max(5, Math.min(20, terminal.width - LABEL_WIDTH - 75)),
          fps: 10,
          // The terminal stays as it was, so that a kill leaves nothing to repair; lines are cut to fit above.
          hideCursor: false,
          linewrap: true,
          gracefulExit: false,
        });
        current.start(state.total, state.done, state);
      }
      current.setTotal(state.total);
      current.update(state.done, state);
      if (state.done >= state.total) end();
    },
    note(line) {
      end();
      label = undefined;
      terminal.note(line);
    },
    interrupt(line) {
      if (current === undefined) terminal.note();
      end();
      label = undefined;
      terminal.note(line);
    },
    end,
  };
}

function log(write: (line: string) => void): Progress {
  let last = -Infinity;
  const settled = ratesThatSettled();
  return {
    show(given) {
      const state = settled(given);
      if (state.done < state.total && performance.now() - last < 1000 * LOG_SECONDS) return;
      write(lineOf(state));
      last = performance.now();
    },
    note: write,
    interrupt: write,
    end: () => {},
  };
}

/** Milliseconds after which a rate is one. */
const SETTLED = 1000;

/** Leaves rates out in the first second of each kind of work; the epochs of a training are of one kind. */
function ratesThatSettled(): (state: ProgressState) => Shown {
  let kind: string | undefined;
  let began = 0;
  return (state) => {
    const now = performance.now();
    const own = state.label.replace(/[\d,/]+/g, "");
    if (own !== kind) [kind, began] = [own, now];
    const isSettled = now - began >= SETTLED;
    const columns = state.columns.flatMap((column) =>
      typeof column === "string" ? [column] : isSettled ? [column.rate] : [],
    );
    return { ...state, columns };
  };
}

function lineOf(state: Shown, drawn = ""): string {
  const place = `${count(state.done)}/${count(state.total)}`;
  return [state.label.padEnd(LABEL_WIDTH), drawn, place, ...state.columns].filter((s) => s !== "").join("  ");
}
