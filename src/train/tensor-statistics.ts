/** What is said of a tensor that has numbers which are not finite, or may have. */

export interface TensorStatistics {
  /** Of the finite numbers; null where there are none, for JSON has no other word. */
  readonly min: number | null;
  readonly max: number | null;
  readonly mean: number | null;
  readonly nan: number;
  /** Of either sign. */
  readonly infinite: number;
}

export function statisticsOf(values: Float32Array): TensorStatistics {
  let [min, max, sum, nan, infinite] = [Infinity, -Infinity, 0, 0, 0];
  for (const value of values) {
    // Finite numbers alone give 0.
    if (value - value === 0) {
      sum += value;
      if (value < min) min = value;
      if (value > max) max = value;
    } else if (value !== value) nan++;
    else infinite++;
  }
  const finite = values.length - nan - infinite;
  return finite === 0
    ? { min: null, max: null, mean: null, nan, infinite }
    : { min, max, mean: sum / finite, nan, infinite };
}

export function isFinite({ nan, infinite }: TensorStatistics): boolean {
  return nan + infinite === 0;
}

/** "3 NaN and 1 Inf of 216" */
export function badWords({ nan, infinite }: TensorStatistics, count: number): string {
  const parts = [...(nan > 0 ? [`${nan} NaN`] : []), ...(infinite > 0 ? [`${infinite} Inf`] : [])];
  return `${parts.join(" and ")} of ${count}`;
}
