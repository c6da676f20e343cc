/**
 * What ranks tell the launcher of `riffle launch`, through the one way that every `mpirun` offers, from other machines
 * too: lines on stderr. A line of ours begins with the control character RS, then JSON (as RFC 7464 has it), so it cannot
 * be taken for what `mpirun`, the MPI library or the system print on the same way, nor they for it.
 *
 *     {"rank":3,"size":8,"pid":4711,"host":"node1"}     it has begun
 *     {"rank":0,"to":"stderr","text":"epoch 1/3 …"}     to be printed as it stands
 *     {"rank":3,"failure":{"code":3,"what":"…",…}}      why it ends; the launcher prints one such message of all
 *     {"rank":3,"ended":3}                              it ends by itself, with this exit code
 *     {"rank":3,"status":137}                           it has ended, says its shell; left out for 0
 */

import { StringDecoder } from "node:string_decoder";

import type { Problem } from "../core/error.js";

export type RankMessage =
  | { readonly rank: number; readonly size: number; readonly pid: number; readonly host: string }
  | { readonly rank: number; readonly to: "stdout" | "stderr"; readonly text: string }
  | { readonly rank: number; readonly failure: RankFailure }
  | { readonly rank: number; readonly ended: number }
  | { readonly rank: number; readonly status: number };

/** A problem with its exit code. */
export type RankFailure = Problem & { readonly code: number };

const MARK = "\u001e";

export function messageLine(message: RankMessage): string {
  return `${MARK}${JSON.stringify(message)}\n`;
}

/** The shell's word for its rank's end: a command of a POSIX shell, of two words of it. */
export function statusLine(rank: string, status: string): string {
  return `printf '\\036{"rank":%d,"status":%d}\\n' ${rank} ${status}`;
}

/** Takes the bytes that arrive apart into messages and lines of others. */
export class RankMessageReader {
  readonly #decoder = new StringDecoder("utf8");
  #rest = "";

  constructor(
    private readonly heard: (message: RankMessage) => void,
    private readonly said: (line: string) => void,
  ) {}

  read(bytes: Buffer): void {
    this.#take(this.#decoder.write(bytes));
  }

  /** Nothing more comes: what is left is a line. */
  end(): void {
    this.#take(`${this.#decoder.end()}\n`);
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#line(line);
  }

  /** A message may follow half a line of somebody else. */
  #line(line: string): void {
    const at = line.indexOf(MARK);
    const message = at < 0 ? undefined : readMessage(line.slice(at + MARK.length));
    const other = (message === undefined ? line : line.slice(0, at)).replace(/\r$/, "");
    if (other !== "") this.said(other);
    if (message !== undefined) this.heard(message);
  }
}

function readMessage(text: string): RankMessage | undefined {
  try {
    const value = JSON.parse(text) as Record<string, unknown> | null;
    const isOurs = kinds.some((fields) =>
      Object.entries({ rank: "number", ...fields }).every(([name, type]) => typeof value?.[name] === type),
    );
    return isOurs ? (value as RankMessage) : undefined;
  } catch {
    return undefined;
  }
}

const kinds: readonly Readonly<Record<string, string>>[] = [
  { size: "number", pid: "number", host: "string" },
  { to: "string", text: "string" },
  { failure: "object" },
  { ended: "number" },
  { status: "number" },
];
