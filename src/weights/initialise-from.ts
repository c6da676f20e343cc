/**
 * Weights that training starts from: a checkpoint or run of ours, or any file that open.ts recognises.
 */

import type { Weights } from "../backends/backend.js";
import { CheckpointError, withNumbers } from "../core/error.js";
import type { ParameterTable } from "../models/initialise.js";
import type { VariantName } from "../models/variants.js";
import type { SettingsOfWeights } from "../settings/resolve-settings.js";
import { untouched } from "../run/checkpoint-error.js";
import { otherNetwork, sameShape } from "../run/checkpoint-tensors.js";
import { fillFrom } from "./fill.js";
import { isClassifier, isHead, matchNetwork, recognise } from "./match.js";
import { useWeights } from "./open.js";

/**
 * Fills what fits, and leaves as it is what the file does not have of the classifier and conv5 (a detector's backbone
 * has neither), and a classifier of another number of classes.
 *
 * @param notice is told what was taken of several, and what was passed over
 * @returns the names of tensors left as they were.
 * @throws CheckpointError when any other tensor is missing or has another shape.
 */
export function initialiseFrom(
  path: string,
  variant: VariantName,
  layout: ParameterTable,
  weights: Weights,
  notice: (what: string) => void = () => undefined,
): Promise<string[]> {
  return useWeights(path, async (file) => {
    const { scheme, found, missing, wrong, unfit, choices } = matchNetwork(file, layout);
    if (scheme !== "canonical" && scheme !== variant) throw otherVariant(path, variant, scheme);
    const [misfit] = wrong;
    if (misfit !== undefined) {
      throw otherNetwork(path, misfit[1], misfit[0].shape, file.tensors.get(misfit[1])?.shape);
    }
    const needed = missing.find(({ canonical }) => !isHead(canonical));
    if (needed !== undefined) throw otherNetwork(path, needed.name, needed.shape, undefined);
    const skipped = missing.map(({ canonical }) => canonical);
    const isSame = ([tensor, name]: (typeof found)[number]): boolean =>
      sameShape(file.tensors.get(name)?.shape ?? [], tensor.shape);
    // A classifier of another number of classes is not taken anyway, whatever else it lacks.
    const classifier = found.filter(([{ canonical }]) => isClassifier(canonical));
    if (unfit !== undefined && classifier.length > 0 && classifier.every(isSame)) throw unfit;
    for (const what of [...file.notices, ...choices]) notice(what);
    if (unfit !== undefined) notice(withNumbers(unfit.problem));
    for (const [tensor, name] of found) {
      if (isSame([tensor, name]) && (classifier.every(isSame) || !isClassifier(tensor.canonical))) {
        await fillFrom(file, [tensor, name], weights[tensor.array]);
      } else skipped.push(tensor.canonical);
    }
    return skipped;
  });
}

/**
 * The network that a file holds, and the size of the pictures it saw where the file says so. Nothing where it fits none or
 * several: the settings decide then, and {@link initialiseFrom} says what does not fit them.
 */
export function settingsOfWeights(path: string, wanted: VariantName | undefined): Promise<SettingsOfWeights> {
  return useWeights(path, (file) => {
    const recognised = orUndefined(() =>
      recognise(file, { variant: wanted, weights: file.isOwn ? "raw" : "average" }),
    );
    if (recognised === undefined) return Promise.resolve({});
    const { variant, width } = recognised;
    const size = Number(file.metadata.get("image_size"));
    return Promise.resolve({ variant, width, ...(size >= 32 ? { image_size: size } : {}) });
  });
}

function orUndefined<T>(find: () => T): T | undefined {
  try {
    return find();
  } catch (error) {
    if (error instanceof CheckpointError) return undefined;
    throw error;
  }
}

/** The three networks compute different things with the same shapes, so the file's names decide. */
function otherVariant(path: string, variant: VariantName, found: VariantName): CheckpointError {
  return new CheckpointError({
    what: "the weights are of another variant of the network",
    where: path,
    expected: variant,
    found: `${found}'s names`,
    ...untouched,
    hint: `Give --variant ${found}`,
  });
}
