/**
 * A team of threads that build records; their number changes the speed and nothing else, because portions are
 * taken up in the order of the rows, whoever built them.
 */

import { Worker } from "node:worker_threads";

import { DataError, ResourceError } from "../../core/error.js";
import type { PictureRow } from "./build-record.js";
import type { BuiltPortion, WorkerReply, WorkerRequest, WorkerSettings } from "./record-worker.js";

/** Rows built at a time: large enough to hide the message, small enough that a few megabytes are in flight. */
const PORTION = 32;
/** Paths looked at in one message; a look is a thousandth of a record's work. */
const MEASURED = 1024;
/** Portions in flight per thread: one being built, the next waiting, one on its way back. */
const AHEAD = 3;

export class RecordBuilders {
  readonly #workers: readonly { readonly worker: Worker; waiting: number }[];
  readonly #answers = new Map<number, Answer>();
  #nextId = 0;
  #failure: Error | undefined;

  constructor(jobs: number, settings: WorkerSettings) {
    this.#workers = Array.from({ length: jobs }, () => {
      const worker = new Worker(new URL("./record-worker.js", import.meta.url), { workerData: settings });
      const member = { worker, waiting: 0 };
      worker.on("message", (reply: WorkerReply) => {
        member.waiting--;
        this.#receive(reply);
      });
      worker.on("error", (error) => this.#failAll(error instanceof Error ? error : new Error(String(error))));
      return member;
    });
  }

  /**
   * The records of `rows` from `first` on, portion by portion.
   *
   * @throws DataError, ResourceError naming the first picture, in the order of the rows, that cannot be read.
   */
  async *build(
    count: number,
    rowAt: (index: number) => PictureRow,
    first: number,
  ): AsyncGenerator<{ readonly first: number; readonly portion: BuiltPortion }> {
    const rowsOf = (start: number, end: number) => ({
      build: Array.from({ length: end - start }, (_, i) => rowAt(start + i)),
    });
    for await (const { start, reply } of this.#inOrder(first, count, PORTION, rowsOf))
      yield { first: start, portion: (reply as { built: BuiltPortion }).built };
  }

  /** Bytes of all these files together; `progress` is called with how many were looked at. */
  async measure(paths: readonly string[], progress: (done: number) => void): Promise<number> {
    let bytes = 0;
    const pathsOf = (start: number, end: number) => ({ measure: paths.slice(start, end) });
    for await (const { end, reply } of this.#inOrder(0, paths.length, MEASURED, pathsOf)) {
      bytes += (reply as { bytes: number }).bytes;
      progress(end);
    }
    return bytes;
  }

  /** Ends the threads; nothing may be asked afterwards. */
  async close(): Promise<void> {
    this.#failure ??= new Error("the threads were ended");
    await Promise.all(this.#workers.map(({ worker }) => worker.terminate()));
  }

  /** The answers on [first, end) in order, `size` at a time; those ahead are worked on meanwhile. */
  async *#inOrder(
    first: number,
    end: number,
    size: number,
    question: (start: number, end: number) => Question,
  ) {
    const ahead: { readonly start: number; readonly end: number; readonly answer: Promise<WorkerReply> }[] =
      [];
    for (let next = first; next < end || ahead.length > 0;) {
      while (next < end && ahead.length < AHEAD * this.#workers.length) {
        const start = next;
        next = Math.min(start + size, end);
        const answer = this.#ask(question(start, next));
        // A later one may fail while an earlier one is awaited; it is reported in its turn.
        answer.catch(() => {});
        ahead.push({ start, end: next, answer });
      }
      const taken = ahead.shift();
      if (taken !== undefined) yield { ...taken, reply: await taken.answer };
    }
  }

  #ask(request: Question): Promise<WorkerReply> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const id = this.#nextId++;
    const member = this.#workers.reduce((a, b) => (b.waiting < a.waiting ? b : a));
    member.waiting++;
    member.worker.postMessage({ id, ...request } satisfies WorkerRequest);
    return new Promise((resolve, reject) => this.#answers.set(id, { resolve, reject }));
  }

  #receive(reply: WorkerReply): void {
    const answer = this.#answers.get(reply.id);
    this.#answers.delete(reply.id);
    if ("problem" in reply) {
      // The class, too, is lost on the way between threads.
      const Failure = reply.exitCode === 6 ? ResourceError : DataError;
      answer?.reject(new Failure(reply.problem));
    } else if ("bug" in reply) answer?.reject(new Error(reply.bug));
    else answer?.resolve(reply);
  }

  #failAll(error: Error): void {
    this.#failure = error;
    for (const { reject } of this.#answers.values()) reject(error);
    this.#answers.clear();
  }
}

type Question = { readonly build: readonly PictureRow[] } | { readonly measure: readonly string[] };

interface Answer {
  readonly resolve: (reply: WorkerReply) => void;
  readonly reject: (error: Error) => void;
}
