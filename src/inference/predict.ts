/**
 * Prediction: what a trained network sees in pictures, one result per picture in the order given.
 *
 * A picture that cannot be read is a result too, with the reason; it never stops the others. Pictures are paths or the bytes of
 * whole files. Calls may overlap: the engine takes them in turn, and pictures that are asked for one by one share its batches.
 * What a picture's result is depends on neither, to the bit.
 */

import { stat } from "node:fs/promises";

import { closing } from "../core/closing.js";
import { DataError, UsageError } from "../core/error.js";
import type { Dataset } from "../data/dataset.js";
import { type NamedBytes, openEncoded } from "../data/encoded-pictures.js";
import { openImageFiles } from "../data/image-folder.js";
import { openNpzImages } from "../data/npz-dataset.js";
import { Allowance } from "../data/pictures/allowance.js";
import { decodingThreads, readPictures } from "../data/pictures/render.js";
import { wordsOf } from "../prepare/imagenet/challenge-classes.js";
import { type ModelDescription, unsaidOrientation } from "../run/checkpoint-state.js";
import type { FetchingEvent } from "../run/events.js";
import type { TuningMessage } from "../run/tuning.js";
import { findNetwork, type WeightsOrigin } from "../weights/find-network.js";
import { imagesOf, type LoadedNetwork, loadNetwork, pictureAlone, pictureBatches } from "./evaluate.js";
import { Gatherer } from "./gatherer.js";
import { softmax } from "./metrics.js";
import { type GivenSettings, settingsOf } from "../settings/settings.js";
import { type NamesOf, refuseUnknown } from "../core/nearest-name.js";
import { readCall } from "../settings/read-settings.js";
import { UsedBuffers } from "./used-buffers.js";

/** A path, or the bytes of a whole picture file, which must not change before its result is there. */
export type PictureInput = string | Uint8Array;

export interface Guess {
  /** The network's output. */
  readonly index: number;
  /** Its class; the index in words for an output without a name. */
  readonly name: string;
  /** Where the name is the WordNet id of one of ImageNet's 1,000 classes: what it is called, "tench, Tinca tinca". */
  readonly words?: string;
  /** 0 to 1; all classes add up to 1. */
  readonly probability: number;
}

export interface Prediction {
  /** The path as given, or `file.npz#17`; `#2` for the third picture of the call where that was given as bytes. */
  readonly file: string;
  /** Most probable first. */
  readonly top: readonly Guess[];
  /** [classes], when asked for. */
  readonly logits?: readonly number[];
}

/** A picture that could not be used. */
export interface Refused {
  readonly file: string;
  readonly error: string;
}

export interface PredictOptions {
  /** How many guesses per picture: 5. */
  readonly top?: number;
  readonly logits?: boolean;
  /** Files that are known not to open, with the reason. */
  readonly refused?: ReadonlyMap<string, string>;
}

const predictOptions: NamesOf<PredictOptions> = { top: true, logits: true, refused: true };

