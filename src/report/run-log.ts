/**
 * Lines of a run's `events.jsonl` as the events that are told of it; a line that is none of ours is undefined.
 *
 * Losses are cross-entropies, accuracies and shares fractions, learning rates per step, times in seconds.
 */

import { z } from "zod";

/** A longer line is none of ours. Bytes. */
export const LONGEST_LINE = 4 * 2 ** 20;

export type RunStart = z.infer<typeof startSchema>;
export type RunStep = z.infer<typeof stepSchema>;
export type RunEvaluation = z.infer<typeof evaluationSchema>;
export type RunEnd = z.infer<typeof endSchema>;
/** How a run ended: at its last step, stopped on request before it, or failed. */
export type RunEnding = RunEnd | z.infer<typeof stoppedSchema> | z.infer<typeof failedSchema>;
/** `other` is an event that nothing here tells of. */
export type LogEvent =
  | RunStart
  | RunStep
  | RunEvaluation
  | RunEnding
  | z.infer<typeof warningSchema>
  | { readonly event: "other" };

export function readEvent(line: string): LogEvent | undefined {
  const value = jsonOf(line);
  const named = namedSchema.safeParse(value);
  if (!named.success) return undefined;
  const { event } = named.data;
  if (!Object.hasOwn(schemas, event)) return { event: "other" };
  const read = schemas[event as keyof typeof schemas].safeParse(value);
  return read.success ? read.data : undefined;
}

function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

const namedSchema = z.object({ event: z.string() });

const scalar = z.union([z.string(), z.number(), z.boolean()]);
const time = z.string().optional();
/** JSON has no NaN, and writes null for it. */
const loss = z.number().nullable();
/** Of a field that later versions added the older events say nothing. */
const later = z.number().nullable().optional();

const startSchema = z.object({
  event: z.literal("start"),
  time,
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
  /** The classifier, solved on views of the training pictures before the first step. */
  solved: z
    .object({ pictures: z.number(), views: z.number(), features: z.number() })
    .nullable()
    .optional()
    .catch(null),
  resumed: z.object({ checkpoint: z.string(), step: z.number() }).nullable(),
});

const stepSchema = z.object({
  event: z.literal("step"),
  step: z.number(),
  epoch: z.number(),
  loss,
  cross_entropy: loss.optional(),
  top1: z.number(),
  learning_rate: z.number(),
  images_per_second: later,
  waiting: later,
  seconds_left: later,
  skipped: later,
});

const evaluationSchema = z.object({
  event: z.literal("evaluation"),
  step: z.number(),
  epoch: z.number(),
  loss,
  top1: z.number(),
  best: z.boolean(),
});

const endSchema = z.object({
  event: z.literal("end"),
  time,
  step: z.number(),
  epoch: z.number(),
  reason: z.enum(["steps", "patience"]).optional(),
  unimproved: z.number().optional(),
  images_per_second: z.number().nullable(),
});

const stoppedSchema = z.object({ event: z.literal("stopped"), time, step: z.number(), epoch: z.number() });

const failedSchema = z.object({
  event: z.literal("failed"),
  time,
  step: z.number(),
  epoch: z.number(),
  what: z.string(),
});

const warningSchema = z.object({ event: z.literal("warning"), time, what: z.string() });

const schemas = {
  start: startSchema,
  step: stepSchema,
  evaluation: evaluationSchema,
  end: endSchema,
  stopped: stoppedSchema,
  failed: failedSchema,
  warning: warningSchema,
} as const;
