/**
 * Which sample a share of a set visits when, so that every sample comes exactly once per epoch whatever the number of
 * shares, and a run's place in its data is one integer. In training a share is a shard, in evaluation a rank.
 *
 * An epoch is a permutation of the whole set (or file order), the same for every share. Share r of n takes its
 * positions r, r + n, r + 2n, ...: nothing is exchanged, nothing comes twice, and a step holds the same samples for any
 * n that divides it. Where the size is no multiple of n, the first shares have one more.
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
  /** Samples of an epoch that are this share's. */
  readonly length: number;

  readonly #options: Required<SamplerOptions>;
  /** Two, because batches of one epoch may still be decoding when the next begins. */
  readonly #orders: Map<number, Uint32Array>;

  /** @param orders of the epochs, where other shares of the same set have them too */
  constructor(options: SamplerOptions, orders = new Map<number, Uint32Array>()) {
    const { size, rank = 0, ranks = 1 } = options;
    if (!(Number.isInteger(ranks) && ranks >= 1 && Number.isInteger(rank) && rank >= 0 && rank < ranks)) {
      throw new UsageError({ what: "no such rank", expected: `0 .. ${ranks - 1}`, found: `${rank}` });
    }
    this.#options = { ...options, rank, ranks };
    this.#orders = orders;
    this.length = Math.ceil(Math.max(0, size - rank) / ranks);
  }

  /** `count` neighbours from this share on, this one first. */
  neighbours(count: number): Sampler[] {
    const { rank } = this.#options;
    return Array.from(
      { length: count },
      (_, i) => new Sampler({ ...this.#options, rank: rank + i }, this.#orders),
    );
  }

  /** The `index`-th sample of this share in an epoch; index is 0 .. length - 1. */
  sample(epoch: number, index: number): number {
    return this.order(epoch)[index * this.#options.ranks + this.#options.rank] as number;
  }

  /** The order of the whole set in an epoch, of all shares together. */
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
