/**
 * Whether probabilities mean what they say: of the pictures that a network is 80 % sure of, 80 % should be right.
 *
 * Its confidence is the probability of the class that it names. Confidences are put into bins of equal width, bin b of B
 * holding those in (b/B, (b+1)/B], the first 0 as well. The expected calibration error is the mean over pictures of the gap of their bin:
 *
 *   ECE = sum over bins of  n_b / n * | right_b / n_b - mean confidence_b |
 *
 * Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3, with its 15 bins.
 */

export const BINS = 15;

export interface CalibrationBin {
  /** Confidences above `from`, up to and with `to`. */
  readonly from: number;
  readonly to: number;
  readonly pictures: number;
  /** Mean; null in an empty bin, as is `accuracy`. */
  readonly confidence: number | null;
  readonly accuracy: number | null;
}

export class Calibration {
  readonly #pictures: number[];
  readonly #confidence: number[];
  readonly #right: number[];

  constructor(bins = BINS) {
    this.#pictures = new Array<number>(bins).fill(0);
    this.#confidence = new Array<number>(bins).fill(0);
    this.#right = new Array<number>(bins).fill(0);
  }

  /** @param confidence 0 to 1 */
  add(confidence: number, isRight: boolean): void {
    const bins = this.#pictures.length;
    const bin = Math.min(bins - 1, Math.max(0, Math.ceil(confidence * bins) - 1));
    this.#pictures[bin]! += 1;
    this.#confidence[bin]! += confidence;
    if (isRight) this.#right[bin]! += 1;
  }

  bins(): CalibrationBin[] {
    const bins = this.#pictures.length;
    return this.#pictures.map((pictures, bin) => ({
      from: bin / bins,
      to: (bin + 1) / bins,
      pictures,
      confidence: pictures === 0 ? null : this.#confidence[bin]! / pictures,
      accuracy: pictures === 0 ? null : this.#right[bin]! / pictures,
    }));
  }

  /** 0 to 1; null without pictures. */
  expectedError(): number | null {
    const bins = this.bins();
    const all = bins.reduce((sum, { pictures }) => sum + pictures, 0);
    if (all === 0) return null;
    return bins.reduce(
      (sum, { pictures, confidence, accuracy }) =>
        sum + (pictures / all) * Math.abs((accuracy ?? 0) - (confidence ?? 0)),
      0,
    );
  }
}
