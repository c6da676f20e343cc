/**
 * The classifier in a file: one matrix with its bias, also as the one layer with weights of a Sequential ("fc.1.weight"), and
 * why there may be none that this network can have.
 *
 * What follows the stages is there whole or not at all. A bias that is not in the file is never drawn, and a layer or bias
 * that the network does not have is never left out: either would compute something that was not trained.
 */

import { CheckpointError } from "../core/error.js";
import { shellWord } from "../core/printable.js";
import type { Scheme, WeightTensor } from "../models/tensor-names.js";
import type { Place } from "./place.js";
import type { WeightsFile } from "./weights-file.js";

/** Names in the file; undefined where there is no such tensor. */
export interface Head {
  readonly weight: string | undefined;
  readonly bias: string | undefined;
  /** Further tensors of the classifier. */
  readonly others: readonly string[];
}

/** What PyTorch's authors call it; a Sequential in its place adds numbers. */
const roots: Readonly<Partial<Record<Scheme, string>>> = { torchvision: "fc", megvii: "classifier" };

export function headOf(file: WeightsFile, { scheme, prefix, suffix, output }: Place): Head {
  const root = roots[scheme];
  if (root === undefined) {
    const [weight, bias] = scheme === "tensorflow" ? ["weights", "biases"] : ["weight", "bias"];
    const separator = scheme === "tensorflow" ? "/" : ".";
    const named = (tensor: string): string | undefined => {
      const name = `${prefix}classifier${separator}${tensor}${suffix}${output}`;
      return file.tensors.has(name) ? name : undefined;
    };
    return { weight: named(weight), bias: named(bias), others: [] };
  }
  const start = `${prefix}${root}.`;
  const names = [...file.tensors.keys()].filter((name) => name.startsWith(start));
  const layerOf = (name: string): string => name.slice(0, name.lastIndexOf(".") + 1);
  // The last matrix: of a head of several layers the one that gives the outputs.
  const weight = names
    .filter((name) => name.endsWith(".weight") && file.tensors.get(name)?.shape.length === 2)
    .at(-1);
  const layer = layerOf(weight ?? names.find((name) => /\.(weight|bias)$/.test(name)) ?? start);
  const bias = names.find((name) => name === `${layer}bias`);
  const others = names.filter((name) => name !== weight && name !== bias);
  // A quantised matrix, say: what an object would make is no classifier that can be drawn over unseen.
  const objects = [...file.objects].filter(([name]) => name.startsWith(start));
  return { weight, bias, others: [...others, ...objects.map(([name, made]) => `${name}, a ${made}`)] };
}

/** Why a classifier cannot be taken over; undefined where it can, or there is none. */
export function unfitHead(
  file: WeightsFile,
  head: Head,
  expected: { readonly hasBias: boolean; readonly outputAxis: number; readonly variant: string },
): CheckpointError | undefined {
  const { weight, bias, others } = head;
  const path = shellWord(file.path);
  const refuse = (what: string, wanted: string, found: string): CheckpointError =>
    new CheckpointError({
      what,
      where: file.path,
      expected: wanted,
      found,
      safe: "Nothing was written",
      hint: `To train a new classifier on the rest: npx riffle-vision import ${path} --classifier drop --num_classes N --log_dir NEW`,
    });
  if (weight === undefined && bias === undefined && others.length === 0) return undefined;
  if (others.length > 0) {
    return refuse(
      "the classifier has more than a matrix and its bias, which this network has not",
      "one matrix",
      others.join(", "),
    );
  }
  if (weight === undefined) {
    return refuse("the classifier's bias is there without its weights", "both", `only ${bias}`);
  }
  if (expected.hasBias && bias === undefined) {
    return refuse(
      "the classifier's weights are there without their bias, and none is invented",
      "both",
      `only ${weight}`,
    );
  }
  if (!expected.hasBias && bias !== undefined) {
    return refuse(
      `the classifier has a bias, which the ${expected.variant} network has not`,
      `only ${weight}`,
      bias,
    );
  }
  const outputs = file.tensors.get(weight)?.shape[expected.outputAxis];
  const biases = bias === undefined ? outputs : file.tensors.get(bias)?.shape[0];
  if (biases !== outputs) {
    return refuse(
      "the classifier's weights and bias have different numbers of outputs",
      `${outputs}`,
      `${biases}`,
    );
  }
  if (outputs === 1) {
    return refuse(
      "the classifier has one output: a score, which says nothing of two classes without its threshold",
      "an output for each class, two at least",
      `${weight} of shape [${file.tensors.get(weight)?.shape.join(", ")}]`,
    );
  }
  return undefined;
}

/** Why what follows the stages is not whole: a tensor is missing beside others. Undefined where all of it is there, or a part as one. */
export function brokenHead(
  file: WeightsFile,
  prefix: string,
  {
    found,
    missing,
  }: {
    readonly found: readonly (readonly [WeightTensor, string])[];
    readonly missing: readonly WeightTensor[];
  },
): CheckpointError | undefined {
  const lacking = missing.find(({ canonical }) => canonical.startsWith("conv5."));
  const beside = found.find(([{ canonical }]) => /^(conv5|classifier)\./.test(canonical));
  if (lacking === undefined || beside === undefined) return undefined;
  return new CheckpointError({
    what: "a tensor of what follows the stages is missing beside others of it, and none is invented",
    where: file.path,
    expected: `a tensor ${prefix}${lacking.name}, as there is ${beside[1]}`,
    found: missingWord(file, `${prefix}${lacking.name}`),
    safe: "Nothing was written",
  });
}

/** What stands where a tensor is looked for. */
export function missingWord(file: WeightsFile, name: string): string {
  const object = file.objects.get(name);
  return object === undefined ? "no such tensor" : `what ${object} would make, which is not read`;
}
