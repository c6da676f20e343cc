/**
 * How strong the penalty of a softmax regression is: the one whose classifiers predict best what they were not fitted to,
 * by cross-entropy. Nothing is looked at but the rows given.
 */

import { logitsOf, type Rows, type Solution, solve } from "./softmax-regression.js";

/** Tried from the first on, as long as it gets better. Of a mean cross-entropy over standardised rows. */
export const PENALTIES = [3, 1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001] as const;

/** What holds where nothing can be held out: the middle of those that were best on the sets tried. */
export const USUAL_PENALTY = 0.1;

/** Parts that the rows are held out in, one at a time. */
export const FOLDS = 5;

/** Below the rule of the solution itself: a cross-entropy is known to three digits then. */
const TOLERANCE = 1e-4;
const MOST_ITERATIONS = 60;

export interface Held {
  /** [rows], 0 .. FOLDS - 1: rows of one picture are held out together. */
  readonly folds: Uint8Array;
  /** Whether a row is scored when it is held out; others are views of the same picture. */
  readonly isScored: (row: number) => boolean;
  /** Folds that are held out, the first of them; fewer where there are very many rows. */
  readonly used: number;
}

export interface Chosen {
  readonly penalty: number;
  /** Share of the rows held out and scored that were predicted right. */
  readonly right: number;
  /** How many those are. */
  readonly scored: number;
  /** Their mean cross-entropy, as rows count. */
  readonly loss: number;
}

/** @param pause before every iteration; ends the work by throwing */
export async function choosePenalty(rows: Rows, held: Held, pause: () => Promise<void>): Promise<Chosen> {
  const solutions: (Solution | undefined)[] = Array.from({ length: held.used }, () => undefined);
  let best: Chosen | undefined;
  for (const penalty of PENALTIES) {
    let [loss, weight, right, scored] = [0, 0, 0, 0];
    for (let fold = 0; fold < held.used; fold++) {
      const weights = rows.weights.map((w, row) => (held.folds[row] === fold ? 0 : w));
      const options = { from: solutions[fold], tolerance: TOLERANCE, most: MOST_ITERATIONS, pause };
      const { solution } = await solve({ ...rows, weights }, penalty, options);
      solutions[fold] = solution;
      for (let row = 0; row < rows.labels.length; row++) {
        if (held.folds[row] !== fold || !held.isScored(row)) continue;
        const logits = logitsOf(rows, row, solution);
        const label = rows.labels[row] as number;
        const counts = rows.weights[row] as number;
        const highest = logits.reduce((most, z) => Math.max(most, z), -Infinity);
        const sum = logits.reduce((all, z) => all + Math.exp(z - highest), 0);
        loss += counts * (Math.log(sum) + highest - (logits[label] as number));
        weight += counts;
        scored++;
        if (logits.indexOf(highest) === label) right++;
      }
    }
    if (best !== undefined && loss / weight >= best.loss) break;
    best = { penalty, right: right / scored, scored, loss: loss / weight };
  }
  return best as Chosen;
}
