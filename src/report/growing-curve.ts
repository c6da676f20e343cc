/**
 * The steps of a run that may go on for ever, in a bounded number of points: each the mean of a stretch of steps, stretches
 * twice as long whenever there are too many. All are equally long but the last.
 */

import type { StepKeeper, StepPoint } from "./history.js";

export class GrowingCurve implements StepKeeper {
  /** Steps in a point. */
  #stride = 1;
  #whole: StepPoint[] = [];
  /** The stretch in the making: the mean of so many. */
  #last: { readonly mean: StepPoint; readonly steps: number } | undefined;

  /** @param most points, an even number */
  constructor(private readonly most: number) {}

  /** In their order. */
  get points(): readonly StepPoint[] {
    return this.#last === undefined ? this.#whole : [...this.#whole, this.#last.mean];
  }

  add(point: StepPoint): void {
    const { mean, steps } = this.#last ?? { mean: point, steps: 0 };
    this.#last = { mean: merged(mean, steps, point, 1), steps: steps + 1 };
    if (steps + 1 < this.#stride) return;
    this.#whole.push(this.#last.mean);
    this.#last = undefined;
    if (this.#whole.length === this.most) this.#halve();
  }

  /** A stretch that goes beyond the step is forgotten whole. */
  rewind(step: number): void {
    this.#whole = this.#whole.filter((point) => point.step <= step);
    if ((this.#last?.mean.step ?? 0) > step) this.#last = undefined;
    if (this.points.length === 0) this.#stride = 1;
  }

  #halve(): void {
    this.#stride *= 2;
    this.#whole = Array.from({ length: this.most / 2 }, (_, i) =>
      merged(this.#whole[2 * i] as StepPoint, 1, this.#whole[2 * i + 1] as StepPoint, 1),
    );
  }
}

/** A stretch's mean. It lies where its last step does, whose rate it has. */
export function meanOf(stretch: readonly StepPoint[]): StepPoint {
  return stretch.reduce((mean, point, i) => merged(mean, i, point, 1));
}

/** The mean of two that follow each other, of `a` and `b` steps. A loss that is not finite makes none of all. */
function merged(first: StepPoint, a: number, second: StepPoint, b: number): StepPoint {
  const mean = (x: number, y: number): number => (a * x + b * y) / (a + b);
  const known = (x: number | null | undefined, y: number | null | undefined): number | null =>
    typeof x === "number" && typeof y === "number" ? mean(x, y) : null;
  return {
    step: second.step,
    epoch: second.epoch,
    rate: second.rate,
    loss: known(first.loss, second.loss),
    top1: mean(first.top1, second.top1),
    speed: known(first.speed, second.speed),
    waiting: known(first.waiting, second.waiting),
  };
}
