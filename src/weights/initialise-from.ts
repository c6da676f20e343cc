/**
 * Weights that training starts from: a checkpoint or run of ours, or any file that open.ts recognises.
 */

import type { Weights } from "../backends/backend.js";
import type { ParameterTable } from "../models/initialise.js";
import type { VariantName } from "../models/variants.js";
import type { SettingsOfWeights } from "../settings/resolve-settings.js";
import { useWeights } from "./open.js";
import { type LeftAsDrawn, settingsIn, startFrom } from "./start-from.js";

/**
 * Fills what fits, and leaves as it is what the file does not have of the classifier and conv5 (a detector's backbone
 * has neither), and a classifier of another number of classes. Where the file names its classes, rows of the classifier follow
 * the names, and a class that it does not know keeps the row that was drawn.
 *
 * @param classNames of the network that is filled
 * @param notice is told what was taken of several, and what was passed over
 * @throws CheckpointError when any other tensor is missing or has another shape.
 */
export function initialiseFrom(
  path: string,
  variant: VariantName,
  layout: ParameterTable,
  weights: Weights,
  classNames: readonly string[],
  notice: (what: string) => void = () => undefined,
): Promise<LeftAsDrawn> {
  return useWeights(path, (file) => startFrom(file, variant, layout, weights, classNames, notice));
}

/**
 * The network that a file holds, and the size of the pictures it saw where the file says so. Nothing where it fits none or
 * several: the settings decide then, and {@link initialiseFrom} says what does not fit them.
 */
export function settingsOfWeights(path: string, wanted: VariantName | undefined): Promise<SettingsOfWeights> {
  return useWeights(path, (file) => Promise.resolve(settingsIn(file, wanted)));
}
