/**
 * How fast training goes: images per second, and the shares of time spent waiting for pictures and for other ranks.
 *
 * Only steps count; the time between `step` and `resume` (evaluation, saving) does not. Times in seconds.
 */

import { performance } from "node:perf_hooks";

import type { StepEvent } from "../run/events.js";

/** Of one call of the engine. */
interface Lap {
  readonly steps: number;
  readonly seconds: number;
  readonly waited: number;
  readonly exchanged: number;
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

  /**
   * Steps have ended; `waited` is the time their source has waited for pictures since it was opened, `exchanged` what they
   * spent on the exchange with other ranks.
   */
  step(waited: number, exchanged: number, steps = 1): void {
    const now = performance.now() / 1000;
    const lap = { steps, seconds: now - this.#begin, waited: waited - this.#waitedBefore, exchanged };
    this.#recent.push(lap);
    if (this.#recent.length > recentLaps) this.#recent.shift();
    this.#steps += steps;
    this.#seconds += lap.seconds;
    this.resume(waited);
  }

  /** The next step begins now. */
  resume(waited: number): void {
    this.#begin = performance.now() / 1000;
    this.#waitedBefore = waited;
  }

  /** Of the last steps, and how long `stepsLeft` more would take. */
  recent(
    stepsLeft: number,
  ): Pick<StepEvent, "images_per_second" | "waiting" | "exchanging" | "seconds_left"> {
    const seconds = this.#recent.reduce((sum, lap) => sum + lap.seconds, 0);
    const share = (part: "waited" | "exchanged"): number =>
      seconds > 0 ? Math.min(1, this.#recent.reduce((sum, lap) => sum + lap[part], 0) / seconds) : 0;
    const steps = this.#recent.reduce((sum, lap) => sum + lap.steps, 0);
    const perStep = seconds / Math.max(steps, 1);
    return {
      images_per_second: perStep > 0 ? this.batch / perStep : 0,
      waiting: share("waited"),
      exchanging: share("exchanged"),
      seconds_left: perStep * stepsLeft,
    };
  }

  /** Images per second of all steps so far. */
  overall(): number {
    return this.#seconds > 0 ? (this.#steps * this.batch) / this.#seconds : 0;
  }
}
