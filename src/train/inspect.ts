/** What a network consists of and costs, without weights or pictures. */

import type { Width, VariantName } from "../models/variants.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "../program/compile.js";
import { describe, type StepRow, totals } from "../program/print.js";

export interface InspectOptions {
  readonly variant?: VariantName;
  readonly width?: Width;
  readonly classes?: number;
  /** Pixels. */
  readonly image_size?: number;
}

export interface NetworkReport {
  /** For people, e.g. "shufflenet-v2 1.0x (tensorflow)". */
  readonly name: string;
  /** Trained numbers. */
  readonly parameters: number;
  /** Of one image, forward. */
  readonly multiply_adds: number;
  readonly layers: readonly StepRow[];
}

/** Describes the paper's 1.0x network at 224 px with 1000 classes, unless told otherwise. */
export function inspect(options: InspectOptions = {}): NetworkReport {
  const { variant = "tensorflow", width = 1, classes = 1000, image_size = 224 } = options;
  const network = shuffleNetV2({ variant, width, classes });
  const program = compile(network, { batch: 1, imageSize: image_size, mode: "infer" });
  const { parameters, multiplyAdds } = totals(program);
  return { name: network.name, parameters, multiply_adds: multiplyAdds, layers: describe(program) };
}
