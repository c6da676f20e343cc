/** What a training in a page will do: its settings, by the same recipes as everywhere, its network and its length. */

import { UsageError } from "../core/error.js";
import { evaluationSide } from "../data/pictures/augment.js";
import type { ModelDescription } from "../run/checkpoint-state.js";
import {
  resolveSettings,
  type ResolvedSettings,
  type SettingsOfWeights,
} from "../settings/resolve-settings.js";
import { type RunLength, runLength } from "../settings/schedule.js";
import { accepts, expectation } from "../settings/setting-kinds.js";
import { type GivenSettings, type SettingName, settings as table } from "../settings/settings.js";
import type { KeptSizes } from "./kept-pictures.js";
import type { TrainOptions } from "./training.js";

export type Asked = Pick<
  TrainOptions,
  "width" | "imageSize" | "batchSize" | "epochs" | "learningRate" | "seed" | "threads"
>;

export interface TrainingPlan extends ResolvedSettings {
  readonly model: ModelDescription;
  readonly length: RunLength;
}

/** What is usual in a page: a network that learns in a minute on a laptop. */
const USUAL = { width: 0.5, imageSize: 64 } as const;

/** The setting behind each option. */
const settingOf = {
  width: "width",
  imageSize: "image_size",
  batchSize: "batch_size",
  epochs: "max_epochs",
  learningRate: "lr",
  seed: "seed",
  threads: "threads",
} as const satisfies Readonly<Record<keyof Asked, SettingName>>;

/** @throws UsageError for a value that the setting does not take */
export function refuseOptions(asked: Asked, hasWeights: boolean): void {
  for (const [option, name] of Object.entries(settingOf)) {
    const value = asked[option as keyof Asked];
    if (value === undefined || accepts(table[name], value)) continue;
    if (option === "epochs" && value === 0 && hasWeights) continue;
    throw new UsageError({
      what: `${option} cannot be ${JSON.stringify(value) ?? String(value)}`,
      where: `option ${option}`,
      expected: expectation(table[name]),
      found: JSON.stringify(value) ?? String(value),
      safe: "Nothing was trained or written",
    });
  }
}

/**
 * @param trainImages pictures that are trained on
 * @param weights a file to begin with, and what it says of its network
 * @param drawsClassifier whether the steps have to learn the classifier, because it is not solved
 */
export function planTraining(
  asked: Asked,
  classes: readonly string[],
  trainImages: number,
  weights: { readonly name: string; readonly says: SettingsOfWeights } | undefined,
  drawsClassifier = false,
): TrainingPlan {
  const { width, imageSize, batchSize, epochs, learningRate, seed } = asked;
  const usual = weights === undefined ? USUAL : { width: undefined, imageSize: undefined };
  const given: GivenSettings = {
    width: width ?? usual.width,
    image_size: imageSize ?? usual.imageSize,
    batch_size: batchSize,
    lr: learningRate,
    seed,
    log_dir: "run",
    data_dir: "data",
    ...(epochs === 0 ? { freeze: true } : { max_epochs: epochs }),
    ...(weights === undefined ? {} : { init_from: weights.name }),
  };
  const resolved = resolveSettings(given, trainImages, weights?.says, 1, drawsClassifier);
  const { settings } = resolved;
  const isSolved = weights !== undefined && !drawsClassifier;
  return {
    ...resolved,
    model: modelOf(settings, classes),
    length: runLength(settings, trainImages, isSolved),
  };
}

/** No crop of a picture that is trained on is enlarged; what is scored is made as small as evaluation makes it. */
export function sizesOf({ settings, model }: Pick<TrainingPlan, "settings" | "model">): KeptSizes {
  const crop = Math.ceil(model.image_size / Math.sqrt(settings.crop_area_min));
  return { heldOut: model.eval_resize, train: Math.max(model.eval_resize, crop) };
}

function modelOf(settings: ResolvedSettings["settings"], classes: readonly string[]): ModelDescription {
  const { variant, width, image_size, augment, eval_resize, eval_crop, exif_orientation } = settings;
  return {
    variant,
    width,
    classes: classes.length,
    image_size,
    eval_resize: eval_resize ?? evaluationSide(image_size, eval_crop),
    pipeline: augment === "tensorflow" ? "tensorflow" : "torchvision",
    exif_orientation,
    class_names: classes,
  };
}
