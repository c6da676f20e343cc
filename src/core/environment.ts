/**
 * The variables of the environment that Riffle reads; nothing else in src looks at the environment, so this is all that
 * can change a command from outside its command line.
 */

/** Each with what it says. */
export type EnvironmentVariable =
  /** "reference" for the engine in plain TypeScript. */
  | "RIFFLE_BACKEND"
  /** The engine's instruction set. */
  | "RIFFLE_ISA"
  /** Threads that read and decode, which libuv starts. */
  | "UV_THREADPOOL_SIZE"
  /** The folder of the user's caches. */
  | "XDG_CACHE_HOME"
  /** "dumb" for a terminal without cursor or colour. */
  | "TERM"
  /** Anything for no colour. */
  | "NO_COLOR"
  /** The program that started this one, as shells leave it. */
  | "_"
  /** The launch scripts', as a cluster sets them. */
  | "RANK_SIZE"
  | "RANK_ID"
  | "RANK_TABLE_FILE"
  | "ASCEND_DEVICE_ID"
  | "JOB_ID";

export function environment(name: EnvironmentVariable): string | undefined {
  return process.env[name];
}
