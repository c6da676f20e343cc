/** Tables on a terminal: a cell is made printable before it is measured. */

import Table from "cli-table3";

import { printable } from "../core/printable.js";

export interface TableText {
  readonly head?: readonly string[];
  readonly align?: readonly ("left" | "right")[];
  readonly rows: readonly (readonly string[])[];
  /** A rule between all rows, not only under the head. */
  readonly ruled?: boolean;
}

/** The lines of a table. */
export function tableLines({ head = [], align = [], rows, ruled = false }: TableText): string[] {
  const table = new Table({
    head: [...head],
    colAligns: [...align],
    style: { head: [], border: [], compact: !ruled },
  });
  table.push(...rows.map((row) => row.map(printable)));
  return table.toString().split("\n");
}
