/**
 * Where what can be made again is kept when it cannot lie beside the data.
 */

import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

import { environment } from "./environment.js";
import { atHome } from "./home.js";

/** Riffle's folder among the user's caches; undefined for a user without a home, as in many containers. */
export function userCache(): string | undefined {
  const given = atHome(environment("XDG_CACHE_HOME") ?? "");
  if (isAbsolute(given)) return join(given, "riffle");
  try {
    return join(homedir(), ".cache", "riffle");
  } catch {
    return undefined;
  }
}
