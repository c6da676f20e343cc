/**
 * Evaluation: a network's loss and accuracy on a whole set, every image counted once.
 *
 * No tail is dropped and no image is repeated, so the scores do not depend on the batch size; nor on how many processes
 * share the set, for what is added is added in the set's order.
 */

import { resolve } from "node:path";

import type { BackendOptions, InferenceRun, Weights } from "../backends/backend.js";
import { type AtEnd, closing } from "../core/closing.js";
import { CheckpointError, DataError, UsageError } from "../core/error.js";
import { byName } from "../core/name-forms.js";
import { evaluationDecodings, type EvaluationResize, evaluationSide } from "../data/pictures/augment.js";
import { type Picture, renderInto } from "../data/pictures/render.js";
import { type Dataset, upright } from "../data/dataset.js";
import type { OpenedPart } from "../data/sets.js";
import {
  type BadImage,
  type BatchSource,
  evaluationBatches,
  evaluationCut,
  type LoadedBatch,
  TooManyBadImages,
} from "../data/loader.js";
import { ALONE } from "../distributed/alone.js";
import { everybodys } from "../distributed/duties.js";
import type { Ranks } from "../distributed/ranks.js";
import { prefixesIn, stepOf } from "../formats/tf-checkpoint-state.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "../program/compile.js";
import type { Program } from "../program/program.js";
import { chooseBackend } from "../backends/registry.js";
import { listSteps } from "../run/checkpoint.js";
import type { ModelDescription, Scores } from "../run/checkpoint-state.js";
import { findWeights, type FoundWeights, newestWeights } from "../run/find-checkpoint.js";
import { findNetwork, type FoundNetwork, type WeightsOrigin } from "../weights/find-network.js";
import type {
  BadImageEvent,
  EvaluatingEvent,
  FetchingEvent,
  PassedOverEvent,
  PreparingEvent,
  RecordsEvent,
  TuningEvent,
  WarningEvent,
} from "../run/events.js";
import { ScoreKeeper, scoresOf } from "./metrics.js";
import { tunedFor, type TuningMessage } from "../run/tuning.js";
import {
  badImageLimit,
  dataName,
  type DataSettings,
  dataSettingNames,
  openRunPart,
  recordsEvent,
} from "../run/run-data.js";
import { checkDrawn, type RememberedSplit, rememberedSplit } from "../run/split-record.js";
import { storageOf } from "../settings/precision.js";
import { readCall, readSettings } from "../settings/read-settings.js";
import { type GivenSettings, settings as table, settingsOf } from "../settings/settings.js";
import { publishedNamed } from "../weights/published.js";
import { importTfCheckpoint, type TfCheckpoint } from "../weights/tf-checkpoint.js";

export interface EvaluationStartEvent {
  readonly event: "start";
  readonly checkpoint: string;
  readonly step: number;
  readonly data_dir: string;
  readonly images: number;
  /** Which part of the data: one of its own, what the run held out, or all of data without parts. */
  readonly part: OpenedPart["part"];
  /** Paths of what belongs to the data and is not scored. */
  readonly unused: readonly string[];
  readonly records: RecordsEvent | null;
  readonly model: ModelDescription;
  /** What weights from elsewhere are; null for ours. */
  readonly origin: WeightsOrigin | null;
}

/** The last event: scores, accuracies as fractions. */
interface EvaluationEndEvent extends Scores {
  readonly event: "end";
}

export type EvaluateEvent =
  | PreparingEvent
  | FetchingEvent
  | EvaluationStartEvent
  | TuningEvent
  | EvaluatingEvent
  | BadImageEvent
  | PassedOverEvent
  | WarningEvent
  | EvaluationEndEvent;

/** Who looks at each picture as it is scored, and at the set once all are, while it is open. */
export interface Examiner {
  /** `output` is the network's for the picture's class; `logits` are [classes], valid during the call. */
  picture(sample: number, output: number, logits: Float32Array): void;
  /** `set` as it is stored: whether to turn its pictures, `model` says. */
  scored(scored: ScoredSet): Promise<void>;
}

