/**
 * The network that a path or a name means for using it: a run or checkpoint of ours, any file or folder of weights that
 * open.ts recognises, or weights that others publish (named-weights.ts), matched, described and loaded into memory without a
 * run being made of it.
 *
 * Prediction, evaluation, inspection and export come in here, so one path or name means one network to all of them.
 */

import { basename } from "node:path";

import type { Weights } from "../backends/backend.js";
import { UsageError } from "../core/error.js";
import type { Scheme } from "../models/tensor-names.js";
import type { VariantName, Width } from "../models/variants.js";
import { bundlePrefix } from "../formats/tf-bundle.js";
import { stepOf } from "../formats/tf-checkpoint-state.js";
import type { ModelDescription } from "../run/checkpoint-state.js";
import type { FetchingEvent, WarningEvent, WeightsEvent } from "../run/events.js";
import { findWeights, type FoundCheckpoint, meansOwn } from "../run/find-checkpoint.js";
import type { GivenSettings } from "../settings/settings.js";
import { importWeights } from "./import-weights.js";
import type { WeightChoice } from "./match.js";
import { provideWeights, settingsOfNamed, weightsPath } from "./named-weights.js";

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
  /** Where they were named: what is published of them, and whether they were fetched now. */
  readonly published?: WeightsEvent;
}

/** For people: what it is, and what was done and assumed, a line each. */
export function originLines(
  { form, scheme, averages, notices, published }: WeightsOrigin,
  model: ModelDescription,
): string[] {
  const { variant, width, classes, eval_resize, image_size, pipeline } = model;
  return [
    `${form}, names of ${scheme}${averages ? ", averages" : ""}: ShuffleNet V2 ${width.toFixed(1)}x (${variant}), ${classes} classes`,
    `${published === undefined ? "assumed" : "as published"}: shorter side ${eval_resize}, centre ${image_size} px, the ${pipeline} way`,
    ...notices,
  ];
}

export interface FindOptions {
  /** Where names and shapes leave more than one. */
  readonly variant?: VariantName | undefined;
  /** Of a file from elsewhere that has both. */
  readonly weights?: WeightChoice | undefined;
  /** Of weights that are named: another width than theirs is refused before they are fetched. */
  readonly width?: Width | undefined;
  /** They are only taken from where they were kept. */
  readonly offline?: boolean | undefined;
  /** Hears of their coming. */
  readonly report?: ((event: FetchingEvent | WarningEvent) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** @throws CheckpointError; for weights that are named also what fetching throws */
export async function findNetwork(given: string, options: FindOptions = {}): Promise<FoundNetwork> {
  const { variant, width, weights: choice } = options;
  const ofNamed = settingsOfNamed({ init_from: given, variant, width });
  const published = ofNamed === undefined ? undefined : await provided(given, options);
  const path = weightsPath(given);
  if (await meansOwn(path)) {
    const { checkpoint, weights } = await findWeights(path);
    const { path: folder, passedOver, state } = checkpoint;
    refuseOther({ variant }, state.model, path);
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
  const asked = { variant, weights: choice, evalResize: ofNamed?.eval_resize, isForUse: true };
  const { form, recognised, weights, model, notices } = await importWeights(path, asked);
  const { scheme, averages } = recognised;
  const origin = { form, scheme, averages, notices, ...(published === undefined ? {} : { published }) };
  const step = stepOf(basename(bundlePrefix(path)));
  return { path, model, weights, step, checkpoint: undefined, origin, passedOver: [] };
}

/** Sees to it that weights that are named are there, and says which they are. */
async function provided(
  given: string,
  { offline, report, signal }: FindOptions,
): Promise<WeightsEvent | undefined> {
  let found: WeightsEvent | undefined;
  await provideWeights(
    { init_from: given, offline },
    (event) => {
      if (event.event === "weights") found = event;
      else if (event.event === "fetching" || event.event === "warning") report?.(event);
    },
    signal,
  );
  return found;
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
