/** Starts this program's ranks with the MPI launchers that are installed, as a user's `mpirun` would. */

import { spawn } from "node:child_process";
import { join } from "node:path";

import { findMpi, type MpiFamily, type MpiLauncher } from "../../src/distributed/find-mpi.js";
import { needsNative } from "./native.js";
import { repository } from "./paths.js";

export const program = join(repository, "dist", "src", "cli", "main.js");

/** By family; a test that needs one that is missing is skipped, and says so. */
export const launchers = { openmpi: found("openmpi"), mpich: found("mpich") } as const;

export type Family = MpiFamily;
export const families: readonly Family[] = ["openmpi", "mpich"];

/** Options for node:test: several ranks need the native engine as well. */
export function needsMpi(...wanted: readonly Family[]): { skip: false | string } {
  const missing = wanted.filter((family) => launchers[family] === undefined);
  return needsNative(missing.length === 0 || `no ${missing.join(", no ")} is installed`);
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
}

export interface StartedRanks {
  readonly pid: number;
  readonly ended: Promise<Ended>;
  /** What has been printed so far, on both. */
  readonly said: () => string;
}

/** `node program ...argv` on so many ranks, on as many cores as there are. */
export function startRanks(
  family: Family,
  ranks: number,
  argv: readonly string[],
  { env = {}, script = program }: { readonly env?: Record<string, string>; readonly script?: string } = {},
): StartedRanks {
  const { path } = launchers[family] as MpiLauncher;
  const root = process.getuid?.() === 0 ? ["--allow-run-as-root"] : [];
  const own = family === "openmpi" ? [...root, "--oversubscribe", "--bind-to", "none"] : [];
  const started = performance.now();
  const child = spawn(path, [...own, "-n", String(ranks), process.execPath, script, ...argv], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) =>
      resolve({ code, stdout, stderr, seconds: (performance.now() - started) / 1000 }),
    );
  });
  return { pid: child.pid as number, ended, said: () => stdout + stderr };
}

function found(family: Family): MpiLauncher | undefined {
  try {
    return findMpi(family);
  } catch {
    return undefined;
  }
}