export interface ScoredSet {
  readonly start: EvaluationStartEvent;
  readonly set: Dataset;
  readonly scores: Scores;
  /** Left out of it. */
  readonly bad: readonly BadImage[];
  readonly weights: Weights;
  /**
   * Opens what the network was trained on, to be closed by `atEnd`; undefined where the pictures scored are those, or nothing
   * says which they were.
   *
   * @throws DataError and others of its kind where it cannot be opened
   */
  training(atEnd: AtEnd): Promise<Dataset | undefined>;
}

/** A compiled network and the run that executes it. */
export interface LoadedNetwork {
  readonly program: Program;
  readonly run: InferenceRun;
}

/**
 * Scores a checkpoint (a run's folder means its `best/`) on the validation set it was trained with, or on the data given;
 * weights from elsewhere (weights/open.ts), or published and named, on the data given.
 * Without a path it is the newest whole checkpoint in `given.checkpoint_dir`, else in `given.log_dir`, of either format.
 * `examiner` looks at every picture on the way.
 *
 * @throws CheckpointError, DataError
 */
export async function evaluate(
  checkpointPath: string | undefined,
  asked: GivenSettings,
  report: (event: EvaluateEvent) => void = () => undefined,
  signal?: AbortSignal,
  examiner?: Examiner,
): Promise<Scores> {
  const given = readCall(asked, "evaluate", [...settingsOf("evaluate"), ...dataSettingNames, "variant"]);
  const { variant, offline } = given;
  if (checkpointPath !== undefined && publishedNamed(checkpointPath) !== undefined) {
    // Before anything is fetched: a name says no more than the weights.
    refuseNoData(given, checkpointPath);
  }
  const trained =
    checkpointPath === undefined
      ? await newestOf(resolve(given.checkpoint_dir ?? given.log_dir ?? table.log_dir.default))
      : ofNetwork(await findNetwork(checkpointPath, { variant, offline, report, signal }));
  for (const what of trained.passedOver) report({ event: "warning", what: `passed over ${what}` });
  return closing(
    (atEnd) => evaluateOn(trained, given, atEnd, report, { signal, examiner }),
    (what) => report({ event: "warning", what }),
  );
}

async function evaluateOn(
  trained: Trained,
  given: GivenSettings,
  atEnd: AtEnd,
  report: (event: EvaluateEvent) => void,
  { signal, examiner }: { readonly signal: AbortSignal | undefined; readonly examiner: Examiner | undefined },
): Promise<Scores> {
  const { dataDir, dataset, model, part, unused } = await openScored(trained, given, atEnd, report);
  const network = await loadNetwork(model, given, report);
  atEnd(() => network.run.close());
  const start: EvaluationStartEvent = {
    event: "start",
    checkpoint: trained.path,
    step: trained.step,
    data_dir: dataDir,
    images: dataset.size,
    part,
    unused,
    records: recordsEvent(dataset),
    model,
    origin: trained.origin ?? null,
  };
  report(start);
  const bad: BadImage[] = [];
  const options = {
    model,
    maxBadImages: badImageLimit(given),
    onBadImage: (image: BadImage) => void bad.push(image),
    examiner,
    ...(signal === undefined ? {} : { signal }),
  };
  const [scores] = (await score(network, dataset, [trained.weights], options, report)) ?? [];
  if (scores === undefined) {
    throw new UsageError({
      what: "the evaluation was stopped before its end, so there is no result",
      where: dataDir,
      safe: "Nothing was written",
    });
  }
  await examiner?.scored({
    ...{ start, set: dataset, scores, bad },
    weights: trained.weights,
    training: (atEnd) => openTraining(trained, given, part, atEnd),
  });
  report({ event: "end", ...scores });
  return scores;
}

