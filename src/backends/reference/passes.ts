/**
 * How the reference backend runs each kind of step, forward and backward: the pair of program/kinds.
 *
 * A row that is forgotten does not compile.
 */

import type { LossSettings, Weights } from "../backend.js";
import type { StepOf } from "../../program/kinds/kind.js";
import { outputsOf, type Step } from "../../program/program.js";
import { convolutionGradient, normaliseByBatch } from "./batch-norm.js";
import { depthwiseBackward, depthwiseForward } from "./depthwise-passes.js";
import {
  headBackward,
  headForward,
  softmaxCrossEntropy,
  type HeadMemory,
  type LossAndGradient,
  type Targets,
} from "./head-passes.js";
import { type Machine, storeValues } from "./planes.js";
import { pointwiseBackward, pointwiseForward } from "./pointwise-passes.js";
import { stemBackward, stemForward, type StemMemory } from "./stem-passes.js";

/** What a run's steps read and hand to each other beside planes. */
export interface Passing {
  readonly machine: Machine;
  /** What steps read now. */
  readonly weights: () => Weights;
  /** Where they write dW, in training. */
  readonly gradients: Float32Array;
  images: Uint8Array;
  targets: Targets;
  loss: LossSettings;
  /** What dlogits are multiplied by. */
  lossScale: number;
  stem: StemMemory | undefined;
  head: HeadMemory | undefined;
  outcome: LossAndGradient | undefined;
}

interface Passes<S extends Step> {
  /** Writes the output planes and, by the batch, their statistics. */
  forward(run: Passing, step: S): void;
  /** Given the output planes' gradients, writes those of the weights and of the input planes. */
  backward(run: Passing, step: S): void;
}

const passes: { readonly [K in Step["kind"]]: Passes<StepOf<K>> } = {
  stem: {
    forward(run, step) {
      run.stem = stemForward(run.machine, step, run.images, run.weights());
    },
    backward(run, step) {
      stemBackward(run.machine, step, ran(run.stem, step), run.gradients);
    },
  },

  pointwise: {
    forward(run, step) {
      pointwiseForward(run.machine, step, run.weights().parameters);
      normaliseOutputs(run, step);
      for (const plane of outputsOf(step)) storeValues(run.machine, plane);
    },
    backward(run, step) {
      pointwiseBackward(
        run.machine,
        step,
        run.weights().parameters,
        outputGradients(run, step),
        run.gradients,
      );
    },
  },

  depthwise: {
    forward(run, step) {
      depthwiseForward(run.machine, step, run.weights().parameters);
      // The engine adds up what it has stored.
      for (const plane of outputsOf(step)) storeValues(run.machine, plane);
      normaliseOutputs(run, step);
    },
    backward(run, step) {
      depthwiseBackward(
        run.machine,
        step,
        run.weights().parameters,
        outputGradients(run, step),
        run.gradients,
      );
    },
  },

  head: {
    forward(run, step) {
      run.head = headForward(run.machine, step, run.weights().parameters, run.loss.dropoutMask);
      if (run.machine.program.mode === "train")
        run.outcome = softmaxCrossEntropy(run.head.logits, run.targets, run.loss, run.lossScale);
    },
    backward(run, step) {
      const [head, outcome] = [ran(run.head, step), ran(run.outcome, step)];
      const { parameters } = run.weights();
      headBackward(run.machine, step, parameters, head, outcome, run.loss.dropoutMask, run.gradients);
    },
  },
};

export function passesOf(step: Step): Passes<Step> {
  return passes[step.kind];
}

function normaliseOutputs({ machine, weights }: Passing, step: Step): void {
  if (step.statistics === "moving") return;
  for (const plane of outputsOf(step))
    normaliseByBatch(machine, plane, machine.values[plane] as Float64Array, weights());
}

/** dz of every plane that a step wrote. */
function outputGradients({ machine }: Passing, step: Step): Float64Array[] {
  const { values, gradients } = machine;
  return outputsOf(step).map((plane) =>
    convolutionGradient(machine, plane, values[plane] as Float64Array, gradients[plane] as Float64Array),
  );
}

/** What an earlier forward run of the same step left. */
function ran<T>(memory: T | undefined, step: Step): T {
  if (memory === undefined) throw new Error(`"${step.name}" has not run forward yet`);
  return memory;
}
