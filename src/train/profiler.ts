/**
 * Profiles a window of a run's steps and leaves in its folder
 *
 *     RUN/profile/trace.json      what every thread of every rank did, for Perfetto and chrome://tracing (run/profile/trace.ts)
 *     RUN/profile/layers.json     time, bytes, operations of each layer in either direction (layer-times.ts)
 *     RUN/profile/roofline.html   the same as a picture and a table (roofline-page.ts)
 *
 * Files appear whole; an earlier profile is replaced. Outside of its window it costs a comparison a step, and nothing that
 * is trained depends on it: what cannot be written is a warning.
 */

import { hostname } from "node:os";
import { join } from "node:path";

import { chooseBackend } from "../backends/registry.js";
import { makeFolder, replaceFile } from "../core/durable.js";
import { asRiffleError, RiffleError } from "../core/error.js";
import type { ProfileEvent } from "../run/events.js";
import type { Journal } from "../run/journal.js";
import { precisionWords, storageOf } from "../settings/precision.js";
import { parseSteps, rangeWords, type StepRange } from "../settings/step-list.js";
import { stepsBeforeGrowth } from "./growth.js";
import type { Plan } from "./plan.js";
import type { Prepared } from "./prepare.js";
import { stepTimes, type StepTimes } from "../run/profile/layer-times.js";
import { rooflinePage } from "../run/profile/roofline-page.js";
import { type LoopWork, TimeLine } from "../run/profile/time-line.js";
import { type RankProfile, traceFile } from "../run/profile/trace.js";

/** Steps of a command that are profiled unless told: caches and threads are warm by then. */
const USUAL: StepRange = { first: 5, last: 14 };

/** A command that makes fewer is profiled from its first step on. */
const FEW = 10;

/** Of more ranks the first so many are in the trace. */
const RANKS_SHOWN = 16;

export class Profiler {
  readonly #plan: Plan;
  readonly #prepared: Prepared;
  readonly #journal: Journal;
  readonly #window: StepRange | undefined;
  /** While steps are profiled. */
  #line: TimeLine | undefined;

  constructor(plan: Plan, prepared: Prepared, journal: Journal) {
    this.#plan = plan;
    this.#prepared = prepared;
    this.#journal = journal;
    if (!plan.settings.profiling) return;
    if (prepared.run.startProfile === undefined) {
      journal.warn("this backend's threads cannot be profiled, so nothing is");
      return;
    }
    this.#window = windowOf(plan, prepared.standing.step);
    if (this.#window === undefined)
      journal.warn("the run is past the steps that are to be profiled, so none is");
  }

  /** Whether a step is one of those profiled. */
  isDue(step: number): boolean {
    return this.#window !== undefined && this.#window.first <= step && step <= this.#window.last;
  }

  /** A step is about to begin. */
  begin(step: number): void {
    if (this.#window === undefined) return;
    const { first, last } = this.#window;
    if (step === first) {
      this.#prepared.run.startProfile?.((last - first + 1) * this.#plan.shards.count);
      this.#line = new TimeLine();
    }
    this.#line?.begin(step);
  }

  /** What the loop does from here on. */
  enter(work: LoopWork): void {
    this.#line?.enter(work);
  }

  /** A step has ended with all that follows it; after the last of the run or the window, all ranks make the profile. */
  async end(step: number, isLast: boolean): Promise<void> {
    this.#line?.end();
    if (this.#line === undefined || (!isLast && step !== this.#window?.last)) return;
    const { steps, spans: loop } = this.#line;
    this.#line = undefined;
    const taken = this.#prepared.run.takeProfile?.();
    if (taken === undefined) return;
    const { ranks } = this.#plan;
    ranks.place("saving", step);
    const own: RankProfile = { ...taken, rank: ranks.rank, host: hostname(), steps, loop };
    const all = await this.#everyRanks(own);
    if (own.lost > 0) this.#journal.warn(`the profile lacks ${own.lost} spans that there was no room for`);
    if (ranks.rank === 0) await this.#write(own, all);
  }

  async #everyRanks(own: RankProfile): Promise<RankProfile[]> {
    const { ranks } = this.#plan;
    if (ranks.size === 1) return [own];
    const text = own.rank < RANKS_SHOWN ? JSON.stringify(own) : "";
    const all = await ranks.gather("profile", Buffer.from(text), { patient: true });
    if (ranks.rank > 0) return [];
    return all.slice(0, RANKS_SHOWN).map((bytes) => JSON.parse(Buffer.from(bytes).toString()) as RankProfile);
  }

  async #write(own: RankProfile, all: readonly RankProfile[]): Promise<void> {
    const { runDir, settings, shards, model, ranks } = this.#plan;
    const { program, network } = this.#prepared;
    const threads = settings.threads ?? ranks.threads;
    const folder = join(runDir, "profile");
    const layers = program.steps.map(({ name }) => name);
    try {
      const backend = await chooseBackend(settings.backend);
      const times = stepTimes(
        own,
        program,
        shards.count,
        await backend.peak({ threads }, storageOf(settings.precision_mode)),
      );
      const machine = backend.machine();
      const heading = {
        network: `${network.name}, ${model.classes} classes, ${model.image_size} px, batch ${settings.batch_size}`,
        machine: `${threads || machine.threads} threads, ${machine.isa}, ${precisionWords(settings.precision_mode)}`,
      };
      const about = { ...heading, steps: rangeWords({ first: times.first_step, last: times.last_step }) };
      await makeFolder(folder);
      await replaceFile(join(folder, "trace.json"), [...traceFile(all, layers, about)]);
      await replaceFile(join(folder, "layers.json"), [Buffer.from(`${JSON.stringify(times, null, 2)}\n`)]);
      await replaceFile(join(folder, "roofline.html"), [Buffer.from(rooflinePage(times, heading))]);
      this.#journal.emit(eventOf(times, folder));
    } catch (thrown) {
      const error = asRiffleError(thrown);
      if (!(error instanceof RiffleError)) throw error;
      this.#journal.warn(`the profile is not written: ${error.message}`);
    }
  }
}

/** Layers of the event, the longest first. */
const LAYERS_TOLD = 12;

function eventOf({ layers, ...times }: StepTimes, folder: string): ProfileEvent {
  const longest = layers.toSorted((a, b) => b.seconds - a.seconds).slice(0, LAYERS_TOLD);
  return { event: "profile", ...times, folder, layers: longest, layers_in_all: layers.length };
}

/** The steps to profile of those that this command makes: undefined where it makes none of them. */
function windowOf({ settings, length }: Plan, done: number): StepRange | undefined {
  const { profile_steps: told } = settings;
  const [given] = told === undefined ? [] : parseSteps(told, "profile_steps", 1);
  const few = length.steps - done < FEW;
  const { first, last } = given ?? {
    first: done + (few ? 1 : USUAL.first),
    last: done + USUAL.last,
  };
  const from = Math.max(first, done + 1);
  // Steps of one size: growing pictures are another program.
  const growth = stepsBeforeGrowth(settings, length);
  const window = { first: from, last: Math.min(last, length.steps, ...(from <= growth ? [growth] : [])) };
  return window.first <= window.last ? window : undefined;
}