/** Compiles the network for inference and loads it into the engine, tuned where that is asked for. */
export async function loadNetwork(
  model: ModelDescription,
  {
    eval_batch_size: batch = table.eval_batch_size.default,
    threads = 0,
    backend: name,
    precision_mode,
    autotune = false,
  }: Pick<GivenSettings, "eval_batch_size" | "threads" | "backend" | "precision_mode" | "autotune">,
  report: (event: TuningMessage) => void = () => undefined,
  more: Pick<BackendOptions, "few"> = {},
): Promise<LoadedNetwork> {
  const backend = await chooseBackend(name);
  const network = shuffleNetV2({ variant: model.variant, width: model.width, classes: model.classes });
  const storage = storageOf(precision_mode);
  const program = compile(network, { batch, imageSize: model.image_size, mode: "infer", storage });
  const tuned = autotune ? await tunedFor(backend, program, { threads }, { report }) : undefined;
  return { program, run: backend.infer(program, { ...more, threads, tuning: tuned?.tuning }) };
}

/** Pictures as this network is to see them; bad ones are left out, and it is up to the reader how many may be. */
export function pictureBatches(
  dataset: Dataset,
  model: ModelDescription,
  batch: number,
  more: { readonly known?: readonly BadImage[]; readonly rank?: number; readonly ranks?: number } = {},
): BatchSource {
  return evaluationBatches(model.exif_orientation === "apply" ? upright(dataset) : dataset, {
    batch,
    imageSize: model.image_size,
    resize: resizeOf(model),
    maxBadImages: Infinity,
    ...more,
  });
}

/**
 * One picture as this network is to see it, the same bytes as in a batch of {@link pictureBatches}: [1, size, size, 3],
 * in `out` where that is given.
 *
 * @throws DataError naming `where` when it cannot be decoded.
 */
export async function pictureAlone(
  bytes: Uint8Array,
  where: string,
  model: ModelDescription,
  out?: Uint8Array,
): Promise<Uint8Array> {
  const source = { kind: "encoded", bytes, upright: model.exif_orientation === "apply" } as const;
  return seenPixels(source, where, model, out);
}

/** The same of a picture as a set has it. */
export async function seenPixels(
  source: Picture,
  where: string,
  model: ModelDescription,
  out: Uint8Array = new Uint8Array(model.image_size ** 2 * 3),
): Promise<Uint8Array> {
  const size = model.image_size;
  await renderInto(source, where, (known) => evaluationCut(resizeOf(model), source, known, size), out, 0);
  return out;
}

function resizeOf(model: ModelDescription): EvaluationResize {
  return { ...evaluationDecodings[model.pipeline], shorterSide: model.eval_resize };
}

/** The pictures of a batch that may be short, without what follows them in its buffer. */
export function imagesOf(batch: LoadedBatch, program: Program): Uint8Array {
  return batch.images.subarray(0, batch.count * program.imageSize ** 2 * 3);
}

/**
 * Scores several sets of weights in one pass over the pictures. Of several ranks each looks at its share; all of them
 * report and return the same: the whole set's.
 *
 * @returns undefined when a signal of any rank aborted before the end.
 * @throws TooManyBadImages on all ranks when there are too many in all.
 */
