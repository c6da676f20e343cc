/**
 * Batches of pictures, decoded ahead of the reader, the same whatever order the work completes in.
 *
 * A batch lies in a buffer that is reused once released; as many buffers exist as batches are prefetched, plus
 * those being read, so memory is constant. Decoding runs on libuv's thread pool; this file only plans.
 *
 * Step s of training belongs to epoch floor(s / stepsPerEpoch), as data/epoch.ts counts: each epoch is a new permutation
 * of the whole set, of which the last size mod (shards * batch) samples are left out. A step is a batch for each shard,
 * and a process loads those of its own (data/sampler.ts).
 *
 * A picture that does not decode is named and counted. In training its place is taken by the next good sample of
 * that epoch's permutation, which depends on the files alone; in evaluation it is left out.
 */

import { DataError } from "../core/error.js";
import { Draws, streams } from "../core/random.js";
import { ONE_SHARD, type ShardShare } from "../distributed/shard-share.js";
import {
  asItIs,
  type Augmentation,
  type EvaluationResize,
  evaluationTransform,
  type Picture as Known,
  trainingTransform,
  type Transform,
} from "./pictures/augment.js";
import { type Dataset, orDataError, type PictureFile, readAll } from "./dataset.js";
import { stepsPerEpoch } from "./epoch.js";
import {
  DECODED_BYTES,
  type Decoder,
  decodingMemory,
  decodingThreads,
  type Encoded,
  GROUP_BYTES,
  orientationOf,
  type Picture,
  renderAll,
  type Rendering,
} from "./pictures/render.js";
import { Allowance } from "./pictures/allowance.js";
import { imageInfo } from "./pictures/image-info.js";
import { drawMixture, type Mixture, mixPictures } from "./mixup.js";
import { Sampler } from "./sampler.js";
import { Scratch } from "./pictures/scratch.js";

/** A batch; it is valid until released. */
export interface LoadedBatch {
  /** [batch, size, size, 3], RGB; zeros from image `count` on. */
  readonly images: Uint8Array;
  readonly labels: Int32Array;
  /** How many images there are: less than the batch at the end of an evaluation or beside bad images. */
  readonly count: number;
  /** Which sample of the set each image is. */
  readonly samples: Uint32Array;
  /** What else each image shows, where they are mixed in pairs: a label, and the share of the image's own. */
  readonly mixed?: { readonly labels: Int32Array; readonly shares: Float32Array };
  /** The buffers may be reused. */
  release(): void;
}

/** A sample that does not decode. */
export interface BadImage {
  readonly file: string;
  readonly reason: string;
  readonly sample: number;
  /** The file that keeps its place when it is removed, where it is one. */
  readonly picture: PictureFile | undefined;
}

/** More files do not decode than are allowed. */
export class TooManyBadImages extends DataError {
  constructor(
    readonly images: readonly BadImage[],
    allowed: number,
  ) {
    const { file, reason } = images.at(-1) as BadImage;
    super({
      where: file,
      what: reason,
      safe: "No image was used from it",
      hint:
        allowed === 0
          ? "Remove or replace it, or allow up to 5 such files: --max_bad_images 5"
          : `${images.length} such files are more than --max_bad_images ${allowed} allows; ` +
            `the first was ${images[0]?.file}`,
    });
  }
}

export interface BatchSource extends AsyncIterable<LoadedBatch> {
  /** So far, each once: those known before, then in the order of the batches. */
  readonly badImages: readonly BadImage[];
  /** Seconds the reader has waited in next(). */
  readonly waited: number;
  /** Stops decoding; resolves when no work is in flight. */
  close(): Promise<void>;
}

/** One of several processes that share a set; the only one when absent. */
interface Share {
  /** From 0. */
  readonly rank?: number | undefined;
  readonly ranks?: number | undefined;
}

