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
  /** Leaves the last line standing. */
  end(): void;
}

export interface ProgressState {
  /** "epoch 3/12", "validation". */
  readonly label: string;
  /** Pictures so far, and in all. */
  readonly done: number;
  readonly total: number;
  /** "loss 0.512", "4,310 img/s". */
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
    end: () => drawn.end(),
  };
}

function bar(terminal: Terminal): Progress {
  let current: cliProgress.SingleBar | undefined;
  let label: string | undefined;
  const end = (): void => {
    current?.stop();
    current = undefined;
  };
  return {
    show(state) {
      if (state.label !== label) end();
      label = state.label;
      if (current === undefined) {
        current = new cliProgress.SingleBar({
          stream: terminal.drawing,
          format: (options, params, payload: ProgressState) => {
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
    end,
  };
}

function log(write: (line: string) => void): Progress {
  let last = -Infinity;
  return {
    show(state) {
      if (state.done < state.total && performance.now() - last < 1000 * LOG_SECONDS) return;
      write(lineOf(state));
      last = performance.now();
    },
    note: write,
    end: () => {},
  };
}

function lineOf(state: ProgressState, drawn = ""): string {
  const place = `${count(state.done)}/${count(state.total)}`;
  return [state.label.padEnd(LABEL_WIDTH), drawn, place, ...state.columns].filter((s) => s !== "").join("  ");
}
