/** The few pictures of a set that are worth looking at, found in one pass over all of them. */

/** What the network made of a picture. */
export interface Judged {
  readonly sample: number;
  /** The output for its class, and the one that was named. */
  readonly actual: number;
  readonly named: number;
  /** The likeliest class but the one named: the second. */
  readonly second: number;
  /** 0 to 1 each: of the class named, of its own, of the second. */
  readonly confidence: number;
  readonly own: number;
  readonly runnerUp: number;
}

/** Keeps the `most` items with the highest marks, the highest first; of equal marks the earlier item. */
export class Standouts<T> {
  readonly #kept: { readonly item: T; readonly mark: number }[] = [];

  constructor(
    private readonly most: number,
    private readonly mark: (item: T) => number,
  ) {}

  add(item: T): void {
    const mark = this.mark(item);
    const kept = this.#kept;
    const last = kept.at(-1);
    if (kept.length === this.most && (last === undefined || mark <= last.mark)) return;
    let at = kept.length;
    while (at > 0 && (kept[at - 1] as { mark: number }).mark < mark) at--;
    kept.splice(at, 0, { item, mark });
    if (kept.length > this.most) kept.pop();
  }

  get items(): readonly T[] {
    return this.#kept.map(({ item }) => item);
  }
}
