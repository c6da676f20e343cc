/**
 * What can go wrong, in the words a user needs: what failed, where, what was expected and what was
 * found, what is safe, what to do. The class decides the exit code (docs/exit-codes.md).
 *
 * A plain `Error` that reaches the command line is a bug of ours and exits with 1.
 */

export interface Problem {
  /** One sentence: what failed. */
  readonly what: string;
  /** File, record, tensor, option or step, with a byte offset where there is one. */
  readonly where?: string | undefined;
  readonly expected?: string | undefined;
  readonly found?: string | undefined;
  /** Every file that cannot be used, where the problem is of several. */
  readonly files?: readonly { readonly file: string; readonly reason: string }[] | undefined;
  /** What stands between the problem and what is safe, line by line: a table. */
  readonly table?: readonly string[] | undefined;
  /** What was left untouched, or which checkpoint is still good. */
  readonly safe?: string | undefined;
  /** What to do next, best as a command to paste. */
  readonly hint?: string | undefined;
}

export type ProblemDetails = Omit<Problem, "what" | "where">;

/** Base of every failure that is not a bug. */
export class RiffleError extends Error {
  readonly problem: Problem;
  /** The process's exit code. */
  readonly exitCode: number;

  constructor(exitCode: number, problem: Problem, cause?: unknown) {
    super(describe(problem), cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.exitCode = exitCode;
    this.problem = problem;
  }
}

/** A wrong option or an impossible combination of settings: exit code 2. */
export class UsageError extends RiffleError {
  constructor(problem: Problem) {
    super(2, problem);
  }
}

/** A picture, record, label or folder that cannot be used: exit code 3. */
export class DataError extends RiffleError {
  constructor(problem: Problem, cause?: unknown) {
    super(3, problem, cause);
  }

  /** Of a place and a sentence, as nearly all are. */
  static at(where: string, what: string, more: ProblemDetails = {}, cause?: unknown): DataError {
    return new DataError({ where, what, ...more }, cause);
  }
}

/** A checkpoint that cannot be read, or does not fit: exit code 4. */
export class CheckpointError extends RiffleError {
  constructor(problem: Problem, cause?: unknown) {
    super(4, problem, cause);
  }
}

/** A loss or gradient that is no longer finite: exit code 5. */
export class DivergedError extends RiffleError {
  constructor(problem: Problem) {
    super(5, problem);
  }
}

/** Too little disk or memory, a folder that cannot be written, no native engine: exit code 6. */
export class ResourceError extends RiffleError {
  constructor(problem: Problem, cause?: unknown) {
    super(6, problem, cause);
  }
}

/** Processes that do not train together as they should: exit code 7. */
export class DistributedError extends RiffleError {
  constructor(problem: Problem, cause?: unknown) {
    super(7, problem, cause);
  }
}

/** A file whose bytes are not what its format says; `offset` is in bytes from its start. Exit code 3. */
export class FormatError extends DataError {
  readonly offset: number;

  constructor(where: string, offset: number, what: string, more: ProblemDetails = {}) {
    super({ what, where: `${where}, byte ${offset}`, ...more });
    this.offset = offset;
  }
}

/** Shapes that do not fit together: a mistake of the caller, worded with both numbers. */
export class ShapeError extends UsageError {
  constructor(what: string) {
    super({ what });
  }
}

/** The `code` of an error, such as ENOSPC. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** Whether the system refused something: ENOSPC, EIO, EMFILE and their like. Node's own codes, ERR_..., tell of mistakes. */
export function isSystemError(error: unknown): error is Error {
  return /^(E[A-Z0-9]+|ERR_SYSTEM_ERROR|ERR_WORKER_INIT_FAILED)$/.test(errorCode(error) ?? "");
}

/** Whether the system refused this very path: not there, not allowed, no file. All else tells of the machine. */
export function isOfThePath(error: unknown): boolean {
  const codes = ["ENOENT", "ENOTDIR", "EISDIR", "ELOOP", "ENAMETOOLONG", "EACCES", "EPERM"];
  return codes.includes(errorCode(error) ?? "");
}

/** An error of the system that we noticed ourselves. */
export function systemError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

/**
 * A failure of the machine that nobody put into words, as code 6: whatever a call of the system refused, memory among
 * it, is no bug of ours. Anything else is handed back as it is.
 */
export function asRiffleError(error: unknown): unknown {
  if (error instanceof RiffleError || !(error instanceof Error)) return error;
  const code = errorCode(error) ?? "";
  const isMemory = outOfMemory.has(code) || /^Array buffer allocation failed/.test(error.message);
  if (!isMemory && !isSystemError(error)) return error;
  return new ResourceError(
    {
      what: isMemory
        ? `there is not enough memory: ${error.message}`
        : `the system refused: ${error.message}`,
      safe: "Checkpoints written before this are whole",
      hint:
        remedies[isMemory ? "ENOMEM" : code] ?? "Check the disk and the machine, then run the command again",
    },
    error,
  );
}

/** The addon's word, and Node's, besides the system's. */
const outOfMemory: ReadonlySet<string> = new Set(["ENOMEM", "RIFFLE_MEMORY", "ERR_WORKER_OUT_OF_MEMORY"]);

const access = "Check the permissions of the file and its folder, or name another";
const space = "Free space on the disk, or name a folder on another";
const files = "Allow more open files (ulimit -n), or close other programs";
const memory = "Free memory, or allow this process more of it";
const remedies: Readonly<Record<string, string>> = {
  EACCES: access,
  EPERM: access,
  EROFS: "Free the disk of what made it read-only, or name a folder on another",
  ENOSPC: space,
  EDQUOT: space,
  EMFILE: files,
  ENFILE: files,
  ENOMEM: memory,
  EAGAIN: memory,
};

/** `what (expected …, found …)` */
export function withNumbers({ what, expected, found }: Problem): string {
  const numbers = [expected && `expected ${expected}`, found && `found ${found}`].filter(Boolean);
  return what + (numbers.length > 0 ? ` (${numbers.join(", ")})` : "");
}

/** The problem as one line: `where: what (expected …, found …). safe hint`. */
export function describe(p: Problem): string {
  return (
    (p.where ? `${p.where}: ` : "") +
    withNumbers(p) +
    listed(p) +
    [p.safe, p.hint]
      .filter(Boolean)
      .map((s) => `. ${s}`)
      .join("")
  );
}

/** The first of the files, for a message of one line. */
function listed({ files = [] }: Problem): string {
  if (files.length === 0) return "";
  const more = files.length > 3 ? `; ${files.length - 3} more` : "";
  return `: ${files
    .slice(0, 3)
    .map(({ file, reason }) => `${file}: ${reason}`)
    .join("; ")}${more}`;
}
