/**
 * Tables: a cell is made printable before it is measured, and on a terminal the whole fits into its width.
 *
 * What does not fit gives way in this order: the columns that the table says can go; then long cells of text, shortened in the
 * middle. Numbers are never cut.
 */

import Table from "cli-table3";

import { columnsOf, shortened } from "../core/columns.js";
import { printable } from "../core/printable.js";
import { wrapped } from "./wrap.js";

export interface TableText {
  readonly head?: readonly string[];
  readonly align?: readonly ("left" | "right")[];
  readonly rows: readonly (readonly string[])[];
  /** A rule between all rows, not only under the head. */
  readonly ruled?: boolean;
  /** Columns, by number, that a narrow terminal can do without; the first of them goes first. */
  readonly spare?: readonly number[];
  /** All columns matter: on a narrow terminal it becomes several tables, the first column in each. */
  readonly splits?: boolean;
}

/** The lines of a table, each no wider than `width` columns where that can be had, and the names of columns that are left out. */
export function tableLines(table: TableText, width = Infinity): string[] {
  if (table.splits === true) {
    const [first, ...more] = splitToFit(table, width);
    if (first !== undefined && more.length > 0) {
      return [first, ...more].flatMap((part) => tableLines({ ...part, splits: false }, width));
    }
  }
  const { head, align, rows, ruled = false } = fitted(table, width);
  const out = (table.head ?? []).filter((name) => !head.includes(name));
  const note =
    out.length === 0 ? [] : wrapped(`left out, for the terminal is narrow: ${out.join(", ")}`, width);
  const drawn = new Table({
    head: [...head],
    colAligns: [...align],
    style: { head: [], border: [], compact: !ruled },
  });
  drawn.push(...rows.map((row) => [...row]));
  return [...drawn.toString().split("\n"), ...note];
}

/** As many columns in each as fit, at least two. */
function splitToFit({ head = [], align = [], rows, ruled }: TableText, width: number): TableText[] {
  const ofColumns = (columns: readonly number[]): Whole => ({
    head: columns.map((i) => head[i] ?? ""),
    align: columns.map((i) => align[i] ?? "left"),
    rows: rows.map((row) => columns.map((i) => row[i] ?? "")),
    ruled: ruled ?? false,
  });
  const parts: number[][] = [];
  for (let i = 1; i < Math.max(head.length, ...rows.map((row) => row.length)); i++) {
    const last = parts.at(-1);
    if (last !== undefined && widthOf(ofColumns([...last, i])) <= width) last.push(i);
    else parts.push([0, i]);
  }
  return parts.map(ofColumns);
}

type Whole = Required<Pick<TableText, "head" | "align" | "rows" | "ruled">>;

/** Two borders' worth of columns that stand round each cell, and the last border. */
const AROUND = 3;
const LAST = 1;

function fitted({ head = [], align = [], rows, ruled, spare = [] }: TableText, width: number): Whole {
  let whole: Whole = { head, align, rows: rows.map((row) => row.map(printable)), ruled: ruled ?? false };
  // The numbers of the columns that are still there.
  const left = [...(whole.rows[0] ?? head).keys()];
  for (const column of spare) {
    if (widthOf(whole) <= width) return whole;
    const at = left.indexOf(column);
    if (at < 0) continue;
    left.splice(at, 1);
    const without = <T>(cells: readonly T[]): T[] => cells.filter((_, i) => i !== at);
    whole = {
      ...whole,
      head: without(whole.head),
      align: without(whole.align),
      rows: whole.rows.map(without),
    };
  }
  return widthOf(whole) <= width ? whole : withShortCells(whole, width);
}

/** The widest columns of text are narrowed until all fits, none to less than {@link LEAST}. */
function withShortCells(whole: Whole, width: number): Whole {
  const widths = widthsOf(whole);
  const isText = widths.map((_, i) => whole.align[i] !== "right");
  let over = widthOf(whole) - width;
  while (over > 0) {
    const widest = Math.max(...widths.filter((_, i) => isText[i]));
    if (!(widest > LEAST)) break;
    const at = widths.findIndex((each, i) => isText[i] && each === widest);
    widths[at] = widest - 1;
    over--;
  }
  const short = (cells: readonly string[]): string[] =>
    cells.map((cell, i) => shortened(cell, widths[i] ?? 0));
  return { ...whole, head: short(whole.head), rows: whole.rows.map(short) };
}

const LEAST = 16;

function widthsOf({ head, rows }: Whole): number[] {
  const columns = Math.max(head.length, ...rows.map((row) => row.length));
  return Array.from({ length: columns }, (_, i) =>
    Math.max(...[head, ...rows].map((row) => columnsOf(row[i] ?? ""))),
  );
}

function widthOf(whole: Whole): number {
  return widthsOf(whole).reduce((sum, each) => sum + each + AROUND, LAST);
}
