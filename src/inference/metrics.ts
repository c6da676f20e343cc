/**
 * Loss and accuracy of logits: the numbers by which a network is judged.
 *
 * Counted per image, so a last batch shorter than the others weighs no more than its images.
 */

import type { Scores } from "../run/checkpoint-state.js";

/** Adds up scores over batches. */
export class ScoreKeeper {
  #images = 0;
  #loss = 0;
  #correct1 = 0;
  #correct5 = 0;

  /** `logits` are [count, classes] or longer, `labels` [count] or longer; only `count` rows are read. */
  add(logits: Float32Array, labels: Int32Array, count: number, classes: number): void {
    for (let i = 0; i < count; i++) {
      const row = logits.subarray(i * classes, (i + 1) * classes);
      const label = labels[i] as number;
      this.#loss += crossEntropy(row, label);
      const rank = rankOf(row, label);
      if (rank.first === 0) this.#correct1++;
      if (rank.above < 5) this.#correct5++;
    }
    this.#images += count;
  }

  scores(): Scores {
    const n = Math.max(this.#images, 1);
    return {
      images: this.#images,
      loss: this.#loss / n,
      top1: this.#correct1 / n,
      top5: this.#correct5 / n,
    };
  }
}

/** Probabilities of one row of logits, in f64. */
export function softmax(logits: Float32Array): Float64Array {
  const largest = max(logits);
  const exps = Float64Array.from(logits, (z) => Math.exp(z - largest));
  const total = exps.reduce((sum, e) => sum + e, 0);
  return exps.map((e) => e / total);
}

/** log(sum of exp) - logit, with the largest taken out so that nothing overflows. */
function crossEntropy(logits: Float32Array, label: number): number {
  const largest = max(logits);
  let sum = 0;
  for (const z of logits) sum += Math.exp(z - largest);
  return Math.log(sum) + largest - (logits[label] as number);
}

/**
 * How many logits come before the label's: `first` counts equal ones of a lower index too, so that one
 * class is predicted per image; `above` counts larger ones only, so that a tie at the boundary of the top
 * five is correct. In a row that is not finite every label comes last. Source: tf.math.in_top_k, for both.
 */
function rankOf(logits: Float32Array, label: number): { first: number; above: number } {
  const own = logits[label] as number;
  if (!logits.every(Number.isFinite)) return { first: logits.length, above: logits.length };
  let first = 0;
  let above = 0;
  logits.forEach((z, i) => {
    if (z > own) above++;
    if (z > own || (z === own && i < label)) first++;
  });
  return { first, above };
}

function max(values: Float32Array): number {
  return values.reduce((largest, value) => Math.max(largest, value), -Infinity);
}
