/** What the original's precision modes are here. */

import type { Storage } from "../program/program.js";
import type { Settings } from "./settings.js";

export type PrecisionMode = Settings["precision_mode"];

/**
 * How planes are stored. What no mode changes: sums, statistics, weights, momentum, averages, the classifier and the loss
 * are f32 or f64.
 */
export function storageOf(mode: PrecisionMode | undefined): Storage {
  switch (mode) {
    case "allow_mix_precision":
    case "force_fp16":
      return "bf16";
    // Permits half precision where an operation has no other: here every one has f32.
    case "allow_fp32_to_fp16":
    case "must_keep_origin_dtype":
    case undefined:
      return "f32";
  }
}

/** For a header: the formats in use and, where the mode's name says another, why. */
export function precisionWords(mode: PrecisionMode | undefined): string {
  switch (mode) {
    case "allow_mix_precision":
      return "mixed (bf16 maps, f32 sums and weights)";
    case "force_fp16":
      return "mixed (force_fp16: this engine has no f16; bf16 maps, f32 sums and weights)";
    case "allow_fp32_to_fp16":
      return "f32 (allow_fp32_to_fp16: every operation here has f32)";
    case "must_keep_origin_dtype":
    case undefined:
      return "f32";
  }
}
