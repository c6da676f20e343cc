/**
 * Where an axis ends though a few values lie beyond: a single step of a loss of 10,000 would make a flat line of all others.
 */

/** A curve of fewer points is too short to tell what is usual of it. */
const FEWEST = 4;
/** Times the upper quartile of the curve: what rises higher is a spike. */
const RISE = 4;
/** As many where the curve has come down ever since: losses begin high. */
const FALL = 20;
/** An axis is shortened only where that gains as much. */
const GAIN = 1.5;

/**
 * The highest of the values that are no spikes, of curves that share an axis; each value is compared with its own curve.
 *
 * @returns undefined where nothing lies far beyond it
 */
export function spikesAbove(curves: readonly (readonly number[])[]): number | undefined {
  const usual = curves.flatMap((curve) => {
    if (curve.length < FEWEST) return curve;
    const sorted = curve.toSorted((a, b) => a - b);
    const quartile = sorted[Math.floor(0.75 * (sorted.length - 1))] as number;
    let least = Infinity;
    return curve.filter((value) => {
      const times = value <= least ? FALL : RISE;
      least = Math.min(least, value);
      return value <= times * quartile;
    });
  });
  const end = usual.reduce((most, value) => Math.max(most, value), 0);
  const most = curves.flat().reduce((a, b) => Math.max(a, b), 0);
  return end > 0 && most > GAIN * end ? end : undefined;
}
