/** sharp, loaded when a picture first needs it: it takes 18 MB and 45 ms (Node 20), which training on JPEGs never uses. */

import { createRequire } from "node:module";

import type sharp from "sharp";

const require = createRequire(import.meta.url);

/** Loaded once: `require` keeps it. */
export function loadSharp(): typeof sharp {
  return require("sharp") as typeof sharp;
}
