/**
 * Where a command writes: results on stdout, everything that passes on stderr.
 *
 * With --json, stdout carries one object a line and nothing else. Colour is for terminals only, and
 * never the only carrier of a meaning. A reader that goes away (`| head`) ends the command quietly.
 */

import pc from "picocolors";

import { jsonLine } from "./format.js";

export interface Terminal {
  readonly json: boolean;
  /** Whether stderr is a terminal, so that a line can be drawn over. */
  readonly interactive: boolean;
  /** Whether what is printed is seen as it appears. */
  readonly printsToTerminal: boolean;
  /** Columns of stderr. */
  readonly width: number;
  /** Colours for stdout; each the identity where there is no colour. */
  readonly colour: Colours;
  /** Colours for stderr. */
  readonly noteColour: Colours;
  /** A line of results for a reader; nothing with --json. */
  print(line?: string): void;
  /** A result for a program; nothing without --json. */
  emit(object: object): void;
  /** A line on stderr. */
  note(line?: string): void;
  /** Goes on without stdout when its reader has gone; a command that only prints ends instead. */
  keepGoing(): void;
}

type Colours = ReturnType<typeof pc.createColors>;

export function openTerminal(json: boolean): Terminal {
  const [stdout, stderr] = [process.stdout, process.stderr];
  let readerGone = false;
  let endWithReader = true;
  stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    readerGone = true;
    if (endWithReader) process.exit(0);
  });
  // Progress that nobody reads is no reason to stop.
  stderr.on("error", () => {});

  const write = (line: string): void => {
    if (!readerGone) stdout.write(`${line}\n`);
  };
  return {
    json,
    interactive: stderr.isTTY && process.env["TERM"] !== "dumb",
    printsToTerminal: !json && stdout.isTTY,
    get width() {
      return stderr.columns || 80;
    },
    colour: pc.createColors(coloured(stdout)),
    noteColour: pc.createColors(coloured(stderr)),
    print: (line = "") => (json ? undefined : write(line)),
    emit: (object) => (json ? write(jsonLine(object)) : undefined),
    note: (line = "") => void stderr.write(`${line}\n`),
    keepGoing: () => {
      endWithReader = false;
    },
  };
}

/**
 * A terminal, and the user has not said no (no-color.org). Node leaves isTTY undefined elsewhere, and picocolors takes
 * undefined for "find out", which is yes under CI.
 */
function coloured(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY === true && !process.env["NO_COLOR"] && process.env["TERM"] !== "dumb";
}
