/**
 * Which engine runs: the native one, unless RIFFLE_BACKEND=reference asks for the plain TypeScript one
 * (hundreds of times slower; for tests, and to tell a wrong result of the one from a wrong model).
 */

import type { Backend } from "./backend.js";
import { UsageError } from "../core/error.js";

export const backendNames = ["native", "reference"] as const;

export async function chooseBackend(): Promise<Backend> {
  const wanted = process.env["RIFFLE_BACKEND"] ?? "native";
  switch (wanted) {
    case "native":
      return (await import("./native/index.js")).nativeBackend;
    case "reference":
      return (await import("./reference/reference.js")).referenceBackend;
    default:
      throw new UsageError({
        what: "there is no such engine",
        where: "environment variable RIFFLE_BACKEND",
        expected: backendNames.join(" or "),
        found: wanted,
      });
  }
}
