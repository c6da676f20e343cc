/** Which of our names somebody meant who wrote another: by their letters; and the refusal of options that are none of ours. */

import { UsageError } from "./error.js";

/** Every key of an options object; its type demands each. */
export type NamesOf<T> = Readonly<Record<keyof T & string, true>>;

/**
 * Refuses a key of `given` that is none of the names.
 *
 * @param call the function that they were given to
 * @throws UsageError
 */
export function refuseUnknown(given: object, names: object, call: string): void {
  const known = Object.keys(names);
  const other = Object.keys(given).find((key) => !known.includes(key));
  if (other === undefined) return;
  const near = nearest(lettersOf(other), known);
  throw unknownSetting(other, near === undefined ? "" : `; did you mean ${near.name}?`, known, call);
}

/** @param meant what follows the name: "; did you mean lr?" */
export function unknownSetting(
  name: string,
  meant: string,
  known: readonly string[],
  call: string,
): UsageError {
  return new UsageError({
    what: `unknown setting ${name}${meant}`,
    where: call,
    expected: `one of ${known.join(", ")}`,
    found: name,
    safe: "Nothing was read or written",
  });
}

/** `batchSize`, `batch-size` and `Batch_Size` have the same letters. */
export function lettersOf(name: string): string {
  return name.replace(/[-_]/g, "").toLowerCase();
}

/** The one of the names that takes the fewest slips from `plain`, letters alone, where they are few for its length. */
export function nearest(
  plain: string,
  names: readonly string[],
): { readonly name: string; readonly distance: number } | undefined {
  const [best] = names
    .map((name) => ({ name, distance: slips(plain, lettersOf(name)) }))
    .sort((a, b) => a.distance - b.distance);
  if (best === undefined || best.distance > Math.max(1, Math.floor(0.3 * plain.length))) return undefined;
  // Of two letters nearly any name is a slip away; that one of them was left out is likely where the first is right.
  const isLeftOut = best.name.length > plain.length && best.name[0] === plain[0];
  return plain.length < 3 && best.distance > 0 && !isLeftOut ? undefined : best;
}

/**
 * Letters left out, put in, mistaken or swapped with their neighbour that lie between two words.
 *
 * Source: the optimal string alignment distance (Boytsov 2011, "Indexing methods for approximate dictionary searching", 2.1).
 */
function slips(a: string, b: string): number {
  let [before, row] = [[] as number[], Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const isSame = a[i - 1] === b[j - 1];
      let least = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (isSame ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, (before[j - 2] ?? 0) + 1);
      next.push(least);
    }
    [before, row] = [row, next];
  }
  return row[b.length] ?? 0;
}
