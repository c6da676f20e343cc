/**
 * What a rank of `riffle launch` leaves in the folder of its launch:
 *
 *     rank-3.log      all that it printed; further attempts and launches are appended
 *     rank-3.place    where it is now, or how it ended, in a few words: what is said of a rank that ended without a word
 *     launcher.log    the launcher's: what was started, and what mpirun and the MPI library printed
 */

import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";

import { environment } from "../core/environment.js";
import { printable } from "../core/printable.js";
import { rankOfEnvironment } from "./rank-environment.js";

export function rankLogFile(folder: string, rank: number): string {
  return join(folder, `rank-${rank}.log`);
}

export function launcherLogFile(folder: string): string {
  return join(folder, "launcher.log");
}

/** Appends a line, made printable. */
export type AddLine = (line: string) => void;

/**
 * Begins a rank's part of its log.
 *
 * @param lost is told once when a line cannot be written; the run goes on without the log
 */
export function openRankLog(
  folder: string,
  { rank, size }: { readonly rank: number; readonly size: number },
  lost: (reason: string) => void,
): AddLine {
  const add = openLog(rankLogFile(folder, rank), lost);
  // Where an earlier attempt was says nothing of this one.
  rmSync(placeFile(folder, rank), { force: true });
  add(`rank ${rank} of ${size}, pid ${process.pid}, host ${hostname()}, ${new Date().toISOString()}`);
  return add;
}

/** Opens a log of lines, and its folder where that is missing. A log that cannot be written is no reason to stop. */
export function openLog(path: string, lost: (reason: string) => void): AddLine {
  let isLost = false;
  const attempt = (work: () => void): void => {
    try {
      if (!isLost) work();
    } catch (error) {
      isLost = true;
      lost(`${path} is not written from here on: ${String(error)}`);
    }
  };
  attempt(() => void mkdirSync(join(path, ".."), { recursive: true }));
  return (line) => attempt(() => appendFileSync(path, `${printable(line)}\n`));
}

/** Bytes of a place: written over in one call, so that a reader finds either the one or the other. */
const PLACE_BYTES = 256;

/** Keeps where this rank is, for its launcher to tell: each time costs a call of the system. Nothing without a launcher. */
export function placeKeeper(): (text: string) => void {
  const folder = environment("RIFFLE_LAUNCH");
  const rank = folder === undefined ? undefined : rankOfEnvironment()?.rank;
  return folder === undefined || rank === undefined ? () => undefined : keepPlace(folder, rank);
}

function keepPlace(folder: string, rank: number): (text: string) => void {
  let file: number | undefined;
  try {
    file = openSync(placeFile(folder, rank), "w");
    process.on("exit", () => closeSync(file as number));
  } catch {
    // Nobody will know where it was; that is no reason to stop.
  }
  return (text) => {
    try {
      if (file !== undefined) writeSync(file, Buffer.from(text.padEnd(PLACE_BYTES)), 0, PLACE_BYTES, 0);
    } catch {
      // As above.
    }
  };
}

/** Where ranks were in an earlier attempt says nothing of the next. */
export function forgetPlaces(folder: string, ranks: number): void {
  for (let rank = 0; rank < ranks; rank++) rmSync(placeFile(folder, rank), { force: true });
}

/** Keeps that this rank has ended by itself, and with which exit code. */
export function keepEnd(folder: string, rank: number, code: number): void {
  try {
    writeFileSync(placeFile(folder, rank), `ended with exit code ${code}\n`);
  } catch {
    // As above.
  }
}

/** The exit code that a rank kept, for an `mpirun` that was deaf to it. */
export function endKept(folder: string, rank: number): number | undefined {
  const [, code] = /^ended with exit code (\d+)$/.exec(lastPlace(folder, rank) ?? "") ?? [];
  return code === undefined ? undefined : Number(code);
}

/** Where a rank was last: "step 1,204, saving"; undefined where nobody knows, as of a rank on another machine. */
export function lastPlace(folder: string, rank: number): string | undefined {
  try {
    return printable(readFileSync(placeFile(folder, rank), "utf8").trim()) || undefined;
  } catch {
    return undefined;
  }
}

function placeFile(folder: string, rank: number): string {
  return join(folder, `rank-${rank}.place`);
}
