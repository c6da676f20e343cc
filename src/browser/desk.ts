/** What the worker does when it is asked, a method for each call of wire.ts. */

import type { TrainingState } from "../backends/backend.js";
import { CheckpointError, DataError, RiffleError, UsageError } from "../core/error.js";
import type { SolvedClassifier } from "../run/checkpoint-state.js";
import { encodeTensors } from "../run/checkpoint-tensors.js";
import { decodePicture } from "./decoded-picture.js";
import { openEngine, type PageEngine } from "./engine.js";
import type { BrowserEvent, PlanEvent } from "./events.js";
import type { Given } from "./given-picture.js";
import { classesOf, keepPictures, type KeptSet } from "./kept-pictures.js";
import { outputOf, PageNetwork, scored } from "./network.js";
import { pngOf } from "./png.js";
import type { Evaluation, Heat, PictureRefusal, Prediction } from "./prediction.js";
import type { KeptPicture, RunSummary } from "./run.js";
import { keptSet, summaryOf, trainingState, usedWeights, writeFirst, writePictures } from "./run-content.js";
import type { RunRecord } from "./run-record.js";
import { onnxOf, safetensorsOf, zipOf } from "./run-export.js";
import { nameFor, readRun } from "./run-import.js";
import { allRecords, bytesLeft, joined, RunFolder } from "./run-store.js";
import type { Rgb } from "./seen-picture.js";
import { beginFrom, drawnState, type GivenWeights, openWeights } from "./starting-weights.js";
import { planTraining, refuseOptions, sizesOf, type TrainingPlan } from "./training-plan.js";
import { PageTraining, trainedNetwork, trainingProgram } from "./training-run.js";
import type { Calls, Trained } from "./wire.js";

type Told = (event: BrowserEvent) => void;

export class Desk {
  #engine: Promise<PageEngine> | undefined;
  /** The network that was asked last, and of which file. */
  #asked: { readonly file: string; readonly network: PageNetwork } | undefined;

  async train(asked: Calls["train"]["asked"], told: Told, signal: AbortSignal): Promise<Trained> {
    const { name, pictures, validation, from } = asked;
    refuseOptions(asked, from !== undefined);
    const classes = classesOf(pictures, validation ?? [], asked.classes);
    const folder = await RunFolder.at(name);
    return folder.alone(async () => {
      await refuseExisting(folder, asked.replace === true);
      const engine = await this.#open(asked.threads);
      const weights = from === undefined ? undefined : await openWeights(from);
      const sizes = sizesOf(planTraining(asked, classes, pictures.length, weights));
      const preparation = {
        pictures,
        validation,
        classes,
        sizes,
        seed: asked.seed ?? 0,
        report: told,
        signal,
      };
      const set = await orStopped(signal, () => keepPictures(engine.pictures, preparation));
      const trainImages = set.entries.filter(({ heldOut }) => !heldOut).length;
      const { plan, state, solved } = await orStopped(signal, () =>
        begin(asked, weights, set, trainImages, engine, told, signal),
      );
      const { settings, origins, model, length } = plan;
      const program = trainingProgram(plan);
      const made = await folder.made();
      const stem = Date.now().toString(36);
      const files = await writeFirst(
        made,
        stem,
        set,
        encodeTensors(program, { kind: "training", state }, model),
      );
      const record: RunRecord = {
        format: "riffle-browser-run",
        version: 1,
        name,
        created: Date.now(),
        model,
        settings,
        origins,
        steps: length.steps,
        steps_per_epoch: length.stepsPerEpoch,
        train_images: trainImages,
        solved,
        step: 0,
        evaluated_step: -1,
        scores: null,
        best: null,
        unimproved: 0,
        files: { ...files, best: null },
      };
      await made.commit(record);
      await made.prune(record);
      told(await planEvent(record, set, engine, weights === undefined ? "drawn" : "given"));
      told({ event: "saved", step: 0, best: null });
      return train({ engine, folder: made, record, set, state, report: told, signal });
    });
  }

  async resume(
    { name, threads, steps }: Calls["resume"]["asked"],
    told: Told,
    signal: AbortSignal,
  ): Promise<Trained> {
    refuseOptions({ threads }, false);
    const folder = await RunFolder.at(name);
    return folder.alone(async () => {
      const record = await folder.recordOf();
      const set = await keptSet(folder, record);
      const engine = await this.#open(threads);
      const state = await trainingState(folder, record);
      told(await planEvent(record, set, engine, "resumed"));
      return train({ engine, folder, record, set, state, report: told, signal, most: steps });
    });
  }

  async list(): Promise<RunSummary[]> {
    return (await allRecords()).map(summaryOf);
  }

  async summary({ name }: Calls["summary"]["asked"]): Promise<RunSummary> {
    return summaryOf(await (await RunFolder.at(name)).recordOf());
  }

