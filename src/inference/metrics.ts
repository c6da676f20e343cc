/**
 * Loss and accuracy of logits: the numbers by which a network is judged.
 *
 * Kept per picture and added in the order of the set, so a last batch shorter than the others weighs no more than its
 * pictures, and the scores have the same bits for any size of batches and any number of processes.
 */

import type { Scores } from "../run/checkpoint-state.js";

/** What is kept of a picture: none where it was left out. */
const SCORED = 1;
const TOP1 = 2;
const TOP5 = 4;

/** The scores of a share of a set, picture by picture. */
export class ScoreKeeper {
  readonly #losses: Float64Array;
  readonly #marks: Uint8Array;

  /** @param pictures of the share */
  constructor(pictures: number) {
    this.#losses = new Float64Array(pictures);
    this.#marks = new Uint8Array(pictures);
  }

  /**
   * `places` are the pictures' in the share, [count] or longer as `labels`; `logits` are [count, classes] or longer; only
   * `count` rows are read.
   */
  add(
    places: ArrayLike<number>,
    logits: Float32Array,
    labels: Int32Array,
    count: number,
    classes: number,
  ): void {
    for (let i = 0; i < count; i++) {
      const row = logits.subarray(i * classes, (i + 1) * classes);
      const label = labels[i] as number;
      const rank = rankOf(row, label);
      const place = places[i] as number;
      this.#losses[place] = crossEntropy(row, label);
      this.#marks[place] = SCORED | (rank.first === 0 ? TOP1 : 0) | (rank.above < 5 ? TOP5 : 0);
    }
  }

  /** For other processes: a loss of each picture, in 8 bytes, then a mark of each, in one. */
  bytes(): Uint8Array {
    const out = new Uint8Array(9 * this.#marks.length);
    out.set(new Uint8Array(this.#losses.buffer));
    out.set(this.#marks, 8 * this.#marks.length);
    return out;
  }
}

/** Of a whole set whose picture i lies at place i / n of share i mod n, rounded down; of n shares as `bytes` gives them. */
export function scoresOf(shares: readonly Uint8Array[]): Scores {
  const read = shares.map((bytes) => {
    const pictures = bytes.length / 9;
    // A copy, for eight bytes have to begin at a multiple of eight.
    const losses = new Float64Array(new Uint8Array(bytes).buffer, 0, pictures);
    return { losses, marks: bytes.subarray(8 * pictures) };
  });
  let [images, loss, correct1, correct5] = [0, 0, 0, 0];
  const places = Math.max(...read.map(({ marks }) => marks.length));
  for (let place = 0; place < places; place++) {
    for (const { losses, marks } of read) {
      const mark = marks[place] ?? 0;
      if (mark === 0) continue;
      images++;
      loss += losses[place] as number;
      if (mark & TOP1) correct1++;
      if (mark & TOP5) correct5++;
    }
  }
  const n = Math.max(images, 1);
  return { images, loss: loss / n, top1: correct1 / n, top5: correct5 / n };
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
