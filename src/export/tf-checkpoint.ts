/**
 * The road between Riffle's checkpoints and TensorFlow's: exported ones open in TensorFlow, imported ones go on training.
 *
 * Names, layouts and files: train/tf-checkpoint.ts.
 */

import { resolve } from "node:path";

import { makeFolder, probeFolder } from "../core/durable.js";
import { CheckpointError, ResourceError, UsageError } from "../core/error.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "../program/compile.js";
import {
  type Checkpoint,
  loadTraining,
  loadWeights,
  recoverRun,
  saveCheckpoint,
  stepFolder,
} from "../train/checkpoint.js";
import type { Reporter } from "../train/events.js";
import { planRun } from "../train/plan.js";
import { lockRun } from "../train/run-lock.js";
import type { GivenSettings } from "../train/settings.js";
import {
  importTfCheckpoint,
  type TfCheckpoint,
  type TfState,
  writeTfCheckpoint,
  type WriteTfOptions,
} from "../train/tf-checkpoint.js";

export { importTfCheckpoint, type TfCheckpoint, tfTensors } from "../train/tf-checkpoint.js";
export { latestCheckpoint } from "../formats/tf-checkpoint-state.js";

/** A run that was made from a foreign checkpoint: `riffle train --resume run` continues it. */
export interface ImportedRun {
  readonly run: string;
  /** Folder of its one checkpoint. */
  readonly checkpoint: string;
  readonly step: number;
  /** Of the whole run, as the settings have it. */
  readonly steps: number;
  readonly imported: TfCheckpoint;
  /** What the checkpoint did not hold, and what stands in its place. */
  readonly notices: readonly string[];
}

/**
 * Writes `folder/model.ckpt-STEP` and the file `checkpoint`. One set of weights (`best/`) is written as its own averages,
 * since the lineage evaluates averages.
 *
 * @returns the prefix
 * @throws UsageError for a network that the lineage does not have, CheckpointError, ResourceError
 */
export async function exportTfCheckpoint(
  checkpoint: Checkpoint,
  folder: string,
  options: WriteTfOptions = {},
): Promise<string> {
  const { model, kind, step } = checkpoint.state;
  if (model.variant !== "tensorflow") {
    throw new UsageError({
      what: "TensorFlow's lineage has another network: these weights would load there and score worse",
      where: checkpoint.path,
      expected: "a network of --variant tensorflow",
      found: model.variant,
      safe: "Nothing was written",
      hint: "Export it as safetensors or ONNX",
    });
  }
  const { width, classes, image_size } = model;
  const network = shuffleNetV2({ variant: model.variant, width, classes });
  const layout = compile(network, { batch: 1, imageSize: image_size, mode: "infer" });
  let state: TfState;
  if (kind === "training") state = await loadTraining(checkpoint, layout);
  else {
    const weights = await loadWeights(checkpoint, layout);
    state = { ...weights, averages: weights.parameters };
  }
  await makeFolder(resolve(folder)).catch((cause: unknown) => {
    throw new ResourceError(
      {
        what: `the folder cannot be made: ${cause instanceof Error ? cause.message : String(cause)}`,
        where: folder,
        safe: "Nothing was written",
        hint: "Name another folder, or one that you may write into",
      },
      cause,
    );
  });
  return writeTfCheckpoint(resolve(folder), layout, step, state, options);
}

/**
 * Makes a run of a TensorFlow checkpoint: its weights, statistics, momentum, averages and step in `runFolder`, with the
 * settings and data that training goes on with.
 *
 * @param given as for a new run; the network is the checkpoint's.
 * @throws CheckpointError, UsageError, DataError, ResourceError
 */
export async function importAsRun(
  path: string,
  runFolder: string,
  given: GivenSettings,
  report: Reporter = () => undefined,
  signal?: AbortSignal,
): Promise<ImportedRun> {
  const imported = await importTfCheckpoint(path);
  const { width, classes, layout } = imported;
  refuseOtherNetwork(given, imported);
  const runDir = resolve(runFolder);
  await probeFolder(runDir);
  const lock = await lockRun(runDir);
  try {
    await recoverRun(runDir);
    const asked = { ...given, variant: "tensorflow", width, num_classes: classes, log_dir: runDir } as const;
    const plan = await planRun(asked, runDir, report, signal);
    try {
      const { settings, origins, model, data } = plan;
      const stepsPerEpoch = Math.floor(data.train.size / settings.batch_size);
      if (stepsPerEpoch === 0) {
        throw new UsageError({
          what: "the batch is larger than the training set",
          where: `--batch_size ${settings.batch_size}`,
          expected: `at most ${data.train.size} images`,
          found: `${settings.batch_size}`,
          safe: "Nothing was written",
        });
      }
      const step = imported.step ?? 0;
      const checkpoint = await saveCheckpoint(
        runDir,
        stepFolder(step),
        layout,
        { kind: "training", state: trainingState(imported) },
        {
          step,
          steps_per_epoch: stepsPerEpoch,
          evaluated_step: -1,
          scores: null,
          best: null,
          model,
          settings: valuesOf(settings),
          origins,
          data: { fingerprint: data.train.fingerprint, train_images: data.train.size },
        },
      );
      const steps = Math.max(1, Math.floor(settings.max_epochs * stepsPerEpoch));
      return { run: runDir, checkpoint, step, steps, imported, notices: noticesOf(imported, step, steps) };
    } finally {
      await plan.data.close();
    }
  } finally {
    await lock.release();
  }
}

function trainingState({ parameters, statistics, momentum, averages }: TfCheckpoint) {
  return {
    parameters,
    statistics,
    momentum: momentum ?? new Float32Array(parameters.length),
    averages: averages ?? parameters.slice(),
    gradients: new Float32Array(0),
  };
}

/** The network is the checkpoint's; settings that ask for another one are refused, not overruled. */
function refuseOtherNetwork(given: GivenSettings, { path, width, classes }: TfCheckpoint): void {
  const network = { variant: "tensorflow", width, num_classes: classes } as const;
  for (const name of ["variant", "width", "num_classes"] as const) {
    if (given[name] === undefined || given[name] === network[name]) continue;
    throw new CheckpointError({
      what: `the checkpoint is of another network than --${name} asks for`,
      where: path,
      expected: `${given[name]}`,
      found: `${network[name]}`,
      safe: "Nothing was written",
      hint: `Leave --${name} out: the checkpoint says it`,
    });
  }
}

function noticesOf(imported: TfCheckpoint, step: number, steps: number): string[] {
  const { momentum, averages, ignored, passedOver } = imported;
  const more = ignored.length > 5 ? ` and ${ignored.length - 5} more` : "";
  return [
    ...passedOver.map((what) => `passed over ${what}`),
    ...(imported.step === undefined ? ["the checkpoint holds no global_step: the run begins at step 0"] : []),
    ...(momentum === undefined ? ["the checkpoint holds no momentum: it begins at zero"] : []),
    ...(averages === undefined ? ["the checkpoint holds no averages: they begin at the weights"] : []),
    ...(ignored.length > 0
      ? [`left out what this network does not have: ${ignored.slice(0, 5).join(", ")}${more}`]
      : []),
    ...(step >= steps
      ? [`the checkpoint is at step ${step}, the settings end at step ${steps}: nothing is left to train`]
      : []),
  ];
}

/** Settings that have a value. */
function valuesOf(settings: GivenSettings): Record<string, string | number | boolean> {
  return Object.fromEntries(
    Object.entries(settings).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}