  async predict({
    name,
    pictures,
    options,
  }: Calls["predict"]["asked"]): Promise<(Prediction | PictureRefusal)[]> {
    const { top = 5, logits = false } = options;
    if (!Number.isInteger(top) || top < 1) {
      throw new UsageError({
        what: "no such number of guesses",
        where: "option top",
        expected: "a whole number from 1",
        found: String(top),
      });
    }
    const { network } = await this.#ask(name);
    return this.#each(pictures, async (some) => {
      const found = await network.logits(some.map(({ rgb }) => rgb));
      return some.map(({ name: picture, note }, i): Prediction => {
        const row = found[i] as Float32Array;
        return {
          name: picture,
          top: network.guesses(row, top),
          ...(logits ? { logits: row } : {}),
          ...(note === undefined ? {} : { note }),
        };
      });
    });
  }

  async evaluate({ name, pictures }: Calls["evaluate"]["asked"]): Promise<Evaluation> {
    const { network, record } = await this.#ask(name);
    const { model } = record;
    const labels = pictures.map(({ label }) => outputOf(label, model));
    const rows = await this.#each(
      pictures.map(({ picture }) => picture),
      (some) => network.logits(some.map(({ rgb }) => rgb)),
    );
    const leftOut = rows.filter((row): row is PictureRefusal => !(row instanceof Float32Array));
    const kept = rows.flatMap((row, i) =>
      row instanceof Float32Array ? [{ row, label: labels[i] as number }] : [],
    );
    if (kept.length === 0) {
      throw new DataError({
        what: "there is nothing to score",
        expected: "a picture at least that can be used",
        found: `${leftOut.length} that cannot`,
        files: leftOut.map(({ name: file, problem }) => ({ file, reason: problem.what })),
      });
    }
    const scores = scored(
      kept.map(({ row }) => row),
      kept.map(({ label }) => label),
      model.classes,
    );
    const confusion = Array.from({ length: model.classes }, () => new Array<number>(model.classes).fill(0));
    for (const { row, label } of kept) {
      const guess = network.guesses(row, 1)[0]?.index ?? 0;
      const counts = confusion[label] as number[];
      counts[guess] = (counts[guess] as number) + 1;
    }
    const { images, loss, top1, top5 } = scores;
    return { images, loss, top1, top5, confusion, leftOut };
  }

  async explain({ name, picture, class: of }: Calls["explain"]["asked"]): Promise<Heat> {
    const { network } = await this.#ask(name);
    return network.explain(await decodePicture(picture), of);
  }

  async pictures({ name }: Calls["pictures"]["asked"]): Promise<KeptPicture[]> {
    const folder = await RunFolder.at(name);
    const { entries, pixels, classes } = await keptSet(folder, await folder.recordOf());
    const kept: KeptPicture[] = [];
    for (const [i, { name: picture, label, heldOut, width, height }] of entries.entries()) {
      const file = await pngOf({ width, height, data: pixels[i] as Uint8Array });
      kept.push({ name: picture, label: classes[label] ?? "", heldOut, file });
    }
    return kept;
  }

  async exportAs({ name, format }: Calls["exportAs"]["asked"]): Promise<Blob> {
    const folder = await RunFolder.at(name);
    return patiently(async () => {
      const record = await folder.recordOf();
      switch (format) {
        case "safetensors":
          return fileOf(safetensorsOf(record, await usedWeights(folder, record)));
        case "onnx":
          return fileOf(onnxOf(record, await usedWeights(folder, record)));
        case "run": {
          const set = record.files.pictures === undefined ? undefined : await keptSet(folder, record);
          const best = record.files.best === null ? undefined : await usedWeights(folder, record);
          return zipOf(record, await trainingState(folder, record), best, set);
        }
        default:
          throw new UsageError({
            what: "there is no such format",
            where: "exportAs",
            expected: "safetensors, onnx or run",
            found: String(format),
          });
      }
    });
  }

  async importRun({ file, name }: Calls["importRun"]["asked"]): Promise<RunSummary> {
    const imported = await readRun(file);
    const folder = await RunFolder.at(nameFor(name, imported));
    return folder.alone(async () => {
      await refuseExisting(folder, false);
      const made = await folder.made();
      try {
        const { last, best, set } = imported;
        const stem = Date.now().toString(36);
        const { step } = imported.record;
        const record: RunRecord = {
          ...imported.record,
          name: folder.name,
          files: {
            last: await made.write(`last-${step}-${stem}.safetensors`, [last]),
            best:
              best === undefined
                ? null
                : await made.write(`best-${imported.record.best?.step ?? 0}-${stem}.safetensors`, [best]),
            ...(set === undefined ? {} : { pictures: await writePictures(made, stem, set) }),
          },
        };
        // Whatever else the tensors may be: they are those of this network.
        await trainingState(made, record);
        await usedWeights(made, record);
        if (set !== undefined) await keptSet(made, record);
        await made.commit(record);
        return summaryOf(record);
      } catch (error) {
        await made.remove();
        throw error;
      }
    });
  }

  async remove({ name }: Calls["remove"]["asked"]): Promise<undefined> {
    const folder = await RunFolder.at(name);
    await folder.alone(async () => {
      await folder.recordOf();
      await folder.remove();
    });
    return undefined;
  }

  #open(threads?: number): Promise<PageEngine> {
    this.#engine ??= openEngine(threads);
    return this.#engine;
  }

  /** The run's network for use: the best weights, or the last where nothing was scored. */
  async #ask(name: string): Promise<{ readonly network: PageNetwork; readonly record: RunRecord }> {
    const folder = await RunFolder.at(name);
    return patiently(async () => {
      const record = await folder.recordOf();
      const file = `${folder.key}/${(record.files.best ?? record.files.last).name}`;
      if (this.#asked?.file === file) return { network: this.#asked.network, record };
      const weights = await usedWeights(folder, record);
      const network = new PageNetwork(await this.#open(), record.model, weights);
      this.#asked?.network.close();
      this.#asked = { file, network };
      return { network, record };
    });
  }

  /** Decodes so many at a time and has them answered; one that cannot be used is answered by its refusal. */
  async #each<T>(
    pictures: readonly Given[],
    work: (
      some: readonly { readonly name: string; readonly rgb: Rgb; readonly note?: string | undefined }[],
    ) => Promise<readonly T[]>,
  ): Promise<(T | PictureRefusal)[]> {
    const answers: (T | PictureRefusal)[] = [];
    for (let first = 0; first < pictures.length; first += AT_ONCE) {
      const decoded: { index: number; name: string; rgb: Rgb; note?: string | undefined }[] = [];
      for (const [i, picture] of pictures.slice(first, first + AT_ONCE).entries()) {
        const index = first + i;
        try {
          const { note, ...rgb } = await decodePicture(picture);
          decoded.push({ index, name: picture.name, rgb, note });
        } catch (error) {
          if (!(error instanceof RiffleError)) throw error;
          answers[index] = { name: picture.name, index, problem: error.problem };
        }
      }
      const found = decoded.length === 0 ? [] : await work(decoded);
      decoded.forEach(({ index }, i) => (answers[index] = found[i] as T));
    }
    return answers;
  }
}

