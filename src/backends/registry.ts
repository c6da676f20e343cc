/**
 * Which engine runs: the native one, unless RIFFLE_BACKEND=reference asks for the plain TypeScript one
 * (hundreds of times slower; for tests, and to tell a wrong result of the one from a wrong model).
 */

import type { Backend } from "./backend.js";
import { environment } from "../core/environment.js";
import { UsageError } from "../core/error.js";

/** By name; only the one that runs is loaded. */
const backends = {
  native: async () => (await import("./native/index.js")).nativeBackend,
  reference: async () => (await import("./reference/reference.js")).referenceBackend,
} satisfies Record<string, () => Promise<Backend>>;

export async function chooseBackend(): Promise<Backend> {
  const wanted = environment("RIFFLE_BACKEND") ?? "native";
  const load = new Map(Object.entries(backends)).get(wanted);
  if (load !== undefined) return load();
  throw new UsageError({
    what: "there is no such engine",
    where: "environment variable RIFFLE_BACKEND",
    expected: Object.keys(backends).join(" or "),
    found: wanted,
  });
}
