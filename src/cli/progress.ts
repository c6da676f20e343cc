/**
 * What passes while something long runs: a bar drawn over itself on a terminal, plain lines in a log.
 *
 * A line on a terminal is as wide as that: time left first, then what matters most, and what has no room is left out whole. A log
 * gets all of it: the first line at once, then one every ten seconds and one at the end of each part, so that a file of a day's
 * training can be read. Everything goes to stderr; whatever else is printed ends an open line first (`opens` of a terminal).
 */

import { Writable } from "node:stream";

import cliProgress from "cli-progress";

import { columnsOf, padded, shortened } from "../core/columns.js";
import { printable } from "../core/printable.js";
import { count, duration } from "./format.js";
import { shown, type Terminal, type Text } from "./terminal.js";

export interface Progress {
  /** A new `label` leaves the line before it standing and begins another. */
  show(state: ProgressState): void;
  /** A line of its own, above the bar where there is one. */
  note(...line: Text[]): void;
  /** The same for what the user should know of. */
  warn(what: string): void;
  /** Leaves the last line standing. */
  end(): void;
}

export interface ProgressState {
  /** "epoch 3/12", "validation". */
  readonly label: string;
  /** Pictures so far, and in all. */
  readonly done: number;
  readonly total: number;
  /** Seconds until all that was asked for is done; absent or 0 where nothing tells. */
  readonly secondsLeft?: number;
  /** What matters most first: the last are left out where a terminal has no room for them. */
  readonly columns: readonly Column[];
}

/** "loss 0.512"; a rate, "4,310 img/s", is shown once a second has passed, for before that it says little. So is the time left. */
type Column = Text | { readonly rate: string };

/** A state whose columns are all to be shown, as far as there is room. */
interface Shown extends Omit<ProgressState, "secondsLeft"> {
  readonly left: string | undefined;
  readonly columns: readonly Text[];
}

/** Columns behind a line in which a terminal writes "^C", and the last one, behind which it may go to the next line. */
const FREE = 3;
const LOG_SECONDS = 10;
const LABEL_WIDTH = 12;
const SHORTEST_BAR = 5;
const LONGEST_BAR = 20;
/** So many columns are worth more than a bar. */
const BEFORE_BAR = 3;
const GAP = "  ";

export function startProgress(terminal: Terminal): Progress {
  if (!terminal.interactive) return log(terminal);
  // What is drawn over itself is no log.
  const drawn = bar(terminal);
  const recorded = log({ note: (...line) => terminal.record(shown(line)), warn: () => undefined });
  return {
    ...drawn,
    show: (state) => {
      drawn.show(state);
      recorded.show(state);
    },
  };
}

function bar(terminal: Terminal): Progress {
  let current: cliProgress.SingleBar | undefined;
  let label: string | undefined;
  const settled = settling();
  const end = (): void => {
    if (current === undefined) return;
    const ended = current;
    current = undefined;
    terminal.opens(undefined);
    ended.stop();
  };
  return {
    show(given) {
      const state = settled(given);
      if (state.label !== label) end();
      label = state.label;
      if (current === undefined) {
        terminal.opens(end);
        current = new cliProgress.SingleBar({
          stream: new Canvas(terminal.drawing),
          format: (_options, _params, payload: Shown) => lineOf(payload, terminal.width - FREE),
          fps: 10,
          // The terminal stays as it was, so that a kill leaves nothing to repair; lines are fitted above.
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
    note: (...line) => terminal.note(...line),
    warn: (what) => terminal.warn(what),
    end,
  };
}

/**
 * What cli-progress takes for the terminal. It is of any width, for lines are fitted already, and cut there with their colours
 * taken for text; and the place of the cursor is not kept and gone back to: that is another line where "^C" has begun one.
 */
class Canvas extends Writable {
  readonly isTTY = true;
  readonly columns = Infinity;

  constructor(private readonly drawing: Terminal["drawing"]) {
    super({ decodeStrings: false });
  }

  override _write(text: string | Buffer, _encoding: string, done: () => void): void {
    if (text !== SAVE_CURSOR && text !== RESTORE_CURSOR) this.drawing.write(text);
    done();
  }
}

const SAVE_CURSOR = "\u001b7";
const RESTORE_CURSOR = "\u001b8";

function log({ note, warn }: Pick<Terminal, "note" | "warn">): Progress {
  let last = -Infinity;
  const settled = settling();
  return {
    show(given) {
      const state = settled(given);
      if (state.done < state.total && performance.now() - last < 1000 * LOG_SECONDS) return;
      note(lineOf(state));
      last = performance.now();
    },
    note,
    warn,
    end: () => {},
  };
}

/** Milliseconds after which a rate is one. */
const SETTLED = 1000;

/** Leaves rates out in the first second of each kind of work; the epochs of a training are of one kind. */
function settling(): (state: ProgressState) => Shown {
  let kind: string | undefined;
  let began = 0;
  return ({ secondsLeft = 0, ...state }) => {
    const now = performance.now();
    const own = state.label.replace(/[\d,/]+/g, "");
    if (own !== kind) [kind, began] = [own, now];
    const isSettled = now - began >= SETTLED;
    const columns = state.columns.flatMap((column) => {
      const isRate = typeof column !== "string" && "rate" in column;
      return isRate ? (isSettled ? [column.rate] : []) : [column];
    });
    const left = isSettled && secondsLeft > 0 ? `left ${timeLeft(secondsLeft)}` : undefined;
    return { ...state, left, columns };
  };
}

/** Nobody counts tenths of seconds to come. */
function timeLeft(seconds: number): string {
  return seconds < 59.5 ? `${Math.max(1, Math.round(seconds))} s` : duration(seconds);
}

/** A line for a log, or where it has a width one for a terminal, with a bar where there is room. */
function lineOf(state: Shown, width = Infinity): string {
  const { label, done, total, columns } = state;
  const isDrawn = width < Infinity;
  const place = `${isDrawn ? count(done).padStart(count(total).length) : count(done)}/${count(total)}`;
  // A line that stands on a terminal when its part has ended is no place for a time that goes on.
  const left = isDrawn && done >= total ? undefined : state.left;
  const heads = [[left, padded(label, LABEL_WIDTH)], [left, label], [label]].map((head) =>
    head.filter((text) => text !== undefined),
  );
  const widthOf = (texts: readonly string[]): number => columnsOf([...texts, place].join(GAP));
  const head = heads.find((texts) => widthOf(texts) <= width) ?? [shortened(label, width - widthOf([""]))];
  let used = widthOf(head);
  const kept: string[] = [];
  for (const [i, column] of columns.entries()) {
    const text = shown([column]);
    used += GAP.length + columnsOf(text);
    if (used + (i < BEFORE_BAR ? 0 : GAP.length + SHORTEST_BAR) > width) break;
    // A log is a file of text, with no colours.
    kept.push(isDrawn || typeof column === "string" ? text : printable(column.text));
  }
  const room = width - columnsOf([...head, place, ...kept].join(GAP)) - GAP.length;
  const drawn = isDrawn && room >= SHORTEST_BAR ? [barOf(done / total, Math.min(room, LONGEST_BAR))] : [];
  return [...head, ...drawn, place, ...kept].join(GAP);
}

function barOf(share: number, length: number): string {
  const filled = Math.round(length * Math.min(1, Math.max(0, share)));
  return "━".repeat(filled) + "─".repeat(length - filled);
}
