/**
 * What a test of learning rates says: losses of steps whose rate rises by the same factor from one to the next, and which
 * rate to train at.
 *
 * Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3; the two readings are fastai's
 * (`lr_find`, a tenth of the rate of the lowest loss) and Lightning's (`Tuner.lr_find`, where the loss falls fastest).
 */

/** A step that was tried. */
export interface TriedRate {
  readonly rate: number;
  /** Cross-entropy of the step's own pictures, before the rate is used. */
  readonly loss: number;
}

export interface RateReading {
  /** Losses without the noise of steps, one for each that was tried. */
  readonly smooth: readonly number[];
  /** Where the smooth loss is lowest, and where it falls fastest on its way there; null where it never falls clearly. */
  readonly lowest: number | null;
  readonly steepest: number | null;
  /** Where it falls nowhere: from where on it rises; null where it does not. */
  readonly rises: number | null;
  /**
   * The peak rate to train at: the steepest's, and at least a tenth of the lowest's; of weights that know their pictures a
   * tenth of where the loss rises; null where neither is. A network that knows nothing may take more steps to learn anything than a test has, and bears higher
   * rates after a warm-up: where its loss only rises, nothing is told.
   */
  readonly suggested: number | null;
}

/** Neighbours on either side that a smooth loss is made of, the nearer the heavier. */
const NEIGHBOURS = 6;

/** What counts as falling and as rising: a share of the loss at the beginning. */
const CLEARLY = 0.1;

/** Below the rate of the lowest loss, where steps are still safe. */
const DECADE = 10;

/** @param isTrained whether the weights are of elsewhere, or drawn */
export function readRates(tried: readonly TriedRate[], isTrained: boolean): RateReading {
  const smooth = smoothed(tried.map(({ loss }) => loss));
  const rateAt = (i: number): number => (tried[i] as TriedRate).rate;
  const tenthOf = (rate: number): number => Number((rate / DECADE).toPrecision(2));
  const first = smooth[0] ?? NaN;
  const lowest = smooth.reduce((best, loss, i) => (loss < (smooth[best] as number) ? i : best), 0);
  if (!(first - (smooth[lowest] as number) > CLEARLY * first)) {
    const at = smooth.findIndex((loss) => loss - first > CLEARLY * first);
    const rises = at < 0 ? null : rateAt(at);
    const suggested = rises === null || !isTrained ? null : tenthOf(rises);
    return { smooth, lowest: null, steepest: null, rises, suggested };
  }
  let steepest = 0;
  const fall = (i: number): number => (smooth[i] as number) - (smooth[i + 1] as number);
  for (let i = 1; i < lowest; i++) if (fall(i) > fall(steepest)) steepest = i;
  const suggested = Math.max(tenthOf(rateAt(lowest)), Number(rateAt(steepest).toPrecision(2)));
  return { smooth, lowest: rateAt(lowest), steepest: rateAt(steepest), rises: null, suggested };
}

/** Means with weights that fall with the distance. */
function smoothed(losses: readonly number[]): number[] {
  return losses.map((_, at) => {
    let [sum, weights] = [0, 0];
    for (let i = Math.max(0, at - NEIGHBOURS); i <= Math.min(losses.length - 1, at + NEIGHBOURS); i++) {
      const weight = NEIGHBOURS + 1 - Math.abs(i - at);
      sum += weight * (losses[i] as number);
      weights += weight;
    }
    return sum / weights;
  });
}

/** Whether a loss has run away from the lowest so far, which ends a test. */
export class RunningAway {
  #mean = 0;
  #count = 0;
  #lowest = Infinity;

  hears(loss: number): boolean {
    if (!Number.isFinite(loss)) return true;
    this.#count++;
    this.#mean = MEMORY * this.#mean + (1 - MEMORY) * loss;
    const mean = this.#mean / (1 - MEMORY ** this.#count);
    this.#lowest = Math.min(this.#lowest, mean);
    return this.#count > FEWEST && mean > RUN_AWAY * this.#lowest;
  }
}

const MEMORY = 0.8;
const FEWEST = 10;

/** fastai's and Lightning's. */
const RUN_AWAY = 4;
