/**
 * Memory that one group of pictures after another is read into.
 *
 * A photograph is 100 kB; a buffer of its own for each makes V8 collect garbage some ten times a second, which costs
 * the main thread a quarter of its time at a thousand pictures a second.
 */

/** Not shared: whoever reads owns one, and is done with what it gave before taking from it again. */
export class Scratch {
  #bytes = Buffer.alloc(0);

  /** `length` bytes of any content, valid until the next call. */
  take(length: number): Buffer {
    // A rare giant is not held on to.
    if (length > MOST_KEPT) return Buffer.allocUnsafeSlow(length);
    if (length > this.#bytes.length) this.#bytes = Buffer.allocUnsafeSlow(roundedUp(length));
    return this.#bytes.subarray(0, length);
  }
}

const MOST_KEPT = 2 ** 22;

/** To a power of two, so that growing ends soon. */
function roundedUp(length: number): number {
  return 2 ** Math.ceil(Math.log2(length));
}
