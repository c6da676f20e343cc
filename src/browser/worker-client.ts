/** The page's side of a worker: calls with answers, events on the way, and an end. */

import { ResourceError, UsageError } from "../core/error.js";
import type { Reporter } from "./events.js";
import { hasGlobal, type PageWorker } from "./scope.js";
import { type Answer, type CallName, type Calls, errorOf } from "./wire.js";

interface Waiting {
  readonly resolve: (answer: never) => void;
  readonly reject: (error: Error) => void;
  readonly onEvent: Reporter | undefined;
}

export interface CallOptions {
  readonly moved?: readonly object[];
  readonly onEvent?: Reporter | undefined;
  readonly signal?: AbortSignal | undefined;
}

declare const Worker: new (address: URL, options: { readonly type: "module" }) => PageWorker;

export class WorkerClient {
  readonly #worker: PageWorker;
  readonly #waiting = new Map<number, Waiting>();
  #calls = 0;

  constructor() {
    if (!hasGlobal("Worker")) {
      throw new ResourceError({
        what: "there are no workers here",
        expected: "a page in a browser of 2023 or newer",
        hint: 'In Node, import from "riffle-vision"',
      });
    }
    this.#worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#take(data as Answer);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(
        new ResourceError({
          what: "the worker does not run",
          found: event.message ?? "its script did not load",
          safe: "What was said to be saved stays",
          hint: "Load the page again",
        }),
      );
    };
  }

  async call<K extends CallName>(
    call: K,
    asked: Calls[K]["asked"],
    { moved = [], onEvent, signal }: CallOptions = {},
  ): Promise<Calls[K]["answer"]> {
    const id = this.#calls++;
    const abort = (): void => this.#worker.postMessage({ id, abort: true });
    try {
      return await new Promise<Calls[K]["answer"]>((resolve, reject) => {
        this.#waiting.set(id, { resolve, reject, onEvent });
        this.#worker.postMessage({ id, call, asked }, moved);
        if (signal?.aborted === true) abort();
        else signal?.addEventListener("abort", abort, { once: true });
      });
    } finally {
      this.#waiting.delete(id);
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Ends it at once; who waits is told. */
  end(): void {
    this.#worker.terminate();
    this.#fail(
      new UsageError({
        what: "it was closed before the answer came",
        safe: "What was said to be saved stays",
      }),
    );
  }

  #take(data: Answer): void {
    const waiting = this.#waiting.get(data.id);
    if (waiting === undefined) return;
    if ("event" in data) tell(waiting.onEvent, data.event);
    else if ("failure" in data) waiting.reject(errorOf(data.failure));
    else waiting.resolve(data.answer as never);
  }

  #fail(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error);
  }
}

/** What a reporter throws is its page's bug: it goes to the console, and training goes on. */
function tell(report: Reporter | undefined, event: Parameters<Reporter>[0]): void {
  try {
    report?.(event);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
