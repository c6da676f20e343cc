/** What training begins with, of an open file of weights; initialise-from.ts opens those on a disk. */

import type { Weights } from "../backends/backend.js";
import { CheckpointError, withNumbers } from "../core/error.js";
import { printable } from "../core/printable.js";
import type { ParameterTable } from "../models/initialise.js";
import type { VariantName } from "../models/variants.js";
import { untouched } from "../run/checkpoint-error.js";
import { otherNetwork, sameShape } from "../run/checkpoint-tensors.js";
import type { SettingsOfWeights } from "../settings/resolve-settings.js";
import { fillFrom } from "./fill.js";
import { isClassifier, isHead, matchNetwork, recognise } from "./match.js";
import type { WeightsFile } from "./weights-file.js";

/** As {@link initialiseFrom} says. */
export async function startFrom(
  file: WeightsFile,
  variant: VariantName,
  layout: ParameterTable,
  weights: Weights,
  classNames: readonly string[],
  notice: (what: string) => void = () => undefined,
): Promise<LeftAsDrawn> {
  const { scheme, found, missing, wrong, unfit, choices } = matchNetwork(file, layout);
  if (scheme !== "canonical" && scheme !== variant) throw otherVariant(file.path, variant, scheme);
  const [misfit] = wrong;
  if (misfit !== undefined) {
    throw otherNetwork(file.path, misfit[1], misfit[0].shape, file.tensors.get(misfit[1])?.shape);
  }
  const needed = missing.find(({ canonical }) => !isHead(canonical));
  if (needed !== undefined) throw otherNetwork(file.path, needed.name, needed.shape, undefined);
  const skipped = missing.map(({ canonical }) => canonical);
  const isSame = ([tensor, name]: (typeof found)[number]): boolean =>
    sameShape(file.tensors.get(name)?.shape ?? [], tensor.shape);
  // A classifier of another number of classes is not taken anyway, whatever else it lacks.
  const classifier = found.filter(([{ canonical }]) => isClassifier(canonical));
  if (unfit !== undefined && classifier.length > 0 && classifier.every(isSame)) throw unfit;
  for (const what of [...file.notices, ...choices]) notice(what);
  if (unfit !== undefined) notice(withNumbers(unfit.problem));
  const rows = classifier.length > 0 && classifier.every(isSame) ? rowsOf(file, classNames) : undefined;
  if (rows !== undefined) notice(rows.says);
  for (const [tensor, name] of found) {
    const { canonical, array, offset, size } = tensor;
    if (!isSame([tensor, name]) || (isClassifier(canonical) && !classifier.every(isSame))) {
      skipped.push(canonical);
    } else if (isClassifier(canonical) && rows !== undefined) {
      const own = weights[array].subarray(offset, offset + size);
      const drawn = own.slice();
      await fillFrom(file, [tensor, name], weights[array]);
      follow(rows.from, own, drawn, outputsOf(layout));
    } else await fillFrom(file, [tensor, name], weights[array]);
  }
  const unknown = rows?.from.includes(-1) === true;
  return { tensors: skipped, classifier: unknown || skipped.some(isClassifier) };
}

/** What the weights did not fill. */
export interface LeftAsDrawn {
  /** Names of whole tensors. */
  readonly tensors: readonly string[];
  /** Whether any row of the classifier is as it was. */
  readonly classifier: boolean;
}

/** For each class the file's row, or -1, and what is to be said; undefined where rows stay as they are. */
function rowsOf(
  file: WeightsFile,
  classNames: readonly string[],
): { readonly from: readonly number[]; readonly says: string } | undefined {
  const theirs = file.classNames.find(({ names }) => names.length === classNames.length);
  if (theirs === undefined || theirs.names.every((name, i) => name === classNames[i])) return undefined;
  const places = new Map(theirs.names.map((name, i) => [name, i]));
  const from = classNames.map((name) => places.get(name) ?? -1);
  const unknown = classNames.filter((_, i) => from[i] === -1);
  const named = unknown.slice(0, 5).map(printable).join(", ") + (unknown.length > 5 ? ", ..." : "");
  const says =
    unknown.length === classNames.length
      ? `the classifier starts from the seed: ${theirs.from} names other classes`
      : unknown.length === 0
        ? `the classifier's rows were put in the order of the classes, by the names in ${theirs.from}`
        : `the classifier's rows follow the names in ${theirs.from}; those of ${named} start from the seed`;
  return { from, says };
}

function outputsOf(layout: ParameterTable): number {
  return layout.parameters.find(({ role }) => role === "linear")?.shape[0] ?? 1;
}

/** Rearranges the rows of `own`, which stand in the file's order; further ones stay drawn. */
function follow(from: readonly number[], own: Float32Array, drawn: Float32Array, outputs: number): void {
  const theirs = own.slice();
  const length = own.length / outputs;
  own.set(drawn);
  from.forEach((row, i) => {
    if (row >= 0) own.set(theirs.subarray(row * length, (row + 1) * length), i * length);
  });
}

/** The network that a file holds, and the size of the pictures it saw where the file says so; nothing where it fits none or several. */
export function settingsIn(file: WeightsFile, wanted: VariantName | undefined): SettingsOfWeights {
  const recognised = orUndefined(() =>
    recognise(file, { variant: wanted, weights: file.isOwn ? "raw" : undefined }),
  );
  if (recognised === undefined) return {};
  const { variant, width } = recognised;
  const size = Number(file.metadata.get("image_size"));
  return { variant, width, ...(size >= 32 ? { image_size: size } : {}) };
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
