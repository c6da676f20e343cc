/**
 * A set of pictures as a network was seen to take it: what the report says of scores, gathered while they are computed, in
 * memory that grows with the set by a number for each mistake.
 */

import { softmax } from "../inference/metrics.js";
import { Calibration } from "./calibration.js";
import { Confusion } from "./confusion.js";
import { type Judged, Standouts } from "./standouts.js";

/** Pictures shown of either kind. */
export const SHOWN = 24;

/** A network that is as sure as this contradicts a label, where it names another class. */
export const SURE = 0.9;

export class Examination {
  readonly confusion: Confusion;
  readonly calibration = new Calibration();
  /** Wrong, the surest first. */
  readonly mistakes = new Standouts<Judged>(SHOWN, ({ confidence }) => confidence);
  /** The two likeliest classes closest together first. */
  readonly unsure = new Standouts<Judged>(SHOWN, ({ confidence, runnerUp }) => runnerUp - confidence);
  pictures = 0;
  /** Samples that were named wrong. */
  readonly wrongSamples = new Set<number>();
  /** Pictures of whose class the network was {@link SURE}, and those of them that it named wrong. */
  sure = 0;
  sureWrong = 0;
  /** Pictures for which the network's output was not finite; they are wrong, and in nothing else of this. */
  notFinite = 0;

  constructor(readonly classes: number) {
    this.confusion = new Confusion(classes);
  }

  get wrong(): number {
    return this.wrongSamples.size;
  }

  /** `actual` is the output for the picture's class; `logits` are [classes]. */
  add(sample: number, actual: number, logits: Float32Array): void {
    this.pictures++;
    if (!logits.every(Number.isFinite)) {
      this.notFinite++;
      this.wrongSamples.add(sample);
      this.confusion.add(actual, -1);
      return;
    }
    const probabilities = softmax(logits);
    const at = (output: number): number => probabilities[output] as number;
    const named = largest(logits, -1);
    const second = largest(logits, named);
    const judged = {
      sample,
      actual,
      named,
      second,
      confidence: at(named),
      own: at(actual),
      runnerUp: at(second),
    };
    const isRight = named === actual;
    this.confusion.add(actual, named);
    this.calibration.add(judged.confidence, isRight);
    this.unsure.add(judged);
    const isSure = judged.confidence >= SURE;
    if (isSure) this.sure++;
    if (isRight) return;
    this.wrongSamples.add(sample);
    if (isSure) this.sureWrong++;
    this.mistakes.add(judged);
  }
}

/** The output with the largest logit, `but` one; of equal ones the first, as metrics.ts decides it. */
function largest(logits: Float32Array, but: number): number {
  let found = but === 0 ? 1 : 0;
  for (let i = 0; i < logits.length; i++) {
    if (i !== but && (logits[i] as number) > (logits[found] as number)) found = i;
  }
  return found;
}
