/**
 * A TensorFlow checkpoint becomes a run that training goes on with.
 *
 * Names, layouts and files: weights/tf-checkpoint.ts.
 */

import { resolve } from "node:path";

import { closing } from "../core/closing.js";
import { probeFolder } from "../core/durable.js";
import { CheckpointError } from "../core/error.js";
import { recoverRun, saveCheckpoint, stepFolder } from "../run/checkpoint.js";
import type { Reporter } from "../run/events.js";
import { planRun } from "./plan.js";
import { trainingFingerprint } from "../run/run-data.js";
import { splitStateOf, writeSplit } from "../run/split-record.js";
import { lockRun } from "../run/run-lock.js";
import { valuesOf } from "../settings/read-settings.js";
import type { GivenSettings } from "../settings/settings.js";
import { importTfCheckpoint, type TfCheckpoint } from "../weights/tf-checkpoint.js";

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
  const leaveNothing = await probeFolder(runDir);
  const warn = (what: string): void => report({ event: "warning", what });
  return closing(async (atEnd) => {
    atEnd(leaveNothing);
    const lock = await lockRun(runDir);
    atEnd(() => lock.release());
    if (lock.warning !== undefined) warn(lock.warning);
    await recoverRun(runDir);
    const asked = { ...given, variant: "tensorflow", width, num_classes: classes, log_dir: runDir } as const;
    const { settings, origins, model, data, content, length } = await planRun(asked, runDir, report, signal);
    atEnd(() => data.close());
    const step = imported.step ?? 0;
    if (data.record !== undefined) await writeSplit(runDir, data.record);
    const saved = { kind: "training", state: trainingState(imported) } as const;
    const checkpoint = await saveCheckpoint(runDir, stepFolder(step), layout, saved, {
      step,
      steps_per_epoch: length.stepsPerEpoch,
      evaluated_step: -1,
      scores: null,
      best: null,
      model,
      settings: valuesOf(settings),
      origins,
      data: {
        fingerprint: trainingFingerprint(data.train, settings),
        train_images: data.train.size,
        ...(content === undefined ? {} : { content }),
      },
      ...(data.record === undefined ? {} : { split: splitStateOf(data.record) }),
    });
    const steps = length.scheduled;
    return { run: runDir, checkpoint, step, steps, imported, notices: noticesOf(imported, step, steps) };
  }, warn);
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
