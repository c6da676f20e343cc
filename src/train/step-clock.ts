/**
 * How fast training goes: images per second and the share of time spent waiting for pictures.
 *
 * Only steps count; the time between `step` and `resume` (evaluation, saving) does not. Times in seconds.
 */

import { performance } from "node:perf_hooks";

interface Lap {
  readonly seconds: number;
  readonly waited: number;
}

/** Laps in the recent figures. */
const recentLaps = 20;

export class StepClock {
  readonly #recent: Lap[] = [];
  #begin = performance.now() / 1000;
  #waitedBefore = 0;
  #steps = 0;
  #seconds = 0;

  constructor(private readonly batch: number) {}

  /** A step has ended; `waited` is the time its source has waited for pictures since it was opened. */
  step(waited: number): void {
    const now = performance.now() / 1000;
    const lap = { seconds: now - this.#begin, waited: waited - this.#waitedBefore };
    this.#recent.push(lap);
    if (this.#recent.length > recentLaps) this.#recent.shift();
    this.#steps++;
    this.#seconds += lap.seconds;
    this.resume(waited);
  }

  /** The next step begins now. */
  resume(waited: number): void {
    this.#begin = performance.now() / 1000;
    this.#waitedBefore = waited;
  }

  /** Of the last steps, and how long `stepsLeft` more would take. */
  recent(stepsLeft: number): { images_per_second: number; waiting: number; seconds_left: number } {
    const seconds = this.#recent.reduce((sum, lap) => sum + lap.seconds, 0);
    const waited = this.#recent.reduce((sum, lap) => sum + lap.waited, 0);
    const perStep = seconds / Math.max(this.#recent.length, 1);
    return {
      images_per_second: perStep > 0 ? this.batch / perStep : 0,
      waiting: seconds > 0 ? Math.min(1, waited / seconds) : 0,
      seconds_left: perStep * stepsLeft,
    };
  }

  /** Images per second of all steps so far. */
  overall(): number {
    return this.#seconds > 0 ? (this.#steps * this.batch) / this.#seconds : 0;
  }
}
