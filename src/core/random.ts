/**
 * Random numbers that are functions, not streams: Philox4x32-10.
 *
 * Every draw is decided by (seed, stream, index), so results do not depend on the order in which
 * workers run, and a resumed run draws what the uninterrupted one would have drawn.
 *
 * Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11), and the known-answer
 * tests of Random123 (kat_vectors, philox4x32 10 rounds).
 */

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const ROUNDS = 10;

/** What a family of draws is for; two purposes never share numbers. */
export const streams = {
  augment: 1,
  shuffle: 2,
  initialise: 3,
  dropout: 4,
  draw: 5,
  split: 6,
  mixup: 7,
} as const;
type Stream = (typeof streams)[keyof typeof streams];

/** The generator itself: a counter and a key give four uniform 32-bit words, which take the counter's place in `block`. */
function philox(block: Uint32Array, key0: number, key1: number): void {
  // Signed 32-bit words, which need no heap; the array makes them unsigned.
  let c0 = block[0] as number;
  let c1 = block[1] as number;
  let c2 = block[2] as number;
  let c3 = block[3] as number;
  let k0 = key0;
  let k1 = key1;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low0 = Math.imul(MULTIPLIER_0, c0);
    const low1 = Math.imul(MULTIPLIER_1, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + WEYL_0) | 0;
    k1 = (k1 + WEYL_1) | 0;
  }
  block[0] = c0;
  block[1] = c1;
  block[2] = c2;
  block[3] = c3;
}

/** The upper 32 of the 64 bits of an unsigned product, as a signed word: no sum of halves below goes beyond 32 bits. */
function multiplyHigh(a: number, b: number): number {
  const aHigh = a >>> 16;
  const aLow = a & 0xffff;
  const bHigh = b >>> 16;
  const bLow = b & 0xffff;
  const middle = (Math.imul(aHigh, bLow) + (Math.imul(aLow, bLow) >>> 16)) | 0;
  const carry = (Math.imul(aLow, bHigh) + (middle & 0xffff)) | 0;
  return (Math.imul(aHigh, bHigh) + (middle >>> 16) + (carry >>> 16)) | 0;
}

/**
 * The numbers drawn for one item: `index` is a sample, a parameter or a step, `epoch` the pass.
 *
 * All three are whole numbers from 0; the seed may be as large as 2^53, epoch and index 2^32.
 */
export class Draws {
  readonly #key0: number;
  readonly #key1: number;
  readonly #stream: number;
  readonly #epoch: number;
  readonly #index: number;
  readonly #block = new Uint32Array(4);
  #used = 4;
  #counter = 0;

  constructor(seed: number, stream: Stream, epoch: number, index: number) {
    this.#key0 = seed | 0;
    this.#key1 = Math.floor(seed / 2 ** 32) | 0;
    this.#stream = stream;
    this.#epoch = epoch >>> 0;
    this.#index = index >>> 0;
  }

  /** The next whole number in [0, 2^32). */
  word(): number {
    if (this.#used === 4) {
      this.#block[0] = this.#counter++;
      this.#block[1] = this.#stream;
      this.#block[2] = this.#epoch;
      this.#block[3] = this.#index;
      philox(this.#block, this.#key0, this.#key1);
      this.#used = 0;
    }
    return this.#block[this.#used++] as number;
  }

  /** Uniform in [low, high), with 53 random bits. */
  uniform(low = 0, high = 1): number {
    const a = this.word() >>> 5;
    const b = this.word() >>> 6;
    return low + (high - low) * ((a * 2 ** 26 + b) / 2 ** 53);
  }

  /** Uniform among the whole numbers 0 .. count-1. */
  below(count: number): number {
    return Math.floor(this.uniform() * count);
  }

  /** Of 0 .. count-1 (Fisher and Yates). */
  permutation(count: number): Uint32Array {
    const order = Uint32Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const kept = order[i] as number;
      order[i] = order[j] as number;
      order[j] = kept;
    }
    return order;
  }

  /** Standard normal (Box and Muller). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /**
   * Beta(alpha, alpha), in [0, 1]: a gamma variate's share of two. In logarithms, for with a small alpha both are nearer to 0
   * than a double can say.
   */
  beta(alpha: number): number {
    const other = this.#logGamma(alpha) - this.#logGamma(alpha);
    return 1 / (1 + Math.exp(other));
  }

  /**
   * Logarithm of a Gamma(shape, 1) variate; that of shape a is one of shape a + 1 times u^(1/a).
   *
   * Source: Marsaglia and Tsang 2000, "A simple method for generating gamma variables".
   */
  #logGamma(shape: number): number {
    const power = Math.log(1 - this.uniform()) / shape;
    const d = shape + 1 - 1 / 3;
    const c = 1 / Math.sqrt(9 * d);
    for (;;) {
      const x = this.normal();
      const v = (1 + c * x) ** 3;
      if (v <= 0) continue;
      if (Math.log(1 - this.uniform()) < (x * x) / 2 + d - d * v + d * Math.log(v))
        return Math.log(d * v) + power;
    }
  }
}

/** A permutation of 0 .. count-1, the same for the same (seed, epoch). */
export function permutation(count: number, seed: number, epoch: number): Uint32Array {
  return new Draws(seed, streams.shuffle, epoch, 0).permutation(count);
}
