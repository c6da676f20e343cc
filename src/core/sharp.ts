/**
 * sharp, which decodes, draws and encodes what libjpeg-turbo does not; loaded when a picture first needs it.
 *
 * With libvips it takes 18 MB and 45 ms (measured on Node 20), which training on JPEGs never uses.
 */

import { createRequire } from "node:module";

import type sharp from "sharp";

const require = createRequire(import.meta.url);

/** Loaded once: `require` keeps it. */
export function loadSharp(): typeof sharp {
  return require("sharp") as typeof sharp;
}
