/**
 * One row per kind of step: all that compiling, printing, checking and encoding know of it.
 *
 * A new kind is a file beside these and a row here, which the compiler asks for once the kind is in program.ts.
 */

import type { Step } from "../program.js";
import { depthwise } from "./depthwise.js";
import { head } from "./head.js";
import type { Kind, StepOf } from "./kind.js";
import { pointwise } from "./pointwise.js";
import { stem } from "./stem.js";

export const kinds: { readonly [K in Step["kind"]]: Kind<StepOf<K>> } = { stem, pointwise, depthwise, head };

export function kindOf(step: Step): Kind<Step> {
  return kinds[step.kind];
}

/** Elements of a step's weights, without gamma, beta and bias. */
export function weightCount(step: Step): number {
  const [weight] = kindOf(step).tensors(step);
  return weight === undefined ? 0 : product(weight.shape);
}

export function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}