export async function score(
  network: LoadedNetwork,
  dataset: Dataset,
  candidates: readonly Weights[],
  options: {
    readonly model: ModelDescription;
    readonly maxBadImages: number;
    readonly signal?: AbortSignal;
    readonly onBadImage?: (image: BadImage) => void;
    /** Found and told before. */
    readonly known?: readonly BadImage[];
    /** Those that share the set; this process alone when absent. */
    readonly ranks?: Pick<Ranks, "rank" | "size" | "gather"> | undefined;
    /** Looks at what the first candidate makes of this rank's share. */
    readonly examiner?: Pick<Examiner, "picture"> | undefined;
  },
  report: (event: EvaluatingEvent | BadImageEvent) => void,
): Promise<Scores[] | undefined> {
  const { program, run } = network;
  const { model, maxBadImages, signal, known = [], ranks = ALONE, examiner } = options;
  const { rank, size } = ranks;
  const labels = labelsFor(dataset, model);
  const keepers = candidates.map(() => new ScoreKeeper(Math.ceil(Math.max(0, dataset.size - rank) / size)));
  const source = pictureBatches(dataset, model, program.batch, { known, rank, ranks: size });
  const batches = source[Symbol.asyncIterator]();
  const bad = [...known];
  let own = known.length;
  let done = 0;
  let isLoaded = false;
  const keep = async (batch: LoadedBatch): Promise<void> => {
    const expected = batch.labels.map((label) => labels[label] ?? -1);
    const places = batch.samples.map((sample) => Math.floor(sample / size));
    for (const [i, weights] of candidates.entries()) {
      if (!isLoaded || candidates.length > 1) await run.load(weights);
      isLoaded = true;
      const logits = await run.infer(imagesOf(batch, program), batch.count);
      keepers[i]?.add(places, logits, expected, batch.count, program.classes);
      if (i === 0 && examiner !== undefined) {
        for (let row = 0; row < batch.count; row++) {
          const own = logits.subarray(row * program.classes, (row + 1) * program.classes);
          examiner.picture(batch.samples[row] as number, expected[row] as number, own);
        }
      }
    }
    batch.release();
  };
  // As many on every rank, so that all take part in every exchange: the largest share's.
  const rounds = Math.ceil(Math.ceil(dataset.size / size) / program.batch);
  try {
    for (let round = 0; round < rounds; round++) {
      const next = await batches.next();
      const batch = next.done === true ? undefined : next.value;
      const all = await exchange(ranks, {
        stops: signal?.aborted === true,
        images: batch?.count ?? 0,
        bad: source.badImages.slice(own),
      });
      own = source.badImages.length;
      if (all.stops) return undefined;
      bad.push(...all.bad);
      if (all.bad.length > 0 && bad.length > maxBadImages)
        throw new TooManyBadImages(bad.slice(0, maxBadImages + 1), maxBadImages);
      if (batch !== undefined) await keep(batch);
      done += all.images;
      for (const image of all.bad) {
        options.onBadImage?.(image);
        report({ event: "bad_image", file: image.file, reason: image.reason });
      }
      if (all.images > 0) report({ event: "evaluating", done, images: dataset.size });
    }
  } finally {
    await source.close();
  }
  const scores: Scores[] = [];
  for (const keeper of keepers) scores.push(scoresOf(await ranks.gather("scores", keeper.bytes())));
  return scores;
}

/** What a rank says of its batch, and what is so of all ranks' together. */
interface Round {
  readonly stops: boolean;
  readonly images: number;
  /** Found in it. */
  readonly bad: readonly BadImage[];
}

/** Some dozens of bytes, while nothing is bad. */
async function exchange(ranks: Pick<Ranks, "rank" | "size" | "gather">, own: Round): Promise<Round> {
  const bad = own.bad.map(({ picture, ...image }) => ({
    ...image,
    picture: picture && { name: picture.name, bytes: picture.bytes },
  }));
  const rounds: Round[] = await everybodys(ranks, "evaluation", { ...own, bad });
  return {
    stops: rounds.some(({ stops }) => stops),
    images: rounds.reduce((sum, { images }) => sum + images, 0),
    bad: rounds.flatMap(({ bad }) => bad).sort((a, b) => a.sample - b.sample),
  };
}

/** Weights of a checkpoint in either format, and what is known of how they were trained. */
interface Trained {
  readonly path: string;
  readonly step: number;
  /** Of the run; empty where the checkpoint does not say. */
  readonly settings: GivenSettings;
  /** Of the data that it was trained on. */
  readonly fingerprint?: string;
  /** What the run held out. */
  split(): Promise<RememberedSplit>;
  /** How its network is fed, given the classes of the data. */
  model(given: GivenSettings, classes: readonly string[]): ModelDescription;
  readonly weights: Weights;
  /** Newer checkpoints that are not whole. */
  readonly passedOver: readonly string[];
  /** Where they are from elsewhere. */
  readonly origin?: WeightsOrigin | undefined;
}

