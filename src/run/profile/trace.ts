/**
 * A profile as a trace that Perfetto and chrome://tracing open: a row for each thread, all ranks on one line of time.
 *
 * A process of the trace is a rank. Ranks tell time by the clocks of their machines, so rows of two machines agree as far
 * as those do. `ts` and `dur` are microseconds.
 *
 * Source: "Trace Event Format", docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
 */

import type { Doing, RunProfile } from "../../backends/backend.js";
import type { LoopSpan, StepSpan } from "./time-line.js";

/** What one rank has seen. */
export interface RankProfile extends RunProfile {
  readonly rank: number;
  /** Of its machine. */
  readonly host: string;
  readonly loop: readonly LoopSpan[];
  readonly steps: readonly StepSpan[];
}

export interface TraceEvent {
  readonly name: string;
  readonly cat?: string;
  /** X has a beginning and a length; M names a row. */
  readonly ph: "X" | "M";
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly args?: Readonly<Record<string, string | number>>;
}

const STEPS = 1;
const LOOP = 2;
/** Of the first thread of the engine, and of the first that reads and decodes pictures. */
const ENGINE = 10;
const PICTURES = 2000;

/** The file, in pieces: one event a line. `layers` are names of the program's steps. */
export function* traceFile(
  ranks: readonly RankProfile[],
  layers: readonly string[],
  about: object,
): Generator<Uint8Array> {
  yield Buffer.from(`{"displayTimeUnit": "ms",\n"otherData": ${JSON.stringify(about)},\n"traceEvents": [\n`);
  let isFirst = true;
  for (const rank of ranks) {
    const events = traceEvents(rank, layers, earliest(ranks));
    const lines = events.map((event) => JSON.stringify(event)).join(",\n");
    yield Buffer.from(`${isFirst ? "" : ",\n"}${lines}`);
    isFirst = false;
  }
  yield Buffer.from("\n]}\n");
}

/** Milliseconds since 1970 at which the first step of any rank begins. */
function earliest(ranks: readonly RankProfile[]): number {
  return Math.min(...ranks.map(({ epoch, steps }) => epoch + (steps[0]?.begin ?? Infinity)));
}

function traceEvents(profile: RankProfile, layers: readonly string[], start: number): TraceEvent[] {
  const { rank: pid, host, epoch, steps, loop, threads, jobs } = profile;
  const ahead = epoch - start;
  const span = (
    tid: number,
    name: string,
    cat: string,
    { begin, end }: { readonly begin: number; readonly end: number },
    args?: TraceEvent["args"],
  ): TraceEvent => {
    // Whole nanoseconds, so that one ends where the next begins.
    const [from, to] = [begin, end].map((ms) => Math.round((ms + ahead) * 1e6)) as [number, number];
    const event = { name, cat, ph: "X" as const, pid, tid, ts: from / 1000, dur: (to - from) / 1000 };
    return args === undefined ? event : { ...event, args };
  };
  const row = (tid: number, name: string): TraceEvent[] => [
    { name: "thread_name", ph: "M", pid, tid, args: { name } },
    { name: "thread_sort_index", ph: "M", pid, tid, args: { sort_index: tid } },
  ];
  const inside = windowOf(steps);
  const pictureThreads = [...new Set(jobs.map(({ thread }) => thread))].sort((a, b) => a - b);
  return [
    { name: "process_name", ph: "M", pid, tid: 0, args: { name: `rank ${pid}, ${host}` } },
    { name: "process_sort_index", ph: "M", pid, tid: 0, args: { sort_index: pid } },
    ...row(STEPS, "steps"),
    ...steps.map((each) => span(STEPS, `step ${each.step}`, "step", each)),
    ...row(LOOP, "training loop"),
    ...loop.map((each) => span(LOOP, loopWords[each.work], "loop", each)),
    ...threads.flatMap((spans, thread) => [
      ...row(ENGINE + thread, `engine thread ${thread}`),
      ...spans.map((each) => {
        const name = each.layer === undefined ? doingWords[each.doing] : (layers[each.layer] ?? "");
        const { doing } = each;
        return each.waits
          ? span(ENGINE + thread, "waits for threads", "wait", each, { in: `${name} ${doing}` })
          : span(
              ENGINE + thread,
              each.layer === undefined ? name : `${name} ${doing}`,
              each.layer === undefined ? "between layers" : doing,
              each,
            );
      }),
    ]),
    ...pictureThreads.flatMap((thread, i) => [
      ...row(PICTURES + i, `picture thread ${i}`),
      ...jobs
        .filter((job) => job.thread === thread && job.end > inside.begin && job.begin < inside.end)
        .map((job) => span(PICTURES + i, job.what, "pictures", job)),
    ]),
  ];
}

function windowOf(steps: readonly StepSpan[]): { readonly begin: number; readonly end: number } {
  return { begin: steps[0]?.begin ?? 0, end: steps.at(-1)?.end ?? 0 };
}

const loopWords: { readonly [W in LoopSpan["work"]]: string } = {
  waiting: "waits for pictures",
  computing: "computes",
  reporting: "reports",
  evaluating: "evaluates",
  saving: "saves",
  dumping: "dumps",
};

const doingWords: { readonly [D in Doing]: string } = {
  forward: "forward",
  backward: "backward",
  packing: "packs weights",
  loss: "loss",
  summing: "adds shards",
  exchanging: "exchange with ranks",
  checking: "looks for numbers that are not finite",
  updating: "update",
};
