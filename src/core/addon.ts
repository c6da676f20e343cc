/**
 * The native addon, build/riffle.node, loaded once.
 *
 * Callers give it a type of their own: this file knows no more than that it is an object.
 */

import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { ResourceError } from "./error.js";

/** From dist/src/core to the package's root. */
const ADDON = join(fileURLToPath(new URL("../../../", import.meta.url)), "build", "riffle.node");

let loaded: object | undefined;

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
        hint: "Build it again: npm run build:native (needs a C++20 compiler)",
      },
      error,
    );
  }
  return loaded;
}
