/**
 * Requests that come one by one, gathered into batches that are worked on one after another.
 *
 * A batch begins when the first of its requests has waited for `maxWait` milliseconds or it is full, and no other batch is worked
 * on; a full one, too, while others are, up to `atOnce` together. First come, first served.
 */

export interface Gathering<Item, Result> {
  /** The most requests in a batch. */
  readonly size: number;
  /** Milliseconds. */
  readonly maxWait: number;
  /** Batches, 1 where absent. */
  readonly atOnce?: number;
  /** A result for each, in their order; what it throws fails all of them. */
  readonly work: (items: readonly Item[]) => Promise<readonly Result[]>;
}

export class Gatherer<Item, Result> {
  readonly #gathering: Gathering<Item, Result>;
  readonly #waiting: Request<Item, Result>[] = [];
  #timer: NodeJS.Timeout | undefined;
  #working = 0;
  #hurried = false;

  constructor(gathering: Gathering<Item, Result>) {
    this.#gathering = gathering;
  }

  /** A request that is aborted before its batch has begun leaves the queue, and rejects with the signal's reason. */
  add(item: Item, signal?: AbortSignal): Promise<Result> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        const at = this.#waiting.indexOf(request);
        if (at < 0) return;
        this.#waiting.splice(at, 1);
        reject(signal?.reason as Error);
      };
      const request: Request<Item, Result> = {
        item,
        due: performance.now() + this.#gathering.maxWait,
        began: () => signal?.removeEventListener("abort", leave),
        resolve,
        reject,
      };
      this.#waiting.push(request);
      if (signal?.aborted === true) return leave();
      signal?.addEventListener("abort", leave, { once: true });
      this.#consider();
    });
  }

  /** From now on no request waits for others. */
  hurry(): void {
    this.#hurried = true;
    this.#consider();
  }

  #consider(): void {
    const [first] = this.#waiting;
    const { size, atOnce = 1 } = this.#gathering;
    if (first === undefined || this.#working === atOnce) return;
    const isFull = this.#waiting.length >= size;
    if (this.#working > 0 && !isFull) return;
    const wait = first.due - performance.now();
    clearTimeout(this.#timer);
    if (!this.#hurried && !isFull && wait > 0) {
      this.#timer = setTimeout(() => this.#consider(), Math.ceil(wait));
      return;
    }
    void this.#workOn(this.#waiting.splice(0, size));
  }

  async #workOn(batch: readonly Request<Item, Result>[]): Promise<void> {
    this.#working++;
    for (const request of batch) request.began();
    try {
      const results = await this.#gathering.work(batch.map(({ item }) => item));
      batch.forEach(({ resolve }, i) => resolve(results[i] as Result));
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
    this.#working--;
    this.#consider();
  }
}

interface Request<Item, Result> {
  readonly item: Item;
  /** When it has waited for long enough, by `performance.now()`. */
  readonly due: number;
  /** Its batch has: it can no longer leave. */
  readonly began: () => void;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}
