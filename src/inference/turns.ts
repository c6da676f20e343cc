/** Work that must not overlap, in the order in which it was asked for. */

export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  take<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Resolves when all that was asked for before has ended. */
  async ended(): Promise<void> {
    await this.#last;
  }
}
