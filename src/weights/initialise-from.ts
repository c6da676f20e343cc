/**
 * Weights that training starts from: a checkpoint or run of ours, or any file that is recognised.
 */

import { readdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";

import type { Weights } from "../backends/backend.js";
import { CheckpointError } from "../core/error.js";
import type { ParameterTable } from "../models/initialise.js";
import type { VariantName } from "../models/variants.js";
import { stepOf, sumsFile } from "../run/checkpoint.js";
import { asCheckpointError, untouched } from "../run/checkpoint-error.js";
import { fill, otherNetwork, sameShape, slotsOf, weightsFile } from "../run/checkpoint-tensors.js";
import { findCheckpoint } from "../run/find-checkpoint.js";
import { isHead, matchNetwork, openForeign, readInto } from "./foreign-weights.js";

/**
 * Starts from weights that are there already: a checkpoint or run of ours, or any file that foreign-weights.ts reads.
 *
 * Fills what fits, and leaves as it is what the file does not have of the classifier and conv5 (a detector's backbone
 * has neither), and a classifier of another number of classes.
 *
 * @returns the names of tensors left as they were.
 * @throws CheckpointError when any other tensor is missing or has another shape.
 */
export async function initialiseFrom(
  path: string,
  variant: VariantName,
  layout: ParameterTable,
  weights: Weights,
): Promise<string[]> {
  if (!(await isOwn(path))) return initialiseFromForeign(path, variant, layout, weights);
  const optional = new Set(
    layout.parameters.filter(({ role }) => role === "linear" || role === "bias").map(({ name }) => name),
  );
  const checkpoint = await findCheckpoint(path);
  return fill(join(checkpoint.path, weightsFile), slotsOf(layout, { kind: "weights", weights }), optional);
}

/** A checkpoint or a run, which have checksums to be verified by. */
async function isOwn(path: string): Promise<boolean> {
  if (basename(path) === weightsFile) return true;
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() !== true) return false;
  const names = await readdir(path);
  return names.some((name) => name === sumsFile || name === "best" || stepOf(name) !== undefined);
}

async function initialiseFromForeign(
  path: string,
  variant: VariantName,
  layout: ParameterTable,
  weights: Weights,
): Promise<string[]> {
  try {
    const file = await openForeign(path);
    try {
      const { scheme, found, missing, wrong } = matchNetwork(file, layout);
      if (scheme !== "canonical" && scheme !== variant) throw otherVariant(path, variant, scheme);
      const [misfit] = wrong;
      if (misfit !== undefined) {
        throw otherNetwork(path, misfit[1], misfit[0].shape, file.tensors.get(misfit[1])?.shape);
      }
      const needed = missing.find(({ canonical }) => !isHead(canonical));
      if (needed !== undefined) throw otherNetwork(path, needed.name, needed.shape, undefined);
      const skipped = missing.map(({ canonical }) => canonical);
      for (const [tensor, name] of found) {
        const { shape } = file.tensors.get(name) as { readonly shape: readonly number[] };
        if (sameShape(shape, tensor.shape)) await readInto(file, [tensor, name], weights);
        else skipped.push(tensor.canonical);
      }
      return skipped;
    } finally {
      await file.close();
    }
  } catch (error) {
    throw asCheckpointError(error, path);
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
