/**
 * What the engine is given of a step: pictures, what else the loss needs of them, and the numbers of the update.
 *
 * All of it is a function of the settings and of the step's number, so a run that is resumed gives what it would have
 * given, and a step that is only tried (trial.ts) is one that could be trained.
 */

import type { Batch, Loop, Shard, UpdateSettings } from "../backends/backend.js";
import { classWeights } from "../data/class-weights.js";
import { type BadImage, type BatchSource, type LoadedBatch, trainingBatches } from "../data/loader.js";
import { badImageLimit } from "../run/run-data.js";
import { augmentationOf } from "../settings/augmentation.js";
import { dropoutMask } from "./dropout.js";
import { longestLoop } from "./loop.js";
import type { Plan } from "./plan.js";
import { batchesAhead, type Prepared } from "./prepare.js";
import { averageDecay } from "../settings/schedule.js";

export class StepInputs {
  /** [classes]: what the loss of a picture is multiplied by; absent where all weigh alike. */
  readonly classWeights: Float32Array | undefined;

  constructor(
    private readonly plan: Plan,
    private readonly prepared: Pick<Prepared, "program">,
  ) {
    const { settings, data, model } = plan;
    if (settings.class_weights === "balanced") this.classWeights = classWeights(data.train, model.classes);
  }

  /** @param step the first, steps that were skipped counted; `known` are bad pictures that were told */
  source(step: number, known: readonly BadImage[]): BatchSource {
    const { settings, model, data, shards, length } = this.plan;
    const { imageSize } = this.prepared.program;
    const eval_resize = Math.round((model.eval_resize * imageSize) / model.image_size);
    return trainingBatches(data.train, {
      batch: settings.batch_size,
      shards,
      ...batchesAhead(settings, shards.count, longestLoop(settings, length)),
      imageSize,
      seed: settings.seed,
      firstStep: step,
      augmentation: augmentationOf({ ...settings, image_size: imageSize, eval_resize }),
      shuffle: settings.shuffle,
      mixup: settings.mixup,
      maxBadImages: badImageLimit(settings),
      known,
    });
  }

  /** Of consecutive shards, `first` that of the first; `step` is the data's, those that were skipped counted. */
  of(loaded: readonly LoadedBatch[], first: Shard, step: number): Omit<Loop, "updates"> {
    const { settings } = this.plan;
    return {
      batches: loaded.map((batch) => this.#batchOf(batch)),
      first,
      loss: { labelSmoothing: settings.label_smoothing, weightDecay: settings.weight_decay },
      dropoutMasks: this.#masks(loaded.length, first, step),
    };
  }

  /** Of the step after `steps` updates. */
  update(rate: number, steps: number): UpdateSettings {
    const { settings } = this.plan;
    return {
      learningRate: rate,
      momentum: settings.momentum,
      nesterov: settings.nesterov,
      weightDecay: settings.weight_decay,
      averageDecay: settings.average_decay === 0 ? 0 : averageDecay(settings.average_decay, steps + 1),
    };
  }

  /** Of a picture that is mixed of two each part weighs as its class does: together, and in the target as its share of that. */
  #batchOf({ images, labels, mixed }: LoadedBatch): Batch {
    const ofClass = this.classWeights;
    if (ofClass === undefined) return { images, labels, mixed };
    const weightOf = (label: number): number => ofClass[label] as number;
    if (mixed === undefined) return { images, labels, weights: Float32Array.from(labels, weightOf) };
    const weights = new Float32Array(labels.length);
    const shares = mixed.shares.map((share, i) => {
      const own = share * weightOf(labels[i] as number);
      const whole = own + (1 - share) * weightOf(mixed.labels[i] as number);
      weights[i] = whole;
      return own / whole;
    });
    return { images, labels, weights, mixed: { labels: mixed.labels, shares } };
  }

  #masks(batches: number, first: Shard, step: number): Float32Array[] | undefined {
    const { settings, shards } = this.plan;
    const masks = Array.from({ length: batches }, (_, i) => {
      const index = first.index + i;
      return dropoutMask(this.prepared.program, {
        seed: settings.seed,
        step: step + Math.floor(index / first.count),
        shard: shards.first + (index % first.count),
      });
    }).filter((mask) => mask !== undefined);
    return masks.length === 0 ? undefined : masks;
  }
}