interface LoadingOptions {
  /** Found and told before; they count. */
  readonly known?: readonly BadImage[] | undefined;
  readonly batch: number;
  readonly imageSize: number;
  readonly maxBadImages: number;
  /** Batches decoded ahead; with 0, one is decoded when the one before it is released. */
  readonly prefetch?: number | undefined;
  /** Batches that the reader holds at a time; 1 when absent. */
  readonly held?: number | undefined;
  readonly decoder?: Decoder | undefined;
}

export interface TrainingOptions extends LoadingOptions {
  /** Those of this process; a step is one batch when absent. */
  readonly shards?: ShardShare;
  readonly seed: number;
  /** The step of the first batch, those that were skipped counted; a resumed run gives the one it stopped at. */
  readonly firstStep: number;
  readonly augmentation: Augmentation;
  /** False: file order in every epoch. */
  readonly shuffle: boolean;
  /** Alpha of mixup; none are mixed with 0, or when absent. */
  readonly mixup?: number;
}

interface EvaluationOptions extends LoadingOptions, Share {
  readonly resize: EvaluationResize;
}

/** Batches without end: of each step one for each shard, in their order. */
export function trainingBatches(dataset: Dataset, options: TrainingOptions): BatchSource {
  const { batch, imageSize, seed, augmentation, shuffle, mixup = 0, shards = ONE_SHARD } = options;
  const { size } = dataset;
  const samplers = new Sampler({ size, seed, shuffle, rank: shards.first, ranks: shards.of }).neighbours(
    shards.count,
  );
  const steps = stepsPerEpoch(size, batch, { shards: shards.of });
  const stepOf = (index: number): number => options.firstStep + Math.floor(index / shards.count);
  const mixture = (index: number): Mixture => {
    const shard = shards.first + (index % shards.count);
    return drawMixture(mixup, batch, { seed, step: stepOf(index), shard });
  };
  return new Loader(dataset, {
    ...options,
    batches: Infinity,
    ...(mixup === 0 ? {} : { mixture }),
    plan: (index) => {
      const step = stepOf(index);
      const sampler = samplers[index % shards.count] as Sampler;
      const epoch = Math.floor(step / steps);
      const first = (step % steps) * batch;
      return Array.from({ length: batch }, (_, i) => ({
        sample: sampler.sample(epoch, first + i),
        substitute: (attempt) => sampler.sample(epoch, (first + i + attempt) % sampler.length),
        transform: (sample, source, picture) =>
          augmentation.crop === "centre" && isOfSize(source, imageSize)
            ? asItIs(imageSize)
            : trainingTransform(
                augmentation,
                picture,
                imageSize,
                new Draws(seed, streams.augment, epoch, sample),
              ),
      }));
    },
  });
}

/** The rank's share of the set once, in order; the last batch may be short. */
export function evaluationBatches(dataset: Dataset, options: EvaluationOptions): BatchSource {
  const { batch, imageSize, resize, rank = 0, ranks = 1 } = options;
  const sampler = new Sampler({ size: dataset.size, seed: 0, shuffle: false, rank, ranks });
  return new Loader(dataset, {
    ...options,
    batches: Math.ceil(sampler.length / batch),
    plan: (index) => {
      const first = index * batch;
      return Array.from({ length: Math.min(batch, sampler.length - first) }, (_, i) => ({
        sample: sampler.sample(0, first + i),
        substitute: () => undefined,
        transform: (_sample, source, picture) => evaluationCut(resize, source, picture, imageSize),
      }));
    },
  });
}

/** What evaluation and prediction see of a picture. */
export function evaluationCut(
  resize: EvaluationResize,
  source: Picture,
  picture: Known,
  imageSize: number,
): Transform {
  return isOfSize(source, imageSize) ? asItIs(imageSize) : evaluationTransform(resize, picture, imageSize);
}

