/**
 * The native addon, build/riffle.node, loaded once.
 *
 * Callers give it a type of their own: this file knows no more than that it is an object.
 */

import { existsSync } from "node:fs";
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
const compiler =
  process.platform === "darwin"
    ? "xcode-select --install"
    : "sudo apt-get install g++ on Debian and Ubuntu, sudo dnf install gcc-c++ on Fedora";

/** Errors of native/binding/door.cc that are the machine's or another process's, not ours. */
const MEMORY = "RIFFLE_MEMORY";
const THREADS = "RIFFLE_THREADS";
const RANKS = "RIFFLE_RANKS";

let loaded: object | undefined;

/** Whether there is an addon, of use or not. */
export function isBuilt(): boolean {
  return existsSync(ADDON);
}

/** @throws ResourceError when the addon has not been built or does not load. */
export function loadAddon(): object {
  try {
    loaded ??= createRequire(import.meta.url)(ADDON) as object;
  } catch (error) {
    throw new ResourceError(
      {
        what: "the native engine does not load",
        where: ADDON,
        found: error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error),
        hint: `Build it: ${rebuild} (it needs a C++20 compiler: ${compiler})`,
      },
      error,
    );
  }
  return loaded;
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
