/**
 * A run's course as its `events.jsonl` tells it: the choices it began with, its steps and its evaluations.
 *
 * Where a run was resumed from before its last step, what it made again stands for what it made first. Lines that are not
 * ours, or not whole, are counted and passed over: the file is appended to through kills and full disks.
 *
 * Losses are cross-entropies, accuracies fractions, learning rates per step.
 */

import { createReadStream } from "node:fs";

import { errorCode } from "../core/error.js";
import {
  LONGEST_LINE,
  readEvent,
  type RunEnd,
  type RunEnding,
  type RunEvaluation,
  type RunStart,
  type RunStep,
} from "./run-log.js";

export type { RunEnd, RunStart };

/** Of one reported step, on its own pictures. */
export interface StepPoint {
  readonly step: number;
  readonly epoch: number;
  /** null where it was not finite. */
  readonly loss: number | null;
  readonly top1: number;
  readonly rate: number;
  /** Images per second over the last steps, and the share of them spent waiting for pictures; null where it was not said. */
  readonly speed?: number | null;
  readonly waiting?: number | null;
}

/** Of one evaluation, by the weights that count. */
export type EvaluationPoint = Omit<RunEvaluation, "event">;

export interface History {
  /** The last beginning; null where the file tells of none. */
  readonly start: RunStart | null;
  readonly steps: readonly StepPoint[];
  readonly evaluations: readonly EvaluationPoint[];
  /** null where the run has not reached its end. */
  readonly end: RunEnd | null;
  /** How often it was begun: 1 and one for every resume. */
  readonly beginnings: number;
  /** Lines that could not be read. */
  readonly unread: number;
}

/** Where steps are kept: all of them, or the means of more and more. */
export interface StepKeeper {
  add(point: StepPoint): void;
  /** Forgets what came after a step, from which the run goes on. */
  rewind(step: number): void;
}

/** @returns an empty history where there is no such file. @throws what the system refuses else. */
export async function readHistory(path: string): Promise<History> {
  const steps = new EveryStep();
  const told = new Telling(steps);
  try {
    for await (const line of linesOf(path)) told.hear(line);
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
  const { start, evaluations, ending, beginnings, unread } = told;
  return {
    start,
    steps: steps.points,
    evaluations,
    end: ending?.event === "end" ? ending : null,
    beginnings,
    unread,
  };
}

/** What has been told of a run so far, line by line. */
export class Telling {
  start: RunStart | null = null;
  /** The last; null before the first since the last beginning. */
  step: RunStep | null = null;
  evaluations: EvaluationPoint[] = [];
  /** null where the run goes on, or has ended without a word. */
  ending: RunEnding | null = null;
  beginnings = 0;
  unread = 0;
  /** The last few since the last beginning. */
  warnings: string[] = [];

  /**
   * @param mostEvaluations more are thinned, the best one kept
   */
  constructor(
    private readonly steps: StepKeeper,
    private readonly mostEvaluations = Infinity,
  ) {}

  /** @param line undefined for one that is too long to be ours */
  hear(line: string | undefined): void {
    if (line?.trim() === "") return;
    const event = line === undefined ? undefined : readEvent(line);
    if (event === undefined) {
      this.unread++;
      return;
    }
    switch (event.event) {
      case "start":
        this.#begin(event);
        return;
      case "step":
        this.step = event;
        this.steps.add({
          step: event.step,
          epoch: event.epoch,
          loss: event.cross_entropy ?? event.loss,
          top1: event.top1,
          rate: event.learning_rate,
          speed: event.images_per_second ?? null,
          waiting: event.waiting ?? null,
        });
        return;
      case "evaluation":
        this.#evaluated(event);
        return;
      case "end":
      case "stopped":
      case "failed":
        this.ending = event;
        return;
      case "warning":
        this.warnings = [...this.warnings, event.what].slice(-MOST_WARNINGS);
        return;
      case "other":
        return;
    }
  }

  #begin(start: RunStart): void {
    this.start = start;
    this.step = null;
    this.ending = null;
    this.warnings = [];
    this.beginnings++;
    const from = start.resumed?.step ?? 0;
    this.steps.rewind(from);
    this.evaluations = this.evaluations.filter(({ step }) => step <= from);
  }

  #evaluated({ step, epoch, loss, top1, best }: RunEvaluation): void {
    // Where averages are kept they come first, and count.
    if (this.evaluations.at(-1)?.step === step) return;
    this.evaluations.push({ step, epoch, loss, top1, best });
    if (this.evaluations.length <= this.mostEvaluations) return;
    const kept = bestOf(this.evaluations);
    this.evaluations = this.evaluations.filter((point, i) => i % 2 === 0 || point === kept);
  }
}

const MOST_WARNINGS = 5;

/** The last that was the best so far: the weights in `best/`. */
export function bestOf(evaluations: readonly EvaluationPoint[]): EvaluationPoint | undefined {
  return evaluations.findLast(({ best }) => best);
}

class EveryStep implements StepKeeper {
  points: StepPoint[] = [];

  add(point: StepPoint): void {
    this.points.push(point);
  }

  rewind(from: number): void {
    this.points = this.points.filter(({ step }) => step <= from);
  }
}

/** Lines of a file; undefined for one that is too long to be ours. */
async function* linesOf(path: string): AsyncGenerator<string | undefined> {
  let held: Buffer[] = [];
  let length = 0;
  const taken = (): string | undefined => {
    const line = length > LONGEST_LINE ? undefined : Buffer.concat(held).toString("utf8");
    held = [];
    length = 0;
    return line;
  };
  const hold = (piece: Buffer): void => {
    length += piece.length;
    if (length <= LONGEST_LINE) held.push(piece);
    else held = [];
  };
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      hold(chunk.subarray(from, at));
      yield taken();
      from = at + 1;
    }
    hold(chunk.subarray(from));
  }
  if (length > 0) yield taken();
}

const NEWLINE = 0x0a;
