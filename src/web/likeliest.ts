/** From a network's output to the classes it means, for JavaScript anywhere. It imports nothing. */

/** A class as `riffle predict --json` has it. */
export interface PageGuess {
  readonly index: number;
  readonly name: string;
  /** What the name means, where it is the WordNet id of one of ImageNet's classes. */
  readonly words?: string;
  /** 0 to 1; all classes add up to 1. */
  readonly probability: number;
}

/** The classes in the order of the network's outputs: classes.json. */
export type PageClasses = readonly Pick<PageGuess, "name" | "words">[];

/** The classes of logits [classes], the most probable first; of equal ones the lower index comes first. */
export function likeliest(logits: Float32Array, classes: PageClasses): PageGuess[] {
  const largest = logits.reduce((max, z) => Math.max(max, z), -Infinity);
  const exps = Float64Array.from(logits, (z) => Math.exp(z - largest));
  const sum = exps.reduce((total, exp) => total + exp, 0);
  return Array.from(exps, (exp, index) => ({
    index,
    ...(classes[index] ?? { name: `output ${index}` }),
    probability: exp / sum,
  })).sort((a, b) => b.probability - a.probability);
}
