/**
 * Which classes a network takes for which: the confusion matrix of a set, and what follows from it for each class.
 *
 * Rows are the classes that pictures are of, columns those that were named. Shares are fractions; one that would divide
 * by nothing is null. Of many classes only the pairs that occur are kept.
 */

/** Pictures of the class `actual` that were taken for `named`. */
export interface ConfusedPair {
  readonly actual: number;
  readonly named: number;
  readonly pictures: number;
}

export interface ClassScores {
  readonly output: number;
  /** Pictures of the class. */
  readonly support: number;
  /** Pictures that were taken for it. */
  readonly named: number;
  readonly correct: number;
  /** Of those taken for it, how many are of it. */
  readonly precision: number | null;
  /** Of its own, how many were named. */
  readonly recall: number | null;
  /** The harmonic mean of both. */
  readonly f1: number | null;
}

export class Confusion {
  readonly #pairs = new Map<number, number>();
  readonly #support: Uint32Array;
  readonly #named: Uint32Array;
  readonly #correct: Uint32Array;

  constructor(readonly classes: number) {
    this.#support = new Uint32Array(classes);
    this.#named = new Uint32Array(classes);
    this.#correct = new Uint32Array(classes);
  }

  /** `named` is -1 where the network's output named nothing, because it was not finite: wrong, and in no column. */
  add(actual: number, named: number): void {
    increment(this.#support, actual);
    if (named < 0) return;
    increment(this.#named, named);
    if (named === actual) increment(this.#correct, actual);
    const key = actual * this.classes + named;
    this.#pairs.set(key, (this.#pairs.get(key) ?? 0) + 1);
  }

  at(actual: number, named: number): number {
    return this.#pairs.get(actual * this.classes + named) ?? 0;
  }

  /** Pairs of two classes, the most frequent first; of equal ones the lower classes. */
  confused(most: number): ConfusedPair[] {
    return [...this.#pairs]
      .map(([key, pictures]) => ({
        actual: Math.floor(key / this.classes),
        named: key % this.classes,
        pictures,
      }))
      .filter(({ actual, named }) => actual !== named)
      .sort((a, b) => b.pictures - a.pictures || a.actual - b.actual || a.named - b.named)
      .slice(0, most);
  }

  scoresOf(output: number): ClassScores {
    const [support = 0, named = 0, correct = 0] = [this.#support, this.#named, this.#correct].map(
      (counts) => counts[output],
    );
    return {
      output,
      support,
      named,
      correct,
      precision: share(correct, named),
      recall: share(correct, support),
      f1: share(2 * correct, named + support),
    };
  }

  /** By output. */
  allScores(): ClassScores[] {
    return Array.from({ length: this.classes }, (_, output) => this.scoresOf(output));
  }
}

/** The mean recall of the classes that have pictures; null without any. */
export function balancedAccuracy(scores: readonly ClassScores[]): number | null {
  const recalls = scores.flatMap(({ recall }) => recall ?? []);
  return share(
    recalls.reduce((sum, recall) => sum + recall, 0),
    recalls.length,
  );
}

/** The class with most pictures, none where several have as many, and what naming it every time would reach; undefined without pictures. */
export function majority(
  scores: readonly ClassScores[],
): { readonly output: number | undefined; readonly share: number } | undefined {
  const pictures = scores.reduce((sum, { support }) => sum + support, 0);
  const most = scores.reduce((most, { support }) => Math.max(most, support), 0);
  if (pictures === 0) return undefined;
  const [first, ...others] = scores.filter(({ support }) => support === most);
  return { output: others.length > 0 ? undefined : first?.output, share: most / pictures };
}

function share(part: number, whole: number): number | null {
  return whole === 0 ? null : part / whole;
}

function increment(counts: Uint32Array, at: number): void {
  counts[at] = (counts[at] as number) + 1;
}
