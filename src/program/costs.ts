/**
 * What each step of a program costs in either direction, for the whole batch: operations, and bytes moved to and from
 * memory, each plane and weight counted once per pass that reads or writes it.
 */

import { describe } from "./print.js";
import type { PlaneId, Program, Step } from "./program.js";

export interface Cost {
  /** Of floating point; a multiply-add is two. */
  readonly operations: number;
  readonly bytes: number;
}

export interface StepCosts {
  readonly forward: Cost;
  /** Zeros where nothing goes backward through a step. */
  readonly backward: Cost;
}

export function costsOf(program: Program): StepCosts[] {
  const { steps, batch } = program;
  // What a step moves forward is what it moves where it does not train.
  const forward = describe({ ...program, steps: steps.map((step) => ({ ...step, trains: false })) });
  const firstTrained = steps.find(({ trains }) => trains)?.first ?? Infinity;
  return describe(program).map(({ multiplyAdds, bytes }, i) => {
    const operations = 2 * multiplyAdds * batch;
    const forwardBytes = forward[i]?.bytes ?? bytes;
    return {
      forward: { operations, bytes: forwardBytes },
      backward: {
        operations: operations * backwardProducts(steps[i] as Step, firstTrained),
        bytes: bytes - forwardBytes,
      },
    };
  });
}

/** Each product is computed again for the weights' gradient and for the input's, where that has one: a picture has none. */
function backwardProducts({ trains, inputs }: Step, firstTrained: PlaneId): number {
  if (!trains) return 0;
  return inputs.some((plane) => plane >= firstTrained) ? 2 : 1;
}