/** Some samples once each, in the order given, as `transform` has each; it is told of arrays that are of the size already. */
export function everyPicture(
  dataset: Dataset,
  options: LoadingOptions & {
    readonly samples: readonly number[];
    readonly transform: (sample: number, picture: Known, isOfSize: boolean) => Transform;
  },
): BatchSource {
  const { batch, imageSize, samples, transform } = options;
  return new Loader(dataset, {
    ...options,
    batches: Math.ceil(samples.length / batch),
    plan: (index) =>
      samples.slice(index * batch, (index + 1) * batch).map((sample) => ({
        sample,
        substitute: () => undefined,
        transform: (_sample, source, picture) => transform(sample, picture, isOfSize(source, imageSize)),
      })),
  });
}

/** Batches decoded ahead unless told. */
export const DEFAULT_PREFETCH = 3;

/** Groups of pictures in flight: some beyond the threads that there are, so that none idles. */
const GROUPS_IN_FLIGHT = decodingThreads() + 2;

/** Pictures that one thread reads, then decodes, in one go: with eight, hops between threads hardly show. */
const LARGEST_GROUP = 8;

/** What all large files that were read and are not yet decoded take; one that is larger is read alone. */
const ENCODED_BYTES = 256 * 2 ** 20;
const encodedBytes = new Allowance(ENCODED_BYTES);

/** Pictures looked at to tell how large a set's are. */
const LOOKED_AT = 8;

/** Bytes that reading and decoding a set's pictures may hold, beside the batches; told from some of its pictures. */
export async function decodingMemoryOf(dataset: Dataset): Promise<number> {
  const step = Math.max(1, Math.floor(dataset.size / LOOKED_AT));
  let [encoded, decoded] = [0, 0];
  for (let sample = 0; sample < dataset.size; sample += step) {
    const picture = await orDataError(dataset.read(sample));
    if (picture instanceof DataError || picture.kind === "pixels") continue;
    encoded = Math.max(encoded, picture.bytes.length);
    decoded = Math.max(decoded, judgedMemory(picture));
  }
  // As many at once as read or decode, as far as the bounds let them.
  const held = (bytes: number, atOnce: number, bound: number): number =>
    bytes <= GROUP_BYTES
      ? atOnce * Math.min(GROUP_BYTES, LARGEST_GROUP * bytes)
      : bytes * Math.max(1, Math.min(atOnce, Math.floor(bound / bytes)));
  return held(encoded, GROUPS_IN_FLIGHT, ENCODED_BYTES) + held(decoded, decodingThreads(), DECODED_BYTES);
}

/** What decoding holds; nothing for a picture that is refused first. */
function judgedMemory(picture: Encoded): number {
  try {
    const info = imageInfo(picture.bytes, "");
    const turned = orientationOf(picture, info) === 1 ? 0 : 3 * info.width * info.height;
    return decodingMemory(info) + turned;
  } catch (error) {
    if (error instanceof DataError) return 0;
    throw error;
  }
}

/** One place of a batch. */
interface Place {
  readonly sample: number;
  /** The sample to take when `attempt` ones before it were bad; undefined leaves the place out. */
  substitute(attempt: number): number | undefined;
  transform(sample: number, source: Picture, picture: Known): Transform;
}

interface Plan extends LoadingOptions {
  readonly batches: number;
  /** The places of the batch-th batch, from 0. */
  plan(batch: number): readonly Place[];
  /** How its pictures are mixed once they are decoded; absent where they are not. */
  mixture?(batch: number): Mixture;
}

interface Slot {
  readonly images: Uint8Array;
  readonly labels: Int32Array;
  readonly samples: Uint32Array;
}

/** A batch whose pictures are there. */
interface Filled {
  readonly slot: Slot;
  readonly filled: readonly Filling[];
  readonly mixture: Mixture | undefined;
}

/** A place being filled, and at last what became of it. */
interface Filling {
  readonly place: Place;
  /** In the batch. */
  readonly index: number;
  sample: number;
  /** Tried before. */
  readonly bad: BadImage[];
  leftOut: boolean;
}

