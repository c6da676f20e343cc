/**
 * Where a command writes: results on stdout, everything that passes on stderr.
 *
 * With --json, stdout carries one object a line and nothing else. Whatever is printed is one line, its control characters
 * visible; colour is for terminals only, and never the only carrier of a meaning. On a terminal a line that is longer than it is
 * wide is broken between words, and a table is fitted; a file or a pipe gets both as they are.
 *
 * A reader that goes away (`| head`) ends the command quietly. Output that cannot be written (a full disk) is a failure
 * with exit code 6: at once for a command that only prints, at its end for one that has more to do.
 */

import { writeFileSync } from "node:fs";
import { Socket } from "node:net";

import pc from "picocolors";

import { environment } from "../core/environment.js";
import { ResourceError } from "../core/error.js";
import { printable } from "../core/printable.js";
import { wrapped } from "./wrap.js";
import { jsonLine } from "./format.js";
import { tableLines, type TableText } from "./table.js";

export interface Terminal {
  readonly json: boolean;
  /** Whether stderr is a terminal, so that a line can be drawn over. */
  readonly interactive: boolean;
  /** Whether what is printed is seen as it appears. */
  readonly printsToTerminal: boolean;
  /** Columns of stderr. */
  readonly width: number;
  /** Columns of stdout and of stderr, 0 where one is no terminal. */
  readonly columns: readonly [stdout: number, stderr: number];
  /** Where a line is drawn over itself. */
  readonly drawing: Stream;
  /** Colours for stdout; each does nothing where there is no colour. */
  readonly colour: Colours;
  /** Colours for stderr. */
  readonly noteColour: Colours;
  /** A line of results for a reader; nothing with --json. */
  print(...line: Text[]): void;
  /** A table of results for a reader; nothing with --json. */
  table(table: TableText): void;
  /** A result for a program; nothing without --json. */
  emit(object: object): void;
  /** A page of help: its lines, with --json too. */
  page(text: string): void;
  /** A line on stderr. */
  note(...line: Text[]): void;
  /** "warning: ..." on stderr. */
  warn(what: string): void;
  /** A line on stderr for who pressed Ctrl-C: a terminal has written "^C" where the cursor stood. */
  interrupt(line: string): void;
  /** A line that is drawn over itself is open from here on, or none is: what is printed next has it ended by `end` first. */
  opens(end: (() => void) | undefined): void;
  /** A line for a log alone, of what is drawn. */
  record(line: string): void;
  /** What another process of ours has made ready to be printed, as it stands. */
  relay(to: "stdout" | "stderr", text: string): void;
  /** Goes on where stdout does not; a command that only prints ends instead. */
  keepGoing(): void;
  /** Waits until what was printed has arrived. @throws ResourceError when it did not and nobody was told. */
  finish(): Promise<void>;
}

export type Text = string | Coloured;

/** Text in a colour; made printable as all text is, so the colour is not in it yet. */
interface Coloured {
  readonly text: string;
  readonly paint: (text: string) => string;
}

type Colours = { readonly [K in (typeof colourNames)[number]]: (text: string) => Coloured };

const colourNames = ["red", "green", "yellow", "bold"] as const;

/** What a terminal writes to; a stream of Node, or what stands for one. */
export type Stream = NodeJS.WritableStream & {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly fd?: number;
};

export interface Streams {
  readonly stdout: Stream;
  readonly stderr: Stream;
  /** stderr unless told. */
  readonly drawing?: Stream;
  /** Nowhere unless told. */
  readonly record?: (line: string) => void;
}

