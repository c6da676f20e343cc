/** How much the pictures of a class weigh in the loss, so that classes of few pictures count as much as those of many. */

import type { Dataset } from "./dataset.js";

/**
 * [classes]: pictures / (classes that have any * pictures of the class), so that all classes weigh alike together, and a
 * picture of the set weighs 1 on average; 1 for a class without pictures.
 *
 * Source: scikit-learn's `class_weight="balanced"`.
 */
export function classWeights(set: Pick<Dataset, "size" | "label">, classes: number): Float32Array {
  const counts = new Uint32Array(classes);
  for (let sample = 0; sample < set.size; sample++) {
    const own = set.label(sample);
    counts[own] = (counts[own] as number) + 1;
  }
  const present = counts.filter((count) => count > 0).length;
  return Float32Array.from(counts, (count) => (count === 0 ? 1 : set.size / (present * count)));
}
