/**
 * A run's course as its `events.jsonl` tells it: the choices it began with, its steps and its evaluations.
 *
 * Where a run was resumed from before its last step, what it made again stands for what it made first. Lines that are not
 * ours, or not whole, are counted and passed over: the file is appended to through kills and full disks.
 *
 * Losses are cross-entropies, accuracies fractions, learning rates per step.
 */

import { createReadStream } from "node:fs";

import { z } from "zod";

import { errorCode } from "../core/error.js";

/** Of one reported step, on its own pictures. */
export interface StepPoint {
  readonly step: number;
  readonly epoch: number;
  /** null where it was not finite. */
  readonly loss: number | null;
  readonly top1: number;
  readonly rate: number;
}

/** Of one evaluation, by the weights that count. */
export interface EvaluationPoint {
  readonly step: number;
  readonly epoch: number;
  readonly loss: number | null;
  readonly top1: number;
  readonly best: boolean;
}

export type RunStart = z.infer<typeof startSchema>;
export type RunEnd = z.infer<typeof endSchema>;

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

/** A longer line is none of ours. */
const LONGEST_LINE = 4 * 2 ** 20;

/** @returns an empty history where there is no such file. @throws what the system refuses else. */
export async function readHistory(path: string): Promise<History> {
  const told = new Telling();
  try {
    for await (const line of linesOf(path)) told.hear(line);
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
  return told;
}

class Telling implements History {
  start: RunStart | null = null;
  steps: StepPoint[] = [];
  evaluations: EvaluationPoint[] = [];
  end: RunEnd | null = null;
  beginnings = 0;
  unread = 0;

  hear(line: string | undefined): void {
    if (line?.trim() === "") return;
    const event = eventSchema.safeParse(jsonOf(line));
    if (!event.success) {
      this.unread++;
      return;
    }
    const { data } = event;
    switch (data.event) {
      case "start":
        this.#begin(data);
        return;
      case "step":
        this.steps.push({
          step: data.step,
          epoch: data.epoch,
          loss: data.cross_entropy ?? data.loss,
          top1: data.top1,
          rate: data.learning_rate,
        });
        return;
      case "evaluation":
        // Where averages are kept they come first, and count.
        if (this.evaluations.at(-1)?.step === data.step) return;
        this.evaluations.push({
          step: data.step,
          epoch: data.epoch,
          loss: data.loss,
          top1: data.top1,
          best: data.best,
        });
        return;
      case "end":
        this.end = data;
        return;
      case "other":
        return;
    }
  }

  #begin(start: RunStart): void {
    this.start = start;
    this.end = null;
    this.beginnings++;
    const from = start.resumed?.step ?? 0;
    this.steps = this.steps.filter(({ step }) => step <= from);
    this.evaluations = this.evaluations.filter(({ step }) => step <= from);
  }
}

const scalar = z.union([z.string(), z.number(), z.boolean()]);

/** Of a field that later versions added the older events say nothing. */
const startSchema = z.object({
  event: z.literal("start"),
  time: z.string().optional(),
  network: z.string(),
  classes: z.number(),
  image_size: z.number(),
  parameters: z.number(),
  train_images: z.number(),
  validation_images: z.number(),
  steps: z.number(),
  steps_per_epoch: z.number(),
  images_per_step: z.number(),
  epochs: z.number(),
  recipe: z.string(),
  machine: z.object({ processor: z.string(), isa: z.string(), threads: z.number() }).nullable().optional(),
  ranks: z.object({ size: z.number(), machines: z.number(), library: z.string() }).nullable(),
  settings: z.record(z.string(), scalar),
  origins: z.record(z.string(), z.string()),
  resumed: z.object({ checkpoint: z.string(), step: z.number() }).nullable(),
});

const endSchema = z.object({
  event: z.literal("end"),
  time: z.string().optional(),
  step: z.number(),
  epoch: z.number(),
  reason: z.enum(["steps", "patience"]).optional(),
  unimproved: z.number().optional(),
  images_per_second: z.number().nullable(),
});

/** JSON has no NaN, and writes null for it. */
const stepSchema = z.object({
  event: z.literal("step"),
  step: z.number(),
  epoch: z.number(),
  loss: z.number().nullable(),
  cross_entropy: z.number().nullable().optional(),
  top1: z.number(),
  learning_rate: z.number(),
});

const evaluationSchema = z.object({
  event: z.literal("evaluation"),
  step: z.number(),
  epoch: z.number(),
  loss: z.number().nullable(),
  top1: z.number(),
  best: z.boolean(),
});

/** Those that the report does not tell of. */
const otherSchema = z
  .object({ event: z.string().refine((name) => !["start", "step", "evaluation", "end"].includes(name)) })
  .transform(() => ({ event: "other" as const }));

const eventSchema = z.union([startSchema, stepSchema, evaluationSchema, endSchema, otherSchema]);

function jsonOf(line: string | undefined): unknown {
  try {
    return line === undefined ? undefined : JSON.parse(line);
  } catch {
    return undefined;
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
