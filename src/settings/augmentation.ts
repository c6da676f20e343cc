/**
 * The augmentation that a run's settings describe: the named one, with the settings that override parts of it.
 *
 * Training and `riffle show-data` ask here, so a contact sheet shows what a training with the same settings sees.
 */

import { type Augmentation, augmentations, evaluationSide } from "../data/pictures/augment.js";
import type { Settings } from "./settings.js";

type Needed = Pick<Settings, "augment" | "crop_area_min" | "flip">;
type Evaluation = Pick<Settings, "image_size" | "eval_resize" | "eval_crop">;

export function augmentationOf(settings: Needed & Partial<Evaluation>): Augmentation {
  const named: Augmentation = augmentations[settings.augment];
  const flip = settings.flip ? named.flip : 0;
  if (named.crop !== "centre") {
    return { ...named, crop: { ...named.crop, area: [settings.crop_area_min, named.crop.area[1]] }, flip };
  }
  // Training on centred pictures sees what evaluation will.
  const { image_size, eval_resize, eval_crop } = settings;
  const shorterSide =
    eval_resize ?? (image_size === undefined ? undefined : evaluationSide(image_size, eval_crop));
  return { ...named, shorterSide, flip };
}
