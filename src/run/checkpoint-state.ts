/**
 * What a checkpoint says besides its tensors, in `state.json`: where the run stood, its network, settings, data, scores.
 *
 * It is read as nothing else than what this version writes, so a field that is not known is refused, not guessed.
 */

import { join } from "node:path";

import { z } from "zod";

import type { LossScaleCounts } from "../backends/loss-scale.js";
import { CheckpointError } from "../core/error.js";
import { evaluationDecodings } from "../data/pictures/augment.js";
import { type OrientationRule, orientationRules } from "../data/pictures/orientation.js";
import type { Content } from "../data/content.js";
import type { PictureFile } from "../data/dataset.js";
import { type VariantName, variantNames, type Width, widths } from "../models/variants.js";
import { untouched } from "./checkpoint-error.js";

export const stateFile = "state.json";

/** Scores on the whole validation set, accuracies as fractions. */
export interface Scores {
  readonly images: number;
  /** Mean softmax cross-entropy, without smoothing and weight decay; NaN where it was not finite, null in files. */
  readonly loss: number;
  readonly top1: number;
  readonly top5: number;
}

/** The evaluation whose weights lie in `best/`. */
export interface Best {
  readonly step: number;
  readonly top1: number;
  /** Absent in checkpoints of versions before ties went to the lower loss. */
  readonly loss?: number | undefined;
}

/** A key of `evaluationDecodings` in data/augment.ts. */
type EvaluationPipeline = keyof typeof evaluationDecodings;

/** What makes a network: enough to build it and to feed it. */
export interface ModelDescription {
  readonly variant: VariantName;
  readonly width: Width;
  /** Outputs; at least as many as there are names. */
  readonly classes: number;
  /** Pixels. */
  readonly image_size: number;
  /** Shorter side before the central crop, pixels. */
  readonly eval_resize: number;
  /** How pictures are decoded and resized for evaluation. */
  readonly pipeline: EvaluationPipeline;
  /** Whether pictures are turned as their EXIF says; absent in older checkpoints, which took them as they are stored. */
  readonly exif_orientation?: OrientationRule | undefined;
  readonly class_names: readonly string[];
}

/** Which pictures a run is trained on. */
export interface TrainedOn {
  /** Of names, sizes and labels. */
  readonly fingerprint: string;
  readonly train_images: number;
  /** Of the content, a sample (data/content.ts); absent in older checkpoints and for synthetic pictures. */
  readonly content?: Content | undefined;
}

/** What a run held out, which its split.json names. */
export interface SplitState {
  /** Of every class; null where the data had a part of its own to be scored. */
  readonly share: number | null;
  readonly held_out: number;
  /** Of split.json. */
  readonly sha256: string;
}

/** How a classifier that the weights did not have was made before the first step (finetune/classifier.ts). */
export interface SolvedClassifier {
  readonly pictures: number;
  /** Of each picture. */
  readonly views: number;
  /** Of each view: numbers that the classifier is given. */
  readonly features: number;
  /** Where it was solved: on the features, or on what the classifier that the weights came with makes of them; features where absent. */
  readonly space?: "features" | "earlier_outputs" | undefined;
  readonly penalty: number;
  /** Pictures of the training part that classifiers of other pictures were tried on, and the share that was right; null for none. */
  readonly held_out: { readonly pictures: number; readonly top1: number } | null;
  /** Whether the solver came to the minimum before its iterations ended; absent in checkpoints of versions that did not say. */
  readonly converged?: boolean | undefined;
}

export interface CheckpointState {
  /** One line for whoever opens the file. */
  readonly readme: string;
  readonly format: "riffle-checkpoint";
  readonly version: 1;
  /** "training" can be resumed; "weights" holds one set of weights. */
  readonly kind: "training" | "weights";
  /** Updates made. */
  readonly step: number;
  readonly steps_per_epoch: number;
  /** Step of the last evaluation, or -1. */
  readonly evaluated_step: number;
  /** Scores of the last evaluation, null before the first. */
  readonly scores: Scores | null;
  readonly best: Best | null;
  /** Evaluations since, in a row, that were no better than the best before them; absent for none. */
  readonly unimproved?: number | undefined;
  readonly model: ModelDescription;
  /** Every setting of the run, and who decided it. */
  readonly settings: Readonly<Record<string, string | number | boolean>>;
  readonly origins: Readonly<Record<string, string>>;
  readonly data: TrainedOn;
  /** What the run held out; absent in checkpoints of versions that remembered no names. */
  readonly split?: SplitState | undefined;
  /** Absent where the classifier was not solved. */
  readonly solved?: SolvedClassifier | undefined;
  /** Files of the training set that were bad so far: one that is removed later keeps its place. */
  readonly bad_images?: readonly PictureFile[] | undefined;
  /** Steps whose numbers were not finite, and whose batches were passed over; absent for none. */
  readonly skipped?: number | undefined;
  /** Where the loss is scaled. */
  readonly loss_scale?: LossScaleCounts | undefined;
  /** Sizes of the other files, in bytes. */
  readonly bytes: Readonly<Record<string, number>>;
}

/** A checkpoint whose bytes have been verified. */
export interface Checkpoint {
  readonly path: string;
  readonly state: CheckpointState;
  /** Its SHA256SUMS: two with the same are the same. */
  readonly sums: string;
}

/**
 * How pictures are turned where a model does not say. Weights from elsewhere, which have no state or one of no training, are shown
 * people's photographs the right way up. An older run of ours sees them as it was trained: as they are stored.
 */
export function unsaidOrientation(
  state: Pick<CheckpointState, "step" | "data"> | undefined,
): OrientationRule {
  return state === undefined || (state.step === 0 && state.data.fingerprint === "") ? "apply" : "ignore";
}

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
      space: z.enum(["features", "earlier_outputs"]).optional(),
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
