/** Reads what a checkpoint says of itself (checkpoint-state.ts), as nothing else than what this version writes. */

import { join } from "node:path";

import { z } from "zod";

import { CheckpointError } from "../core/error.js";
import { evaluationDecodings } from "../data/pictures/augment.js";
import { orientationRules } from "../data/pictures/orientation.js";
import { variantNames, widths } from "../models/variants.js";
import { untouched } from "./checkpoint-error.js";
import { type CheckpointState, type EvaluationPipeline, stateFile } from "./checkpoint-state.js";

/** @throws CheckpointError naming what this version does not write. */
export function parseState(json: Uint8Array, path: string): CheckpointState {
  try {
    return stateSchema.parse(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json)));
  } catch (error) {
    const found = error instanceof z.ZodError ? z.prettifyError(error).replaceAll("\n", "; ") : String(error);
    throw new CheckpointError(
      {
        what: "is not a state that this version reads",
        where: join(path, stateFile),
        expected: "riffle-checkpoint version 1",
        found,
        ...untouched,
      },
      error,
    );
  }
}

const scoresSchema = z.strictObject({
  images: z.int().nonnegative(),
  // JSON has no NaN, and writes null for it.
  loss: z
    .number()
    .nullable()
    .transform((loss) => loss ?? NaN),
  top1: z.number(),
  top5: z.number(),
});

const stateSchema: z.ZodType<CheckpointState> = z.strictObject({
  readme: z.string(),
  format: z.literal("riffle-checkpoint"),
  version: z.literal(1),
  kind: z.enum(["training", "weights"]),
  step: z.int().nonnegative(),
  steps_per_epoch: z.int().positive(),
  evaluated_step: z.int().min(-1),
  scores: scoresSchema.nullable(),
  best: z
    .strictObject({ step: z.int().nonnegative(), top1: z.number(), loss: z.number().optional() })
    .nullable(),
  model: z.strictObject({
    variant: z.enum(variantNames),
    width: z.literal(widths),
    classes: z.int().min(2),
    image_size: z.int().min(32).max(4096),
    eval_resize: z.int().min(32).max(8192),
    pipeline: z.enum(Object.keys(evaluationDecodings) as EvaluationPipeline[]),
    exif_orientation: z.enum(orientationRules).optional(),
    class_names: z.array(z.string()),
  }),
  settings: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  origins: z.record(z.string(), z.string()),
  data: z.strictObject({
    fingerprint: z.string(),
    train_images: z.int().nonnegative(),
    content: z.array(z.string().nullable()).optional(),
  }),
  bad_images: z
    .array(
      z.strictObject({ name: z.string(), bytes: z.int().nonnegative(), modified: z.number().optional() }),
    )
    .optional(),
  split: z
    .strictObject({
      share: z.number().nullable(),
      held_out: z.int().nonnegative(),
      sha256: z.string().regex(/^[0-9a-f]{64}$/),
    })
    .optional(),
  solved: z
    .strictObject({
      pictures: z.int().positive(),
      views: z.int().positive(),
      features: z.int().positive(),
      penalty: z.number(),
      held_out: z.strictObject({ pictures: z.int().positive(), top1: z.number() }).nullable(),
      converged: z.boolean().optional(),
    })
    .optional(),
  unimproved: z.int().nonnegative().optional(),
  skipped: z.int().nonnegative().optional(),
  loss_scale: z
    .strictObject({
      scale: z
        .number()
        .min(1)
        .refine((scale) => scale === Math.fround(scale), "is no f32"),
      good: z.int().min(0).max(999),
      bad: z.int().min(0).max(1),
      consecutive: z.int().nonnegative(),
    })
    .optional(),
  bytes: z.record(z.string(), z.int().nonnegative()),
});
