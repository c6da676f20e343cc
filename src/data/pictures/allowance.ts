/**
 * A number of bytes that those who need many share: who asks for more than is left waits for those before.
 *
 * Whoever holds some must not wait for more of the same, or all may wait for each other.
 */

export class Allowance {
  #free: number;
  readonly #waiting: { readonly bytes: number; readonly go: () => void }[] = [];

  constructor(private readonly total: number) {
    this.#free = total;
  }

  /** Resolves, in the order of asking, to what gives them back. One who needs more than there are gets all. */
  async take(wanted: number): Promise<() => void> {
    const bytes = Math.min(wanted, this.total);
    if (this.#waiting.length > 0 || bytes > this.#free) {
      await new Promise<void>((go) => this.#waiting.push({ bytes, go }));
    } else {
      this.#free -= bytes;
    }
    return () => {
      this.#free += bytes;
      for (
        let next = this.#waiting[0];
        next !== undefined && next.bytes <= this.#free;
        next = this.#waiting[0]
      ) {
        this.#free -= next.bytes;
        this.#waiting.shift();
        next.go();
      }
    };
  }
}