export interface PredictOneOptions extends Pick<PredictOptions, "top" | "logits"> {
  /** Aborted before its batch has begun, the picture leaves the queue; the call rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/**
 * A network ready to predict; it holds the engine's memory until closed.
 */
export interface Predictor {
  readonly model: ModelDescription;
  /** The checkpoint in use, or the file of weights. */
  readonly checkpoint: string;
  /** Checkpoints that were passed over for it, each with the reason. */
  readonly passedOver: readonly string[];
  /** What weights from elsewhere are; undefined for ours. */
  readonly origin: WeightsOrigin | undefined;
  /** Pictures that `predictOne` was given and has not answered. */
  readonly pending: number;
  /** Results for pictures, and for `.npz` files (one per array entry), in order. */
  predict(pictures: readonly PictureInput[], options?: PredictOptions): AsyncGenerator<Prediction | Refused>;
  /**
   * The result for one picture. Calls that come while others wait share a batch with them, of at most `eval_batch_size`.
   *
   * @throws UsageError after `close`, or for an `.npz` file.
   */
  predictOne(picture: PictureInput, options?: PredictOneOptions): Promise<Prediction | Refused>;
  /**
   * Takes no more pictures, answers those that `predictOne` was given, then frees the engine's memory. A `predict` that is
   * still being read throws a UsageError at its next batch.
   */
  close(): Promise<void>;
}

export interface PredictorOptions {
  /** Milliseconds that a picture of `predictOne` waits at most for others while the engine is idle: 2. */
  readonly max_wait?: number;
  /** Hears of each batch of `predictOne` how many pictures it has. */
  readonly onBatch?: (pictures: number) => void;
}

/** What is told while weights are opened. */
export type OpeningEvent = TuningMessage | FetchingEvent;

/**
 * Loads a network for prediction: a run's folder (its `best/`), a folder in it, weights from elsewhere that are read, or
 * published weights by name, `imagenet`, which are fetched the first time unless `given.offline`. `report` hears of that, and
 * of its tuning, where `given.autotune` asks for one.
 *
 * @throws CheckpointError
 */
export async function openPredictor(
  checkpointPath: string,
  asked: GivenSettings = {},
  report?: (event: OpeningEvent) => void,
  { max_wait = 2, onBatch }: PredictorOptions = {},
): Promise<Predictor> {
  if (!(max_wait >= 0 && max_wait <= LONGEST_WAIT)) {
    throw new UsageError({
      what: "a batch cannot wait so long",
      where: "option max_wait",
      expected: `0 to ${LONGEST_WAIT} milliseconds`,
      found: String(max_wait),
    });
  }
  const given = readCall(asked, "openPredictor", [...settingsOf("predict"), "variant"]);
  const { variant, offline } = given;
  const found = await findNetwork(checkpointPath, { variant, offline, report });
  const { model: recorded, weights, checkpoint, path, passedOver, origin } = found;
  const model = {
    ...recorded,
    eval_resize: given.eval_resize ?? recorded.eval_resize,
    exif_orientation:
      given.exif_orientation ?? recorded.exif_orientation ?? unsaidOrientation(checkpoint?.state),
  };
  const network = await loadNetwork(model, given, report, { few: true });
  await network.run.load(weights);
  const loaded = new Loaded(network, model);
  const one = new OneByOne(loaded, max_wait, onBatch);
  let closed: Promise<void> | undefined;
  return {
    model,
    checkpoint: path,
    passedOver,
    origin,
    get pending() {
      return one.pending;
    },
    predict: (pictures, options = {}) => {
      refuseUnknown(options, predictOptions, "predict");
      return predictAll(loaded, pictures, options);
    },
    predictOne: (picture, options = {}) => one.predict(picture, options),
    close: () => (closed ??= one.close().then(() => loaded.close())),
  };
}

/** In milliseconds: a minute. */
const LONGEST_WAIT = 60_000;

/** All results for a few pictures at once. */
export async function predict(
  checkpointPath: string,
  pictures: readonly PictureInput[],
  options: PredictOptions = {},
): Promise<(Prediction | Refused)[]> {
  refuseUnknown(options, predictOptions, "predict");
  const predictor = await openPredictor(checkpointPath, {
    eval_batch_size: Math.min(16, Math.max(1, pictures.length)),
  });
  return closing(async (atEnd) => {
    atEnd(() => predictor.close());
    const results: (Prediction | Refused)[] = [];
    for await (const result of predictor.predict(pictures, options)) results.push(result);
    return results;
  });
}

/** A network in the engine, which whoever predicts takes in turn. */
class Loaded {
  /** Calls that the engine takes at a time. */
  readonly #calls: Allowance;
  #closed = false;

  constructor(
    readonly network: LoadedNetwork,
    readonly model: ModelDescription,
  ) {
    this.#calls = new Allowance(network.run.callsAtOnce);
  }

