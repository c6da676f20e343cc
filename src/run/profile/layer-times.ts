/**
 * Where a step's time goes: by layer and direction, held against what the machine can do, and what lies between layers.
 *
 * A layer's time is that of the thread that calls the step, waits for the others counted. Its roof is the lower of what
 * multiply-adds reach and of what its bytes take at the rate of copying memory (Williams et al. 2009, "Roofline").
 * Times are seconds of one step, the mean over those profiled.
 */

import type { Doing, EngineSpan, Peak } from "../../backends/backend.js";
import { costsOf } from "../../program/costs.js";
import type { Program, Step } from "../../program/program.js";
import type { LoopWork } from "./time-line.js";
import type { RankProfile } from "./trace.js";

export interface LayerTime {
  readonly layer: string;
  readonly kind: Step["kind"];
  readonly direction: "forward" | "backward";
  readonly seconds: number;
  /** Of the step, 0 to 1. */
  readonly share: number;
  /** Of `seconds`, in which the calling thread waited for the others. */
  readonly waiting: number;
  /** Of one step, all shards of this rank. */
  readonly bytes: number;
  readonly operations: number;
  /** 10^9 operations a second. */
  readonly gflops: number;
  /** Operations a byte. */
  readonly intensity: number;
  /** gflops as a share of the layer's roof; null where the machine was not measured. */
  readonly roofline: number | null;
}

/** Everything that a step consists of; "handing over" lies between JavaScript and the engine's threads. */
export type StepParts = Readonly<Record<Doing | Exclude<LoopWork, "computing"> | "handing over", number>>;

export interface StepTimes {
  readonly first_step: number;
  readonly last_step: number;
  readonly seconds: number;
  /** Seconds of each; they add up to `seconds`. */
  readonly parts: StepParts;
  readonly gflops: number;
  readonly peak_gflops: number | null;
  readonly copy_gb_per_second: number | null;
  /** In the order in which they run. */
  readonly layers: readonly LayerTime[];
}

/** @param shards of this rank in a step */
export function stepTimes(profile: RankProfile, program: Program, shards: number, peak: Peak): StepTimes {
  const { steps, threads, loop } = profile;
  const count = steps.length;
  const seconds = secondsOf(steps) / count;
  const [caller = []] = threads;
  const costs = costsOf(program);
  const row = (step: Step, index: number, direction: LayerTime["direction"]): LayerTime[] => {
    const spans = caller.filter((span) => span.layer === index && span.doing === direction);
    const time = secondsOf(spans) / count;
    const { operations, bytes } = (costs[index] ?? costs[0])![direction];
    if (spans.length === 0) return [];
    const gflops = (shards * operations) / time / 1e9;
    const intensity = operations / bytes;
    const roof = Math.min(peak.gflops, intensity * peak.copyGigabytes);
    return [
      {
        layer: step.name,
        kind: step.kind,
        direction,
        seconds: time,
        share: time / seconds,
        waiting: secondsOf(spans.filter(({ waits }) => waits)) / count / time,
        bytes: shards * bytes,
        operations: shards * operations,
        gflops,
        intensity,
        roofline: Number.isFinite(roof) ? gflops / roof : null,
      },
    ];
  };
  const layers = [
    ...program.steps.flatMap((step, i) => row(step, i, "forward")),
    ...program.steps.flatMap((step, i) => row(step, i, "backward")).reverse(),
  ];
  const operations = layers.reduce((sum, each) => sum + each.operations, 0);
  return {
    first_step: steps[0]?.step ?? 0,
    last_step: steps.at(-1)?.step ?? 0,
    seconds,
    parts: partsOf(caller, loop, count),
    gflops: operations / seconds / 1e9,
    peak_gflops: finiteOrNull(peak.gflops),
    copy_gb_per_second: finiteOrNull(peak.copyGigabytes),
    layers,
  };
}

function partsOf(
  caller: readonly EngineSpan[],
  loop: RankProfile["loop"],
  count: number,
): StepTimes["parts"] {
  const doing = (what: Doing): number => secondsOf(caller.filter((span) => span.doing === what)) / count;
  const work = (what: LoopWork): number => secondsOf(loop.filter((span) => span.work === what)) / count;
  return {
    forward: doing("forward"),
    backward: doing("backward"),
    packing: doing("packing"),
    loss: doing("loss"),
    summing: doing("summing"),
    exchanging: doing("exchanging"),
    checking: doing("checking"),
    updating: doing("updating"),
    "handing over": work("computing") - secondsOf(caller) / count,
    waiting: work("waiting"),
    reporting: work("reporting"),
    evaluating: work("evaluating"),
    saving: work("saving"),
    dumping: work("dumping"),
  };
}

function secondsOf(spans: readonly { readonly begin: number; readonly end: number }[]): number {
  return spans.reduce((sum, { begin, end }) => sum + end - begin, 0) / 1000;
}

function finiteOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
