/**
 * The augmentation that a run's settings describe: the named one, with the settings that override parts of it.
 *
 * Training and `riffle show-data` ask here, so a contact sheet shows what a training with the same settings sees.
 */

import { type Augmentation, augmentations } from "../data/augment.js";
import type { Settings } from "./settings.js";

export function augmentationOf(settings: Pick<Settings, "augment" | "crop_area_min" | "flip">): Augmentation {
  const named: Augmentation = augmentations[settings.augment];
  return {
    ...named,
    crop:
      named.crop === "centre"
        ? "centre"
        : { ...named.crop, area: [settings.crop_area_min, named.crop.area[1]] },
    flip: settings.flip ? named.flip : 0,
  };
}
