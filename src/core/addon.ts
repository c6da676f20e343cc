/**
 * The native addon, build/riffle.node, loaded once; and what there is without it.
 *
 * Whether the addon is used is decided here. Without one (no compiler, Windows) all but training with several ranks works, by
 * WebAssembly and TypeScript that compute the same. One that is there and does not load (damaged, of another machine) is said once; whoever
 * asks by `addonOrUndefined` goes on without it, whoever asks by `loadAddon` cannot.
 *
 * Callers give it a type of their own: this file knows no more than that it is an object.
 */

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { DistributedError, type Problem, ResourceError } from "./error.js";

/** The package's root, from dist/src/core. */
const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const ADDON = join(ROOT, "build", "riffle.node");

/** What builds the engine here: in a clone its script, in a project the package's own installation. */
export const rebuild = /[\\/]node_modules[\\/]/.test(ROOT)
  ? "npm rebuild riffle-vision"
  : "npm run build:native";

/** How a C++20 compiler is installed. */
const compilers: Readonly<Partial<Record<NodeJS.Platform, string>>> = {
  darwin: "xcode-select --install",
  linux:
    "sudo apt-get install g++ on Debian and Ubuntu, sudo dnf install gcc-c++ on Fedora, apk add g++ on Alpine",
};

/** What to do for the native engine. */
export const howToBuild =
  process.platform === "win32"
    ? "There is no native engine for Windows yet"
    : `Build it: ${rebuild} (it needs a C++20 compiler: ${compilers[process.platform] ?? "GCC 12 or Clang 15"})`;

/** Errors of native/binding/door.cc that are the machine's or another process's, not ours. */
const MEMORY = "RIFFLE_MEMORY";
const THREADS = "RIFFLE_THREADS";
const RANKS = "RIFFLE_RANKS";

/** Whether there is an addon, of use or not. */
export function isBuilt(): boolean {
  return existsSync(ADDON);
}

/**
 * The addon, for what cannot do without it.
 *
 * @param purpose what it is needed for, where that is not plain
 * @throws ResourceError when it has not been built or does not load.
 */
export function loadAddon(purpose = ""): object {
  answer ??= tryToLoad();
  if ("addon" in answer) return answer.addon;
  const { problem, error } = answer;
  // Whoever hears this error need not hear it again.
  isSaid = true;
  const what = purpose === "" ? problem.what : `${purpose} needs the native engine: ${problem.what}`;
  throw new ResourceError({ ...problem, what, hint: purpose === "" ? problem.hint : howToBuild }, error);
}

/** The addon, for what works without it too. One that does not load is said on stderr, once. */
export function addonOrUndefined(): object | undefined {
  answer ??= tryToLoad();
  if ("addon" in answer) return answer.addon;
  if (isBuilt() && !isSaid) {
    isSaid = true;
    const { what, found = "" } = answer.problem;
    process.stderr.write(`riffle: ${what} (${found}): slower parts take its place.\n  ${howToBuild}\n`);
  }
  return undefined;
}

/** Why the installation built none, if it has left word; one line. */
export function whyNotBuilt(): string | undefined {
  try {
    return readFileSync(join(ROOT, "build", "not-built.txt"), "utf8").split("\n")[0];
  } catch {
    return undefined;
  }
}

type Answer = { readonly addon: object } | { readonly problem: Problem; readonly error: unknown };

let answer: Answer | undefined;
let isSaid = false;

function tryToLoad(): Answer {
  const where = ADDON;
  const hint = howToBuild;
  try {
    return { addon: createRequire(import.meta.url)(ADDON) as object };
  } catch (error) {
    if (!isBuilt()) {
      const why = whyNotBuilt();
      const what = `the native engine is not built${why === undefined ? "" : `: ${why}`}`;
      return { problem: { what, where, hint }, error };
    }
    const found = error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
    const orElse = `${hint}, or do without it: --backend wasm`;
    return { problem: { what: "the native engine does not load", where, found, hint: orElse }, error };
  }
}

/** An error that the addon threw, in our words where the machine had too little for it; any other is returned as it is. */
export function addonError(error: unknown, memory: Pick<Problem, "expected" | "hint">): unknown {
  if (!(error instanceof Error)) return error;
  const { code } = error as { code?: unknown };
  if (code === MEMORY) return new ResourceError({ what: "there is not enough memory", ...memory }, error);
  if (code === RANKS) return ranksError(error);
  if (code !== THREADS) return error;
  const [, started = "1", wanted = "more"] = /only (\d+) of (\d+)/.exec(error.message) ?? [];
  return new ResourceError(
    {
      what: "the machine gives no more threads",
      expected: `${wanted} for the engine`,
      found: started,
      hint: `Use fewer: --threads ${Math.max(1, Math.floor(Number(started) / 2))}`,
    },
    error,
  );
}

/** What MPI refuses, or ranks that do not do the same; any other error is returned as it is. */
export function ranksError(error: unknown, more: Omit<Problem, "what"> = {}): unknown {
  if (!(error instanceof Error) || (error as { code?: unknown }).code !== RANKS) return error;
  const hint = "Check that all ranks run the same command on the same version, then go on with --resume";
  return new DistributedError({ what: error.message, hint, ...more }, error);
}
