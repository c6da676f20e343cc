/** Whether a run scales its loss, and how. */

import type { LossScaling } from "../backends/loss-scale.js";
import type { GivenSettings } from "./settings.js";

/** Of the original. */
const USUAL = 2 ** 32;

/** The modes in which the engine computes in mixed precision; in the others, and today in all, it computes in f32. */
const MIXED: ReadonlySet<GivenSettings["precision_mode"]> = new Set();

/** `value`: what fixed keeps and dynamic begins with. */
export function lossScaling({
  precision_mode,
  loss_scale,
  loss_scale_value,
}: Pick<GivenSettings, "precision_mode" | "loss_scale" | "loss_scale_value">): {
  readonly kind: LossScaling;
  readonly value: number;
} {
  const kind = loss_scale ?? (MIXED.has(precision_mode) ? "dynamic" : "none");
  return { kind, value: kind === "none" ? 1 : (loss_scale_value ?? USUAL) };
}