  /** Logits [count, classes] of images [count, size, size, 3]. */
  async infer(images: Uint8Array, count: number): Promise<Float32Array> {
    if (this.#closed) throw predictorClosed();
    const giveBack = await this.#calls.take(1);
    try {
      return await this.network.run.infer(images, count);
    } finally {
      giveBack();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#calls.take(this.network.run.callsAtOnce);
    this.network.run.close();
  }
}

function predictorClosed(): UsageError {
  return new UsageError({ what: "the predictor is closed", hint: "Open another, or close it later" });
}

/** Pictures that come one by one: each is decoded at once, and waits as pixels for its batch. */
class OneByOne {
  readonly #loaded: Loaded;
  readonly #gatherer: Gatherer<Uint8Array, Float32Array>;
  /** What is decoded at a time: more would wait for threads with its pixels in memory. */
  readonly #decoding = new Allowance(decodingThreads() + 2);
  /** [size, size, 3] each: of pictures that are decoded or wait, or were. */
  readonly #pixels: UsedBuffers;
  /** [batch, size, size, 3]: of those that are worked on. */
  readonly #images: UsedBuffers;
  readonly #accepted = new Set<Promise<unknown>>();
  #closed = false;

  constructor(loaded: Loaded, maxWait: number, onBatch: (pictures: number) => void = () => undefined) {
    this.#loaded = loaded;
    const { batch, imageSize } = loaded.network.program;
    const bytes = 3 * imageSize ** 2;
    this.#pixels = new UsedBuffers(bytes, 2 * batch + decodingThreads());
    this.#images = new UsedBuffers(batch * bytes, 2);
    this.#gatherer = new Gatherer({
      size: batch,
      maxWait,
      atOnce: loaded.network.run.callsAtOnce,
      work: async (pictures) => {
        const rows = await this.#infer(pictures);
        onBatch(pictures.length);
        return rows;
      },
    });
  }

  get pending(): number {
    return this.#accepted.size;
  }

