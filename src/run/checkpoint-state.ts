/**
 * What a checkpoint says besides its tensors, in `state.json`: where the run stood, its network, settings, data, scores.
 *
 * parse-state.ts reads it as nothing else than what this version writes, so a field that is not known is refused, not guessed.
 */

import type { LossScaleCounts } from "../backends/loss-scale.js";
import type { evaluationDecodings } from "../data/pictures/augment.js";
import type { OrientationRule } from "../data/pictures/orientation.js";
import type { Content } from "../data/content.js";
import type { PictureFile } from "../data/dataset.js";
import type { VariantName, Width } from "../models/variants.js";

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
export type EvaluationPipeline = keyof typeof evaluationDecodings;

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