function ofNetwork({
  checkpoint,
  path,
  model,
  weights,
  step = 0,
  passedOver,
  origin,
}: FoundNetwork): Trained {
  if (checkpoint !== undefined) return ofRiffle({ checkpoint, weights });
  return {
    path,
    step,
    settings: {},
    split: () => Promise.resolve({}),
    passedOver,
    weights,
    origin,
    model: (given, classes) => ({
      ...sized(model, given),
      class_names: model.class_names.length === 0 ? classes : model.class_names,
    }),
  };
}

/** At another size of pictures the same share of the shorter side is seen. */
function sized(model: ModelDescription, given: GivenSettings): ModelDescription {
  const image_size = given.image_size ?? model.image_size;
  const eval_resize = Math.round((model.eval_resize * image_size) / model.image_size);
  return {
    ...model,
    image_size,
    eval_resize: given.eval_resize ?? eval_resize,
    exif_orientation: given.exif_orientation ?? model.exif_orientation ?? "ignore",
  };
}

function ofRiffle({ checkpoint, weights }: FoundWeights): Trained {
  const { path, state, passedOver } = checkpoint;
  return {
    path,
    step: state.step,
    settings: readSettings(state.settings),
    split: () => rememberedSplit(path, state),
    fingerprint: state.data.fingerprint,
    passedOver,
    weights,
    model: (given) => sized(state.model, given),
  };
}

/** The lineage evaluates averages; its checkpoints say neither the size of the pictures nor the names of the classes. */
function ofTensorFlow(checkpoint: TfCheckpoint): Trained {
  const { path, step = 0, parameters, averages, statistics, width, classes, passedOver } = checkpoint;
  return {
    path,
    step,
    settings: {},
    split: () => Promise.resolve({}),
    passedOver,
    weights: { parameters: averages ?? parameters, statistics },
    model: (given, class_names) => {
      const image_size = given.image_size ?? table.image_size.default;
      return {
        variant: "tensorflow",
        width,
        classes,
        image_size,
        eval_resize: given.eval_resize ?? evaluationSide(image_size, table.eval_crop.default),
        pipeline: "tensorflow",
        exif_orientation: given.exif_orientation ?? "ignore",
        class_names,
      };
    },
  };
}

/** The newest whole checkpoint of a folder, ours or TensorFlow's. @throws CheckpointError when there is none. */
async function newestOf(folder: string): Promise<Trained> {
  const foreign = await prefixesIn(folder);
  const own = await listSteps(folder);
  const newestOwn = own[0] ?? -1;
  if (foreign.length > 0 && (stepOf(foreign[0] as string) ?? 0) > newestOwn) {
    return ofTensorFlow(await importTfCheckpoint(folder));
  }
  if (own.length === 0) return ofRiffle(await findWeights(folder));
  return ofRiffle(await newestWeights(folder));
}

/** The part that is asked for of the data given, else what the checkpoint's run held out. */
async function openScored(
  trained: Trained,
  given: GivenSettings,
  atEnd: AtEnd,
  report: (event: EvaluateEvent) => void,
): Promise<
  { readonly dataDir: string; readonly dataset: Dataset; readonly model: ModelDescription } & OpenedPart
