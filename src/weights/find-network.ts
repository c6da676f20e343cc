/**
 * The network that a path means for using it: a run or checkpoint of ours, or any file or folder of weights that open.ts
 * recognises, matched, described and loaded into memory without a run being made of it.
 *
 * Prediction, evaluation, inspection and export come in here, so one path means one network to all of them.
 */

import { basename, resolve } from "node:path";

import type { Weights } from "../backends/backend.js";
import { UsageError } from "../core/error.js";
import type { Scheme } from "../models/tensor-names.js";
import type { VariantName } from "../models/variants.js";
import { bundlePrefix } from "../formats/tf-bundle.js";
import { stepOf } from "../formats/tf-checkpoint-state.js";
import type { ModelDescription } from "../run/checkpoint-state.js";
import { findWeights, type FoundCheckpoint, meansOwn } from "../run/find-checkpoint.js";
import type { GivenSettings } from "../settings/settings.js";
import { importWeights } from "./import-weights.js";
import type { WeightChoice } from "./match.js";

/** A network ready to be loaded into an engine. */
export interface FoundNetwork {
  /** The checkpoint's folder, or the file or folder given. */
  readonly path: string;
  readonly model: ModelDescription;
  readonly weights: Weights;
  /** Updates made; undefined where nothing says it. */
  readonly step: number | undefined;
  /** Where it is ours. */
  readonly checkpoint: FoundCheckpoint | undefined;
  /** Where it is from elsewhere. */
  readonly origin: WeightsOrigin | undefined;
  /** Checkpoints that were passed over for this one: which and why, a sentence each. */
  readonly passedOver: readonly string[];
}

/** What weights from elsewhere are, and what was done or assumed to use them. */
export interface WeightsOrigin {
  /** "PyTorch checkpoint (zip)" */
  readonly form: string;
  /** Whose names the tensors have. */
  readonly scheme: Scheme;
  /** Whether these are averages of the weights. */
  readonly averages: boolean;
  readonly notices: readonly string[];
}

/** For people: what it is, and what was done and assumed, a line each. */
export function originLines(
  { form, scheme, averages, notices }: WeightsOrigin,
  model: ModelDescription,
): string[] {
  const { variant, width, classes, eval_resize, image_size, pipeline } = model;
  return [
    `${form}, names of ${scheme}${averages ? ", averages" : ""}: ShuffleNet V2 ${width.toFixed(1)}x (${variant}), ${classes} classes`,
    `assumed: shorter side ${eval_resize}, centre ${image_size} px, the ${pipeline} way`,
    ...notices,
  ];
}

export interface FindOptions {
  /** Where names and shapes leave more than one. */
  readonly variant?: VariantName | undefined;
  /** Of a file from elsewhere that has both. */
  readonly weights?: WeightChoice | undefined;
}

/** @throws CheckpointError */
export async function findNetwork(given: string, options: FindOptions = {}): Promise<FoundNetwork> {
  const path = resolve(given);
  if (await meansOwn(path)) {
    const { checkpoint, weights } = await findWeights(path);
    const { path: folder, passedOver, state } = checkpoint;
    refuseOther({ variant: options.variant }, state.model, path);
    return {
      path: folder,
      model: state.model,
      weights,
      step: state.step,
      checkpoint,
      origin: undefined,
      passedOver,
    };
  }
  const asked = { ...options, isForUse: true };
  const { form, recognised, weights, model, notices } = await importWeights(path, asked);
  const { scheme, averages } = recognised;
  const origin = { form, scheme, averages, notices };
  const step = stepOf(basename(bundlePrefix(path)));
  return { path, model, weights, step, checkpoint: undefined, origin, passedOver: [] };
}

/** Settings of the network that are not what its weights say. @throws UsageError */
export function refuseOther(
  given: Pick<GivenSettings, "variant" | "width" | "num_classes">,
  { variant, width, classes }: ModelDescription,
  path: string,
): void {
  const found = { variant, width, num_classes: classes };
  for (const name of ["variant", "width", "num_classes"] as const) {
    if (given[name] === undefined || given[name] === found[name]) continue;
    throw new UsageError({
      what: `the weights are of another network than --${name} asks for`,
      where: path,
      expected: `${given[name]}`,
      found: `${found[name]}`,
      safe: "Nothing was written",
      hint: `Leave --${name} out: the weights say it`,
    });
  }
}
