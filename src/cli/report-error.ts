/**
 * A failure as its user meets it: what and where, expected and found, what is safe, what to do; then
 * the exit code.
 *
 * Failures we foresaw are `RiffleError`s, and so is what the system refuses, whoever asked it. Anything else is a bug
 * of ours: it asks for a report, and shows its stack only under --debug.
 */

import { asRiffleError, type Problem, RiffleError } from "../core/error.js";
import { printable } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";
import { count } from "./format.js";
import type { Terminal } from "./terminal.js";

const ISSUES = "the project's issue tracker";

/** A failure as it is told: to programs by its parts, to people in lines. */
export interface Failure {
  readonly code: number;
  readonly problem: Problem;
  /** The first without "riffle:" before it. */
  readonly lines: readonly string[];
  /** Shown under --debug. */
  readonly stack: readonly string[];
}

/** Prints the failure and returns the exit code. */
export function reportError(thrown: unknown, terminal: Terminal, debug: boolean): number {
  const { code, problem, lines, stack } = failureOf(thrown);
  const {
    what,
    where = null,
    expected = null,
    found = null,
    safe = null,
    hint = null,
    files,
    table,
  } = problem;
  const all = { ...(files === undefined ? {} : { files }), ...(table === undefined ? {} : { table }) };
  terminal.emit({ event: "error", code, what, where, expected, found, ...all, hint, safe });
  const [headline = "", ...rest] = lines;
  terminal.note(terminal.noteColour.red("riffle:"), ` ${headline}`);
  for (const line of rest) terminal.note(`  ${line}`);
  if (debug) for (const line of stack) terminal.note(line);
  return code;
}

export function failureOf(thrown: unknown): Failure {
  const error = asRiffleError(thrown);
  const stack = error instanceof Error ? (error.stack ?? "").split("\n") : [];
  if (!(error instanceof RiffleError)) return { ...bug(error), stack };
  return { code: error.exitCode, problem: error.problem, lines: problemLines(error), stack };
}

/** The first line says what and where, the others what is safe and what to do. */
function problemLines(error: RiffleError): string[] {
  const { what, where, expected, found, safe, hint } = error.problem;
  const numbers = [expected && `expected ${expected}`, found && `found ${found}`].filter(Boolean).join(", ");
  const place = where && !where.startsWith("option ") && !what.includes(where) ? `${where}: ` : "";
  const headline = sentence(`${place}${what}${numbers && ` (${numbers})`}`);
  // No full stop behind the hint: it may end with a command to paste.
  const table = (error.problem.table ?? []).map((row) => `  ${row}`);
  return [
    headline,
    ...fileLines(error.problem),
    ...table,
    ...(safe ? [sentence(safe)] : []),
    ...(hint ? [hint] : []),
  ];
}

function bug(error: unknown): Omit<Failure, "stack"> {
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const what = `something went wrong that should not be able to: ${message}`;
  const hint = `Please report it to ${ISSUES}, with the command and what --debug adds`;
  const safe = "Checkpoints written before this are whole: each is renamed into place when complete.";
  return { code: 1, problem: { what, hint }, lines: [`${what}.`, safe, `${hint}.`] };
}

function sentence(text: string): string {
  return /[.?!]$/.test(text) ? text : `${text}.`;
}

/** Files that are named on the terminal; with --json all of them are. */
const NAMED = 20;

/** A line for each, the reasons below each other. */
function fileLines({ files = [] }: Problem): string[] {
  const named = files
    .slice(0, NAMED)
    .map(({ file, reason }) => [printable(shortPath(file)), reason] as const);
  const width = Math.min(48, Math.max(...named.map(([file]) => file.length)));
  const lines = named.map(([file, reason]) => `  ${file.padEnd(width)}   ${reason}`);
  const more = files.length - named.length;
  return more > 0 ? [...lines, `  and ${count(more)} more; --json names all of them`] : lines;
}