> {
  const { settings, isOwn } = evaluatedData(given, trained.settings);
  const { data_dir, eval_data_dir, synthetic } = settings;
  refuseNoData(settings, trained.path);
  const split = await trained.split();
  const { record, byNumber } = split;
  const seed = trained.settings.seed ?? table.seed.default;
  const opened = await openRunPart(settings, given.split, { seed, record, byNumber, isOwn }, report);
  const { set } = opened;
  atEnd(() => set.close?.());
  if (given.split !== "train" && set.fingerprint === trained.fingerprint) {
    throw DataError.at(
      dataName(settings),
      "holds the very pictures that the run trained on, so their score would say nothing",
      {
        expected: "pictures that it has not seen",
        found: set.name(0),
        hint: "Score them all the same with --split train",
      },
    );
  }
  if (isOwn && opened.part === "held out") checkDrawn(split, record ?? opened.record, trained.path);
  const dataDir = (synthetic === true ? undefined : (eval_data_dir ?? data_dir)) ?? dataName(settings);
  const model = trained.model(given, set.classes);
  const { num_classes = model.classes } = given;
  if (num_classes !== model.classes || set.classes.length > model.classes) {
    throw new CheckpointError({
      what: "the network has another number of outputs",
      where: trained.path,
      expected: given.num_classes === undefined ? `at least ${set.classes.length}` : `${num_classes}`,
      found: `${model.classes}`,
      safe: "The checkpoint is untouched",
    });
  }
  return { ...opened, dataDir, dataset: set, model };
}

/** @throws UsageError */
function refuseNoData(
  { data_dir, train_data_dir, eval_data_dir, synthetic }: DataSettings,
  where: string,
): void {
  if (synthetic === true || (data_dir ?? train_data_dir ?? eval_data_dir) !== undefined) return;
  throw new UsageError({
    what: "the checkpoint does not say what to evaluate on",
    where,
    expected: "--data_dir or --eval_data_dir",
    found: "neither",
    safe: "Nothing was written",
  });
}

/** All of the run's own training part, whatever share of it an epoch had. */
async function openTraining(
  trained: Trained,
  given: GivenSettings,
  scored: OpenedPart["part"],
  atEnd: AtEnd,
): Promise<Dataset | undefined> {
  const { settings, isOwn } = evaluatedData(given, trained.settings);
  if (scored === "train" || !isOwn || settings.synthetic === true) return undefined;
  const { record, byNumber } = await trained.split();
  const seed = trained.settings.seed ?? table.seed.default;
  const { set } = await openRunPart(
    { ...settings, eval_dataset_size: undefined },
    "train",
    { seed, record, byNumber, isOwn },
    () => undefined,
  );
  atEnd(() => set.close?.());
  return set;
}

/** The run's own data, with changes given; or other data, of which nothing is known but what is given. */
function evaluatedData(
  given: GivenSettings,
  recorded: GivenSettings,
): { readonly settings: DataSettings; readonly isOwn: boolean } {
  const paths = ["data_dir", "eval_data_dir"] as const;
  const asked: Partial<Record<(typeof dataSettingNames)[number], unknown>> = Object.fromEntries(
    dataSettingNames.map((name) => [name, given[name]]),
  );
  for (const name of paths) if (given[name] !== undefined) asked[name] = resolve(given[name]);
  const isOther =
    given.synthetic === true ||
    paths.some((name) => asked[name] !== undefined && asked[name] !== recorded[name]);
  const own = isOther ? { image_size: recorded.image_size } : recorded;
  const values = dataSettingNames.map((name) => [name, asked[name] ?? own[name]] as const);
  const settings = Object.fromEntries(values) as DataSettings;
  const isOwn = !isOther && (settings.data_dir ?? settings.train_data_dir) !== undefined;
  // How much of the training part is used says nothing here.
  return { settings: { ...settings, train_dataset_size: undefined }, isOwn };
}

/** The network's output for each label of the set, matched by class name. */
function labelsFor(dataset: Dataset, model: ModelDescription): readonly number[] {
  const outputOf = byName(model.class_names.map((name, output) => [name, output]));
  return dataset.classes.map((name) => {
    const output = outputOf(name);
    if (output !== undefined) return output;
    const known = model.class_names;
    throw DataError.at(`class ${JSON.stringify(name)}`, "a class that the network was not trained on", {
      expected: known.slice(0, 8).join(", ") + (known.length > 8 ? `, … (${known.length})` : ""),
      found: name,
    });
  });
}
