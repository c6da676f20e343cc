/**
 * numpy.random.RandomState(seed).normal(), number for number, for weights that a rule makes in both languages.
 *
 * Mersenne Twister (Matsumoto and Nishimura, 1998) and the polar method, the second of each pair kept for the next call.
 * Source: numpy/random/src/mt19937/mt19937.c and src/legacy/legacy-distributions.c.
 */

const STATE = 624;
const MIDDLE = 397;

export class RandomState {
  readonly #words = new Uint32Array(STATE);
  #next = STATE;
  #kept: number | undefined;

  constructor(seed: number) {
    let word = seed >>> 0;
    for (let i = 0; i < STATE; i++) {
      this.#words[i] = word;
      word = (Math.imul(1812433253, word ^ (word >>> 30)) + i + 1) >>> 0;
    }
  }

  normal(): number {
    if (this.#kept !== undefined) {
      const kept = this.#kept;
      this.#kept = undefined;
      return kept;
    }
    for (;;) {
      const x = 2 * this.#double() - 1;
      const y = 2 * this.#double() - 1;
      const square = x * x + y * y;
      if (square >= 1 || square === 0) continue;
      const factor = Math.sqrt((-2 * Math.log(square)) / square);
      this.#kept = factor * x;
      return factor * y;
    }
  }

  /** [0, 1) with 53 bits. */
  #double(): number {
    const high = this.#word() >>> 5;
    const low = this.#word() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  #word(): number {
    if (this.#next === STATE) this.#twist();
    let y = this.#words[this.#next++] as number;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  #twist(): void {
    const words = this.#words;
    for (let i = 0; i < STATE; i++) {
      const y = ((words[i] as number) & 0x80000000) | ((words[(i + 1) % STATE] as number) & 0x7fffffff);
      words[i] = (words[(i + MIDDLE) % STATE] as number) ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#next = 0;
  }
}

/** zlib.crc32 of a text. */
export function crc32(text: string): number {
  let crc = 0xffffffff;
  for (const byte of new TextEncoder().encode(text)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