export function openTerminal(json: boolean, streams: Streams = process): Terminal {
  const { stdout, stderr, drawing = stderr, record = () => undefined } = streams;
  let readerGone = false;
  let goesOn = false;
  let lost: ResourceError | undefined;
  let told = false;

  // Progress that nobody reads is no reason to stop.
  const writeToStderr = writerOf(stderr, () => {});
  const lines = (line: readonly Text[], stream: Stream): string[] =>
    wrapped(shown(line), widthOf(stream) || Infinity);
  const noteColour = coloursOf(stderr);
  const interactive = drawing.isTTY === true && environment("TERM") !== "dumb";
  let endOpenLine: (() => void) | undefined;
  /** @returns whether one was open */
  const endLine = (): boolean => {
    const end = endOpenLine;
    endOpenLine = undefined;
    end?.();
    return end !== undefined;
  };
  const note = (...line: Text[]): void => {
    endLine();
    writeToStderr(`${lines(line, stderr).join("\n")}\n`);
  };
  const warn = (what: string): void => note(noteColour.yellow("warning:"), ` ${what}`);
  const writeToStdout = writerOf(stdout, (error) => {
    if (error.code === "EPIPE") {
      readerGone = true;
      if (!goesOn) process.exit(0);
      return;
    }
    if (lost !== undefined) return;
    lost = new ResourceError(
      {
        what: `what is printed cannot be written: ${error.message}`,
        where: "stdout",
        ...(goesOn ? { safe: "All else is done as if it could" } : {}),
        hint: "Make room where stdout goes, or send it elsewhere",
      },
      error,
    );
    if (goesOn) warn(`stdout: ${lost.problem.what}; going on without it`);
  });
  const failOnce = (): void => {
    if (lost === undefined || told) return;
    told = true;
    throw lost;
  };
  const writeText = (text: string): void => {
    if (readerGone) return;
    if (stdout.isTTY === true) endLine();
    if (lost === undefined) writeToStdout(text);
    if (!goesOn) failOnce();
  };
  const write = (line: string): void => writeText(`${line}\n`);
  return {
    json,
    interactive,
    printsToTerminal: !json && stdout.isTTY === true,
    get width() {
      return stderr.columns || 80;
    },
    get columns() {
      return [widthOf(stdout), widthOf(stderr)] as const;
    },
    drawing,
    colour: coloursOf(stdout),
    noteColour,
    print: (...line) => (json ? undefined : lines(line, stdout).forEach(write)),
    table: (table) => (json ? undefined : tableLines(table, widthOf(stdout) || Infinity).forEach(write)),
    emit: (object) => (json ? write(jsonLine(object)) : undefined),
    page: (text) =>
      text
        .trimEnd()
        .split("\n")
        .flatMap((line) => lines([line], stdout))
        .forEach(write),
    note,
    warn,
    interrupt: (line) => {
      if (!endLine() && interactive) note();
      note(line);
    },
    opens: (end) => {
      endLine();
      endOpenLine = end;
    },
    record,
    relay: (to, text) => (to === "stdout" ? writeText(text) : writeToStderr(text)),
    keepGoing: () => {
      goesOn = true;
    },
    finish: async () => {
      await new Promise<void>((written) => void stdout.write("", () => written()));
      failOnce();
    },
  };
}

/** Columns; 0 for what is no terminal. */
function widthOf(stream: Stream): number {
  return stream.isTTY === true ? stream.columns || 80 : 0;
}

/** For a test, or a program that shows what a command prints elsewhere. */
export function shown(line: readonly Text[]): string {
  return line
    .map((part) => (typeof part === "string" ? printable(part) : part.paint(printable(part.text))))
    .join("");
}

/** Writes a text whole or calls `failed`: at once for a file, of which Node's own stream may write half and say nothing. */
function writerOf(stream: Stream, failed: (error: NodeJS.ErrnoException) => void): (text: string) => void {
  stream.on("error", failed);
  const { fd } = stream;
  if (stream instanceof Socket || fd === undefined) return (text) => void stream.write(text);
  return (text) => {
    try {
      writeFileSync(fd, text);
    } catch (error) {
      failed(error as NodeJS.ErrnoException);
    }
  };
}

/**
 * A terminal, and the user has not said no (no-color.org). Node leaves isTTY undefined elsewhere, and picocolors takes
 * undefined for "find out", which is yes under CI.
 */
export function coloursOf(stream: { readonly isTTY?: boolean }): Colours {
  const wanted = stream.isTTY === true && !environment("NO_COLOR") && environment("TERM") !== "dumb";
  const colours = pc.createColors(wanted);
  return Object.fromEntries(
    colourNames.map((name) => [name, (text: string) => ({ text, paint: colours[name] })]),
  ) as Colours;
}
