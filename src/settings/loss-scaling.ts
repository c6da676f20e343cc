/** Whether a run scales its loss, and how. */

import type { LossScaling } from "../backends/loss-scale.js";
import { storageOf } from "./precision.js";
import type { GivenSettings } from "./settings.js";

/** Of the original. */
const USUAL = 2 ** 32;

/** `value`: what fixed keeps and dynamic begins with. */
export function lossScaling({
  precision_mode,
  loss_scale,
  loss_scale_value,
}: Pick<GivenSettings, "precision_mode" | "loss_scale" | "loss_scale_value">): {
  readonly kind: LossScaling;
  readonly value: number;
} {
  const kind = loss_scale ?? (storageOf(precision_mode) === "bf16" ? "dynamic" : "none");
  return { kind, value: kind === "none" ? 1 : (loss_scale_value ?? USUAL) };
}
