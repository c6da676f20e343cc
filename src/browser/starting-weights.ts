/**
 * Weights that a user drops, as a training begins with them: those of the file, and a classifier that is solved for the classes
 * at hand where the file's own is of others. The same as `riffle train --init_from` makes of them.
 */

import type { TrainingState } from "../backends/backend.js";
import { CheckpointError, UsageError } from "../core/error.js";
import { evaluationDecodings } from "../data/pictures/augment.js";
import {
  BATCH,
  type Features,
  featureProgram,
  LAST_MAP,
  meansInto,
  viewsOf,
} from "../finetune/feature-views.js";
import { evenly, newClassifier, place, type Sample, sampleOf } from "../finetune/new-classifier.js";
import { statisticsFit } from "../finetune/statistics-fit.js";
import { initialise, initialStatistics } from "../models/initialise.js";
import type { Program } from "../program/program.js";
import type { SolvedClassifier } from "../run/checkpoint-state.js";
import { augmentationOf } from "../settings/augmentation.js";
import type { SettingsOfWeights } from "../settings/resolve-settings.js";
import { recognise } from "../weights/match.js";
import { settingsIn, startFrom } from "../weights/start-from.js";
import { type WeightsFile, weightsIn } from "../weights/weights-file.js";
import type { PageEngine } from "./engine.js";
import type { NoteEvent, PreparingEvent } from "./events.js";
import type { KeptSet } from "./kept-pictures.js";
import { readRun } from "./run-import.js";
import { render } from "./seen-picture.js";
import type { TrainingPlan } from "./training-plan.js";
import { trainedNetwork, trainingProgram } from "./training-run.js";

/** A file of weights that is one of this family. */
export interface GivenWeights {
  readonly name: string;
  readonly file: WeightsFile;
  /** Of its network, and of the pictures that it saw. */
  readonly says: SettingsOfWeights;
}

const MOST_BYTES = 2 ** 31;

/** @throws CheckpointError where it is no network of this family */
export async function openWeights(from: Blob): Promise<GivenWeights> {
  const name = "name" in from && typeof from.name === "string" && from.name !== "" ? from.name : "weights";
  if (from.size > MOST_BYTES) {
    throw new CheckpointError({
      what: "is longer than any weights that are read",
      where: name,
      expected: `at most ${MOST_BYTES} bytes`,
      found: `${from.size}`,
    });
  }
  const bytes = new Uint8Array(await from.arrayBuffer());
  const file = weightsIn((await weightsOfRun(from, bytes)) ?? bytes, name);
  // Says what is wrong with one that is none.
  recognise(file);
  return { name, file, says: settingsIn(file, undefined) };
}

/** Of a run that was exported: a zip file, as PyTorch's are, but without a pickle. */
async function weightsOfRun(from: Blob, bytes: Uint8Array): Promise<Uint8Array | undefined> {
  const isZip = bytes[0] === 0x50 && bytes[1] === 0x4b;
  if (!isZip || new TextDecoder("latin1").decode(bytes.subarray(-65536)).includes("/data.pkl"))
    return undefined;
  const { best, last } = await readRun(from);
  return best ?? last;
}

export interface Begun {
  readonly state: TrainingState;
  readonly solved: SolvedClassifier | undefined;
  /** Whether steps have to learn the classifier: it is drawn. */
  readonly drawsClassifier: boolean;
}

/** Weights drawn from the seed. */
export function drawnState(program: Program, { settings }: Pick<TrainingPlan, "settings">): TrainingState {
  const state = {
    parameters: initialise(program, { version: settings.version, seed: settings.seed }),
    statistics: initialStatistics(program),
    momentum: new Float32Array(program.parameterCount),
    averages: new Float32Array(program.parameterCount),
  };
  state.averages.set(state.parameters);
  return state;
}

/**
 * The state before the first step, of weights given.
 *
 * @param plan whose classifier is solved where that can be; where it is not, the training is to be planned anew
 * @throws CheckpointError where they do not fit, the signal's reason
 */