const AT_ONCE = 16;
const ATTEMPTS = 5;

/** A training may replace files of the run between its record and them: what the record names then is there. */
async function patiently<T>(read: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof CheckpointError) || attempt === ATTEMPTS) throw error;
    }
  }
}

async function train(given: Parameters<typeof PageTraining.open>[0]): Promise<Trained> {
  const training = await PageTraining.open(given);
  try {
    const { record, stopped, imagesPerSecond } = await training.train();
    return { summary: summaryOf(record), step: record.step, stopped, best: record.best, imagesPerSecond };
  } finally {
    training.close();
  }
}

/** What is trained, and the state before the first step. */
async function begin(
  asked: Calls["train"]["asked"],
  weights: GivenWeights | undefined,
  set: KeptSet,
  trainImages: number,
  engine: PageEngine,
  told: Told,
  signal: AbortSignal,
): Promise<{
  readonly plan: TrainingPlan;
  readonly state: TrainingState;
  readonly solved: SolvedClassifier | undefined;
}> {
  const plan = planTraining(asked, set.classes, trainImages, weights);
  if (weights === undefined)
    return { plan, state: drawnState(trainingProgram(plan), plan), solved: undefined };
  const { state, solved, drawsClassifier } = await beginFrom(weights, plan, set, engine, told, signal);
  if (solved !== undefined) return { plan, state, solved };
  return { plan: planTraining(asked, set.classes, trainImages, weights, drawsClassifier), state, solved };
}

async function refuseExisting(folder: RunFolder, mayReplace: boolean): Promise<void> {
  const found = await folder.record().catch((error: unknown) => {
    if (error instanceof CheckpointError && mayReplace) return undefined;
    throw error;
  });
  if (found === undefined || mayReplace) return;
  throw new UsageError({
    what: "there is a run of this name already",
    where: `run ${JSON.stringify(folder.name)}`,
    found: `one that stands at step ${found.step} of ${found.steps}`,
    safe: "It was left as it is",
    hint: "Choose another name, go on with it (resume), or say replace: true",
  });
}

/** A signal before anything is written ends it as a mistake of nobody's. */
async function orStopped<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!signal.aborted || error instanceof RiffleError) throw error;
    throw new UsageError({
      what: "it was stopped before the first step",
      safe: "Nothing was trained or written",
    });
  }
}

function fileOf(pieces: readonly Uint8Array[]): Blob {
  return new Blob([joined(pieces)], { type: "application/octet-stream" });
}

async function planEvent(
  record: RunRecord,
  { classes, entries }: KeptSet,
  { threads, isolated }: PageEngine,
  begins: PlanEvent["begins"],
): Promise<PlanEvent> {
  const { settings, model, files } = record;
  return {
    event: "plan",
    run: record.name,
    network: trainedNetwork(record).name,
    classes: classes.map((name, label) => {
      const own = entries.filter((entry) => entry.label === label);
      const heldOut = own.filter((entry) => entry.heldOut).length;
      return { name, train: own.length - heldOut, heldOut };
    }),
    imageSize: model.image_size,
    batchSize: settings.batch_size,
    steps: record.steps,
    stepsDone: record.step,
    epochs: settings.max_epochs,
    threads,
    isolated,
    begins,
    bytes: (files.pictures?.pixels.bytes ?? 0) + 3 * files.last.bytes,
    bytesLeft: await bytesLeft(),
  };
}