class Loader implements BatchSource {
  readonly badImages: BadImage[] = [];
  waited = 0;

  readonly #dataset: Dataset;
  readonly #plan: Plan;
  readonly #free: Slot[];
  readonly #started: Promise<Filled | { readonly error: unknown }>[] = [];
  readonly #bad = new Set<number>();
  #next = 0;
  /** A permit to read and decode is memory to read into. */
  readonly #permits: Scratch[] = Array.from({ length: GROUPS_IN_FLIGHT }, () => new Scratch());
  readonly #queue: ((permit: Scratch) => void)[] = [];
  #closed = false;

  constructor(dataset: Dataset, plan: Plan) {
    this.#dataset = dataset;
    this.#plan = plan;
    for (const image of plan.known ?? []) this.#bad.add(image.sample);
    this.badImages.push(...(plan.known ?? []));
    const pixels = plan.batch * plan.imageSize * plan.imageSize * 3;
    this.#free = Array.from(
      { length: Math.min(plan.prefetch ?? DEFAULT_PREFETCH, plan.batches) + (plan.held ?? 1) },
      () => ({
        images: new Uint8Array(pixels),
        labels: new Int32Array(plan.batch),
        samples: new Uint32Array(plan.batch),
      }),
    );
    this.#fillFree();
  }

  [Symbol.asyncIterator](): AsyncIterator<LoadedBatch> {
    return {
      next: async () => {
        const value = await this.#take();
        return value === undefined ? { done: true, value } : { done: false, value };
      },
      return: async () => {
        await this.close();
        return { done: true, value: undefined };
      },
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#started);
    this.#started.length = 0;
  }

  async #take(): Promise<LoadedBatch | undefined> {
    for (;;) {
      const coming = this.#started.shift();
      if (coming === undefined) {
        if (this.#closed || this.#next >= this.#plan.batches) return undefined;
        throw new Error("all batches are held by the reader; release() them");
      }
      const start = performance.now();
      const result = await coming;
      this.waited += (performance.now() - start) / 1000;
      if ("error" in result) throw result.error;
      for (const { bad } of result.filled) for (const image of bad) this.#count(image);
      const batch = this.#assemble(result);
      if (batch.count > 0) return batch;
      batch.release();
    }
  }

  /** Closes the gaps of places left out, so that images and labels are the first `count`. */
  #assemble({ slot, filled, mixture }: Filled): LoadedBatch {
    const { images, labels, samples } = slot;
    const bytes = this.#plan.imageSize ** 2 * 3;
    let count = 0;
    for (const { sample, index, leftOut } of filled) {
      if (leftOut) continue;
      if (count !== index) images.copyWithin(count * bytes, index * bytes, (index + 1) * bytes);
      labels[count] = this.#dataset.label(sample);
      samples[count] = sample;
      count++;
    }
    images.fill(0, count * bytes);
    labels.fill(0, count);
    samples.fill(0, count);
    let released = false;
    const release = (): void => {
      if (released) return;
      released = true;
      this.#free.push(slot);
      this.#fillFree();
    };
    const mixed =
      mixture === undefined
        ? {}
        : {
            mixed: {
              labels: mixture.partners.map((other) => labels[other] as number),
              shares: mixture.shares,
            },
          };
    return { images, labels, samples, count, ...mixed, release };
  }

  #count(image: BadImage): void {
    if (this.#bad.has(image.sample) || image.picture?.gone === true) return;
    this.#bad.add(image.sample);
    this.badImages.push(image);
    const { maxBadImages } = this.#plan;
    if (this.badImages.length > maxBadImages) throw new TooManyBadImages(this.badImages, maxBadImages);
  }

  #fillFree(): void {
    while (!this.#closed && this.#next < this.#plan.batches) {
      const slot = this.#free.pop();
      if (slot === undefined) return;
      const number = this.#next++;
      const mixture = this.#plan.mixture?.(number);
      const places = this.#plan
        .plan(number)
        .map((place, index): Filling => ({ place, index, sample: place.sample, bad: [], leftOut: false }));
      const groups = inGroups(places, ({ sample }) => this.#dataset.bytes?.(sample) ?? 0);
      const filling = Promise.all(groups.map((group) => this.#fill(group, slot)));
      // Mixed here and not when it is taken, so that it is done ahead as decoding is. A batch with gaps is not trained on.
      const done = filling.then((): Filled => {
        if (mixture !== undefined) mixPictures(slot.images, mixture);
        return { slot, filled: places, mixture };
      });
      this.#started.push(done.catch((error: unknown) => ({ error })));
    }
  }

  /** Renders the samples of a group, or the next good one in a bad one's stead. */
  async #fill(group: readonly Filling[], slot: Slot): Promise<void> {
    const permit = this.#permits.pop() ?? (await new Promise<Scratch>((go) => this.#queue.push(go)));
    const bytes = group.length > 1 ? 0 : (this.#dataset.bytes?.(group[0]?.sample ?? 0) ?? 0);
    const giveBack = bytes > GROUP_BYTES ? await encodedBytes.take(bytes) : undefined;
    try {
      for (let open = group; open.length > 0 && !this.#closed;) {
        const errors = await this.#render(open, slot, permit);
        open = open.filter((filling, i) => {
          const error = errors[i];
          return error !== undefined && this.#replace(filling, error);
        });
      }
    } finally {
      giveBack?.();
      // The permit goes to the one who waits longest.
      const waiting = this.#queue.shift();
      if (waiting === undefined) this.#permits.push(permit);
      else waiting(permit);
    }
  }

  /** Why each that is bad is so; the others lie in the slot. */
  async #render(
    open: readonly Filling[],
    slot: Slot,
    scratch: Scratch,
  ): Promise<readonly (DataError | undefined)[]> {
    const samples = open.map(({ sample }) => sample);
    const sources = await readAll(this.#dataset, samples, scratch);
    const bytes = this.#plan.imageSize ** 2 * 3;
    const renderings = open.map(({ place, index, sample }, i): Rendering => {
      const source = sources[i] as Picture | DataError;
      return {
        source,
        where: this.#dataset.name(sample),
        plan: (picture) => place.transform(sample, source as Picture, picture),
        offset: index * bytes,
      };
    });
    return renderAll(renderings, slot.images, this.#plan.decoder);
  }

  /** Takes the next sample for the place; false when there is none, or no more bad ones are allowed. */
  #replace(filling: Filling, error: DataError): boolean {
    const { place, sample, bad } = filling;
    const { where = this.#dataset.name(sample), what } = error.problem;
    bad.push({ file: where, reason: what, sample, picture: this.#dataset.file?.(sample) });
    // Past the allowed number the batch will be refused, whatever is in it.
    const counted = bad.filter(({ picture }) => picture?.gone !== true).length;
    const next = counted > this.#plan.maxBadImages ? undefined : place.substitute(bad.length);
    filling.leftOut = next === undefined;
    filling.sample = next ?? sample;
    return next !== undefined;
  }
}

/** As large as is good for speed, but small enough that a single batch keeps several threads busy. */
function inGroups<T>(all: readonly T[], bytesOf: (one: T) => number): T[][] {
  const size = Math.max(1, Math.min(LARGEST_GROUP, Math.floor(all.length / 4)));
  const groups: T[][] = [];
  let bytes = 0;
  for (const one of all) {
    bytes += bytesOf(one);
    const last = groups.at(-1);
    if (last !== undefined && last.length < size && bytes <= GROUP_BYTES) last.push(one);
    else {
      groups.push([one]);
      bytes = bytesOf(one);
    }
  }
  return groups;
}

/** Arrays of the network's own size are used as they are; files always go through the recipe's resize. */
function isOfSize(source: Picture, size: number): boolean {
  return source.kind === "pixels" && source.width === size && source.height === size;
}
