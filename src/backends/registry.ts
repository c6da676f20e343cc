/**
 * Which engine runs: the one that is asked for, else the one that RIFFLE_BACKEND names, else the native one where it is built
 * and WebAssembly where it is not.
 *
 * "reference" is the plain one in TypeScript, hundreds of times slower: for tests, and to tell a wrong result of an engine from a
 * wrong model.
 */

import type { Backend } from "./backend.js";
import { isBuilt } from "../core/addon.js";
import { environment } from "../core/environment.js";
import { UsageError } from "../core/error.js";
import { type BackendName, backendNames } from "./names.js";

/** Whether the usual engine is the slower one, which nobody asked for, because the native one is not built. */
export function isSlow(asked?: BackendName): boolean {
  return asked === undefined && environment("RIFFLE_BACKEND") === undefined && !isBuilt();
}

/** By name; only the one that runs is loaded. */
const backends: Readonly<Record<BackendName, () => Promise<Backend>>> = {
  native: async () => (await import("./native/index.js")).nativeBackend,
  wasm: async () => (await import("./wasm/node.js")).nodeWasmBackend(),
  reference: async () => (await import("./reference/reference.js")).referenceBackend,
};

/** @throws UsageError for a name in RIFFLE_BACKEND that there is not; ResourceError for an engine that does not load. */
export async function chooseBackend(asked?: BackendName): Promise<Backend> {
  const wanted = asked ?? environment("RIFFLE_BACKEND") ?? (isSlow() ? "wasm" : "native");
  const name = backendNames.find((each) => each === wanted);
  if (name !== undefined) return backends[name]();
  throw new UsageError({
    what: "there is no such engine",
    where: "environment variable RIFFLE_BACKEND",
    expected: backendNames.join(", "),
    found: wanted,
  });
}
