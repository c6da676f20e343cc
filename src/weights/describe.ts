/**
 * What a network needs besides its weights, or its user has to know: how pictures are prepared for it, the names of its
 * classes, and what was done or assumed on the way.
 */

import { UsageError } from "../core/error.js";
import { evaluationSide } from "../data/pictures/augment.js";
import { challengeClasses } from "../prepare/imagenet/challenge-classes.js";
import type { ModelDescription } from "../run/checkpoint-state.js";
import type { Recognised } from "./match.js";
import type { WeightsFile } from "./open.js";

/** What the user says of a network; the rest is as the file has it, or as is usual. */
export interface Said {
  /** A name for each output; outputs beyond them have none. */
  readonly classNames?: readonly string[] | undefined;
  /** Pixels: 224. */
  readonly imageSize?: number | undefined;
  /** Pixels of the shorter side in evaluation: 256 for 224. */
  readonly evalResize?: number | undefined;
}

/** How the classifier came about. */
interface Outputs {
  readonly classes: number;
  /** It is new, from `seed`. */
  readonly drawn: boolean;
  readonly seed: number;
}

/**
 * The network in full, and a sentence for each thing done beyond copying, or assumed. Each variant with the pictures it was
 * trained on: its lineage's decoder and resize, or Pillow's as torchvision has it.
 *
 * @throws UsageError when there are more names than outputs, or one twice.
 */
export function describe(
  file: WeightsFile,
  recognised: Recognised,
  outputs: Outputs,
  said: Said,
): { readonly model: ModelDescription; readonly notices: readonly string[] } {
  const { variant, width } = recognised;
  const { classes } = outputs;
  const names = said.classNames ?? namesOf(file, recognised, outputs);
  refuseNames(names, classes);
  const recorded = Number(file.metadata.get("image_size") ?? NaN);
  const imageSize = said.imageSize ?? (Number.isInteger(recorded) && recorded >= 32 ? recorded : 224);
  return {
    model: {
      variant,
      width,
      classes,
      image_size: imageSize,
      eval_resize: said.evalResize ?? evaluationSide(imageSize),
      pipeline: variant === "tensorflow" ? "tensorflow" : "torchvision",
      class_names: names ?? challengeClasses.slice(0, classes),
    },
    notices: noticesOf(recognised, outputs, names === undefined),
  };
}

/** A few names, and how many more there are. */
export function listOf(names: readonly string[]): string {
  const more = names.length > 5 ? ` and ${names.length - 5} more` : "";
  return names.slice(0, 5).join(", ") + more;
}

/** The file's names; undefined where nobody said so, but 1,000 outputs of these networks are ImageNet's. */
function namesOf(
  file: WeightsFile,
  { scheme, classes: found }: Recognised,
  { classes, drawn }: Outputs,
): readonly string[] | undefined {
  if (drawn) return [];
  const recorded = recordedNames(file.metadata.get("class_names"));
  if (recorded !== undefined) return recorded.slice(0, classes);
  const isImageNet = found === challengeClasses.length && scheme !== "canonical" && scheme !== "tensorflow";
  return isImageNet ? undefined : [];
}

/** As our own files carry them. */
function recordedNames(json: string | undefined): readonly string[] | undefined {
  try {
    const names: unknown = JSON.parse(json ?? "null");
    return Array.isArray(names) && names.every((name) => typeof name === "string") ? names : undefined;
  } catch {
    return undefined;
  }
}

function refuseNames(names: readonly string[] = [], classes: number): void {
  const seen = new Set<string>();
  const twice = names.find((name) => seen.size === seen.add(name).size);
  if (names.length <= classes && twice === undefined) return;
  throw new UsageError({
    what: twice === undefined ? "more names than outputs" : "the same class name twice",
    where: "option --classes",
    expected: twice === undefined ? `at most ${classes}` : `${classes} different names`,
    found: twice ?? `${names.length}`,
    safe: "Nothing was written",
  });
}

function noticesOf(
  { prefix, averages, classes: found, leftOver }: Recognised,
  { classes, drawn, seed }: Outputs,
  assumed: boolean,
): string[] {
  return [
    ...(prefix === "" ? [] : [`every name begins with ${JSON.stringify(prefix)}, which was passed over`]),
    ...(averages
      ? ["the averages of the weights were taken; --weights raw takes what they were averaged from"]
      : []),
    ...(drawn
      ? [`the classifier is new, ${classes} outputs drawn from seed ${seed}: train before you predict`]
      : []),
    ...(drawn || found === classes ? [] : [`the classifier had ${found} outputs and has ${classes} now`]),
    ...(assumed
      ? ["the outputs are named by ImageNet's WordNet ids in order; --classes FILE names them otherwise"]
      : []),
    ...(leftOver.length > 0 ? [`left out, as no part of this network: ${listOf(leftOver)}`] : []),
  ];
}