export async function beginFrom(
  { file, name }: GivenWeights,
  plan: TrainingPlan,
  set: KeptSet,
  engine: PageEngine,
  report: (event: NoteEvent | PreparingEvent) => void,
  signal: AbortSignal,
): Promise<Begun> {
  const { model, settings } = plan;
  const program = trainingProgram(plan);
  const state = drawnState(program, plan);
  const note = (what: string): void => report({ event: "note", what: `${name}: ${what}` });
  const drawn = await startFrom(file, model.variant, program, state, model.class_names, note);
  state.averages.set(state.parameters);
  const whole = { state, solved: undefined, drawsClassifier: drawn.classifier };
  const features = featureProgram(trainedNetwork(plan), model.image_size);
  const trained = set.entries.filter(({ heldOut }) => !heldOut).length;
  const few = evenly(trained, Math.min(trained, LOOKED_AT));
  const looking = { program: features, state, set, engine, plan, signal };
  const fits = statisticsFit(features, state, await featuresIn(looking, few, 1));
  if (!fits) note("its moving statistics do not fit its weights, so the classifier is learnt by the steps");
  const count = features.steps.at(-1)?.inputs.length ?? 0;
  const sample =
    drawn.classifier && fits && settings.solve_classifier
      ? sampleOf(trained, model.classes, count)
      : undefined;
  if (sample === undefined) {
    if (settings.freeze) throw neverLearnt(name);
    return fits ? whole : { ...whole, drawsClassifier: true };
  }
  const { says, ...classifier } = await solved(looking, sample, trained, report);
  place(classifier, program, state.parameters);
  state.averages.set(state.parameters);
  return { state, solved: says, drawsClassifier: false };
}

/** Pictures by whose features the statistics are judged. */
const LOOKED_AT = 32;

interface Looking {
  readonly program: Program;
  readonly state: TrainingState;
  readonly set: KeptSet;
  readonly engine: PageEngine;
  readonly plan: TrainingPlan;
  readonly signal: AbortSignal;
}

async function solved(
  looking: Looking,
  { pictures, views }: Sample,
  trained: number,
  report: (event: PreparingEvent) => void,
) {
  const { program, plan, engine, signal } = looking;
  const found = await featuresIn(looking, evenly(trained, pictures), views, (done, total) =>
    report({ event: "preparing", what: "features", done, total }),
  );
  report({ event: "preparing", what: "solving", done: 0, total: 0 });
  const pause = async (): Promise<void> => {
    await engine.breathe();
    signal.throwIfAborted();
  };
  return newClassifier(found, program, {
    balanced: plan.settings.class_weights === "balanced",
    views,
    pause,
  });
}

/** As src/finetune/features.ts has them of a set on a disk. */
async function featuresIn(
  { program, state, set, engine, plan, signal }: Looking,
  samples: readonly number[],
  most: number,
  progress: (done: number, total: number) => void = () => undefined,
): Promise<Features> {
  const { model, settings } = plan;
  const { image_size: size } = model;
  const resize = { ...evaluationDecodings[model.pipeline], shorterSide: model.eval_resize };
  const augmentation = augmentationOf({ ...settings, eval_resize: model.eval_resize });
  const views = viewsOf({ imageSize: size, resize, augmentation, views: most, seed: settings.seed });
  const features = program.kept[0]?.planes.length ?? 0;
  const total = samples.length * views.length;
  const values = new Float32Array(total * features);
  const labels = new Int32Array(total);
  const of = new Uint32Array(total);
  const run = engine.backend.infer(program, { threads: engine.threads });
  let rows = 0;
  try {
    await run.load(state);
    for (const view of views) {
      for (let first = 0; first < samples.length; first += BATCH) {
        signal.throwIfAborted();
        const some = samples.slice(first, first + BATCH);
        const images = new Uint8Array(some.length * size * size * 3);
        some.forEach((sample, i) => {
          const { width, height, label } = set.entries[sample] as KeptSet["entries"][number];
          const picture = { width, height, data: set.pixels[sample] as Uint8Array };
          const cut = view(sample, picture, width === size && height === size);
          render(
            engine.pictures,
            picture,
            cut,
            images.subarray(i * size * size * 3, (i + 1) * size * size * 3),
          );
          labels[rows + i] = label;
          of[rows + i] = sample;
        });
        await run.infer(images, some.length);
        // Maps of all that fit into a batch; the first are this one's.
        meansInto(values.subarray(rows * features), run.kept(LAST_MAP), some.length * features);
        rows += some.length;
        progress(rows, total);
        await engine.breathe();
      }
    }
  } finally {
    run.close();
  }
  return { features, values, labels, samples: of, plain: samples.length };
}

function neverLearnt(name: string): UsageError {
  return new UsageError({
    what: "with no epochs only a new classifier is made, and here none is to be or can be solved",
    where: "option epochs",
    expected: "1 or more",
    found: `0, from ${name}`,
    safe: "Nothing was trained or written",
  });
}
