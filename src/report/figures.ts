/** Numbers as the report writes them. */

/** 0.9891 -> "98.9 %"; "-" where there is none. */
export function percent(fraction: number | null, digits = 1): string {
  return fraction === null || !Number.isFinite(fraction) ? "-" : `${(100 * fraction).toFixed(digits)} %`;
}

/** 2400 -> "2,400". */
export function whole(value: number): string {
  return wholeNumbers.format(value);
}

/** Made once: `toLocaleString` makes one for every number, which was most of the time that drawing curves took. */
const wholeNumbers = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** In so many significant digits, without an exponent where a reader can do without: 0.0625, 1.234, 1e-7. */
export function plain(value: number, digits = 4): string {
  if (!Number.isFinite(value)) return "not finite";
  return Number(value.toPrecision(digits)).toString();
}

/** As `plain`, with an exponent from 100,000: for places that are narrow. */
export function short(value: number): string {
  return Math.abs(value) < 1e5 ? plain(value) : value.toExponential(1).replace("e+", "e");
}

/** 9.96 -> "10.0 s"; 247 -> "4 min 7 s"; 248400 -> "2 d 21 h". */
export function duration(seconds: number): string {
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const s = Math.round(seconds);
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** "1 picture", "1,200 pictures" */
export function many(value: number, noun: string, plural = `${noun}s`): string {
  return `${whole(value)} ${value === 1 ? noun : plural}`;
}

/**
 * Between which accuracies the true one lies in 95 of 100 such sets: Wilson's score interval.
 *
 * Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference"; z = 1.96.
 */
export function interval(accuracy: number, pictures: number): readonly [low: number, high: number] {
  const z2 = 1.959964 ** 2 / pictures;
  const centre = (accuracy + z2 / 2) / (1 + z2);
  const half = Math.sqrt(z2 * accuracy * (1 - accuracy) + (z2 * z2) / 4) / (1 + z2);
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}