  async predict(picture: PictureInput, options: PredictOneOptions): Promise<Prediction | Refused> {
    if (this.#closed) throw predictorClosed();
    checkInput(picture);
    if (typeof picture === "string" && isArchive(picture)) {
      throw new UsageError({
        what: "an .npz file holds many pictures",
        where: picture,
        hint: "Read it with predict()",
      });
    }
    const result = this.#predict(picture, options);
    this.#accepted.add(result);
    try {
      return await result;
    } finally {
      this.#accepted.delete(result);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#gatherer.hurry();
    await Promise.allSettled(this.#accepted);
  }

  async #predict(picture: PictureInput, options: PredictOneOptions): Promise<Prediction | Refused> {
    const { signal, ...wanted } = options;
    const { model } = this.#loaded;
    const file = typeof picture === "string" ? picture : "#0";
    const pixels = this.#pixels.take();
    try {
      await this.#decode(picture, file, pixels, signal);
      return predictionOf(file, await this.#gatherer.add(pixels, signal), model, wanted);
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      return { file, error: error.problem.what };
    } finally {
      this.#pixels.giveBack(pixels);
    }
  }

  async #decode(
    picture: PictureInput,
    file: string,
    pixels: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const giveBack = await this.#decoding.take(1);
    try {
      signal?.throwIfAborted();
      const bytes = typeof picture === "string" ? await bytesOf(picture) : picture;
      await pictureAlone(bytes, file, this.#loaded.model, pixels);
    } finally {
      giveBack();
    }
  }

  async #infer(pictures: readonly Uint8Array[]): Promise<Float32Array[]> {
    const { classes } = this.#loaded.network.program;
    const images = this.#images.take();
    try {
      pictures.forEach((pixels, i) => images.set(pixels, i * pixels.length));
      const logits = await this.#loaded.infer(images, pictures.length);
      return pictures.map((_, i) => logits.slice(i * classes, (i + 1) * classes));
    } finally {
      this.#images.giveBack(images);
    }
  }
}

/** @throws DataError when it cannot be read. */
async function bytesOf(file: string): Promise<Uint8Array> {
  const problem = await problemOf(file);
  if (problem !== undefined) throw DataError.at(file, problem);
  const [read] = await readPictures([file]);
  if (read === undefined || read instanceof DataError) throw read ?? DataError.at(file, "cannot be read");
  return read.bytes;
}

/** @throws UsageError where a program gave something else. */
function checkInput(picture: unknown): asserts picture is PictureInput {
  if (typeof picture === "string" || picture instanceof Uint8Array) return;
  throw new UsageError({
    what: "this is no picture",
    expected: "a path, or a file's bytes as Uint8Array or Buffer",
    found: picture === null ? "null" : typeof picture,
  });
}

async function* predictAll(
  loaded: Loaded,
  pictures: readonly PictureInput[],
  options: PredictOptions,
): AsyncGenerator<Prediction | Refused> {
  pictures.forEach(checkInput);
  for (const group of groupPictures(pictures)) {
    if ("npz" in group) {
      try {
        yield* predictSet(loaded, await openNpzImages(group.npz), options);
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        yield { file: group.npz, error: error.problem.what };
      }
      continue;
    }
    if ("encoded" in group) {
      yield* predictSet(loaded, openEncoded(group.encoded), options);
      continue;
    }
    const present: string[] = [];
    const missing = new Map<string, string>();
    for (const file of group.files) {
      const problem = options.refused?.get(file) ?? (await problemOf(file));
      if (problem === undefined) present.push(file);
      else missing.set(file, problem);
    }
    const results = present.length === 0 ? undefined : predictSet(loaded, openImageFiles(present), options);
    for (const file of group.files) {
      const problem = missing.get(file);
      if (problem !== undefined) yield { file, error: problem };
      else yield (await results?.next())?.value as Prediction | Refused;
    }
  }
}

/** What one set after another is made of. */
type Group = { readonly npz: string } | { readonly files: string[] } | { readonly encoded: NamedBytes[] };

/** Pictures in runs of a kind, so that a batch is full, with each `.npz` by itself. */
function groupPictures(pictures: readonly PictureInput[]): Group[] {
  const groups: Group[] = [];
  for (const [i, picture] of pictures.entries()) {
    const last = groups.at(-1);
    if (typeof picture !== "string") {
      const named = { name: `#${i}`, bytes: picture };
      if (last !== undefined && "encoded" in last) last.encoded.push(named);
      else groups.push({ encoded: [named] });
    } else if (isArchive(picture)) groups.push({ npz: picture });
    else if (last !== undefined && "files" in last) last.files.push(picture);
    else groups.push({ files: [picture] });
  }
  return groups;
}

function isArchive(file: string): boolean {
  return file.toLowerCase().endsWith(".npz");
}

async function problemOf(file: string): Promise<string | undefined> {
  try {
    return (await stat(file)).isFile() ? undefined : "not a file";
  } catch {
    // As Node puts it into the place of what is no text.
    return file.includes("\ufffd")
      ? "a name that is not UTF-8 text, so no argument can hold it; name its folder, or rename it"
      : "there is no such file";
  }
}

/** One result per sample, in order: batches leave bad pictures out, so those are put back in their place. */
async function* predictSet(
  loaded: Loaded,
  dataset: Dataset,
  options: PredictOptions,
): AsyncGenerator<Prediction | Refused> {
  const { model } = loaded;
  const { program } = loaded.network;
  const source = pictureBatches(dataset, model, program.batch);
  let next = 0;
  const refusedUpTo = function* (end: number): Generator<Refused> {
    for (; next < end; next++) {
      const bad = source.badImages.find(({ sample }) => sample === next);
      yield { file: dataset.name(next), error: bad?.reason ?? "cannot be read" };
    }
  };
  try {
    for await (const batch of source) {
      const logits = await loaded.infer(imagesOf(batch, program), batch.count);
      const { count } = batch;
      const samples = batch.samples.slice(0, count);
      batch.release();
      for (let i = 0; i < count; i++) {
        yield* refusedUpTo(samples[i] as number);
        const row = logits.slice(i * program.classes, (i + 1) * program.classes);
        yield predictionOf(dataset.name(next++), row, model, options);
      }
    }
    yield* refusedUpTo(dataset.size);
  } finally {
    await source.close();
  }
}

function predictionOf(
  file: string,
  logits: Float32Array,
  model: ModelDescription,
  { top = 5, logits: wanted = false }: PredictOptions,
): Prediction {
  const probabilities = softmax(logits);
  // A stable sort: of equal ones the lower index comes first.
  const order = Array.from(probabilities.keys()).sort(
    (a, b) => (probabilities[b] as number) - (probabilities[a] as number),
  );
  const guesses = order.slice(0, top).map((index) => {
    const name = model.class_names[index] ?? `output ${index}`;
    const words = wordsOf(name);
    const probability = probabilities[index] as number;
    return { index, name, ...(words === undefined ? {} : { words }), probability };
  });
  return { file, top: guesses, ...(wanted ? { logits: Array.from(logits) } : {}) };
}
