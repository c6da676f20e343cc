/**
 * Which sample a rank visits when, so that every sample comes exactly once per epoch whatever the number of ranks,
 * and a run's place in its data is one integer.
 *
 * An epoch is a permutation of the whole set (or file order), the same on every rank. Rank r of n takes its
 * positions r, r + n, r + 2n, ...: nothing is exchanged, nothing comes twice, and a global batch holds the same
 * samples for any n that divides it. Where the size is no multiple of n, the first ranks have one more.
 */

import { UsageError } from "../core/error.js";
import { permutation } from "../core/random.js";

interface SamplerOptions {
  /** Of the whole set. */
  readonly size: number;
  readonly seed: number;
  /** False: file order in every epoch. */
  readonly shuffle: boolean;
  /** From 0. */
  readonly rank?: number;
  readonly ranks?: number;
}

export class Sampler {
  /** Samples of an epoch that are this rank's. */
  readonly length: number;

  readonly #options: Required<SamplerOptions>;
  /** Two, because batches of one epoch may still be decoding when the next begins. */
  readonly #orders = new Map<number, Uint32Array>();

  constructor(options: SamplerOptions) {
    const { size, rank = 0, ranks = 1 } = options;
    if (!(Number.isInteger(ranks) && ranks >= 1 && Number.isInteger(rank) && rank >= 0 && rank < ranks)) {
      throw new UsageError({ what: "no such rank", expected: `0 .. ${ranks - 1}`, found: `${rank}` });
    }
    this.#options = { ...options, rank, ranks };
    this.length = Math.ceil(Math.max(0, size - rank) / ranks);
  }

  /** The `index`-th sample of this rank in an epoch; index is 0 .. length - 1. */
  sample(epoch: number, index: number): number {
    return this.order(epoch)[index * this.#options.ranks + this.#options.rank] as number;
  }

  /** The order of the whole set in an epoch, for all ranks together. */
  order(epoch: number): Uint32Array {
    const { size, seed, shuffle } = this.#options;
    // File order is one for all epochs.
    const key = shuffle ? epoch : 0;
    let order = this.#orders.get(key);
    if (order === undefined) {
      order = shuffle ? permutation(size, seed, epoch) : Uint32Array.from({ length: size }, (_, i) => i);
      const [oldest] = this.#orders.keys();
      if (this.#orders.size === 2 && oldest !== undefined) this.#orders.delete(oldest);
      this.#orders.set(key, order);
    }
    return order;
  }
}
