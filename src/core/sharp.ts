/** sharp, loaded when a picture first needs it: it takes 18 MB and 45 ms (Node 20), which training on JPEGs never uses. */

import { createRequire } from "node:module";

import type sharp from "sharp";

import { ResourceError } from "./error.js";

const require = createRequire(import.meta.url);

/**
 * Loaded once: `require` keeps it.
 *
 * @throws ResourceError where none of its builds runs: not installed, or made for a newer system.
 */
export function loadSharp(): typeof sharp {
  try {
    return require("sharp") as typeof sharp;
  } catch (error) {
    throw new ResourceError(
      {
        what: "sharp, which decodes and writes pictures, does not load",
        found: (error instanceof Error ? error.message : String(error)).trim().split("\n", 2).join(": "),
        hint: "Install the packages again: npm ci, or npm install in a project. On a system older than its builds, its WebAssembly runs: npm install --cpu=wasm32 @img/sharp-wasm32",
      },
      error,
    );
  }
}
