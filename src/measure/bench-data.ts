/**
 * How fast pictures come from disk to batches: reading, decoding, cropping and augmenting, without training.
 *
 * The loader is the one that training uses, so a rate here that is above the network's means that training will not
 * wait. All rates are of this process, on all cores that it may use.
 */

import { DataError, UsageError } from "../core/error.js";
import { Draws, streams } from "../core/random.js";
import { type Augmentation, trainingTransform } from "../data/pictures/augment.js";
import { type Dataset, readAll } from "../data/dataset.js";
import { trainingBatches } from "../data/loader.js";
import { type Decoder, jpegDecoder, renderInto } from "../data/pictures/render.js";
import { openSource } from "../data/sets.js";
import { augmentationOf } from "../settings/augmentation.js";
import { readCall } from "../settings/read-settings.js";
import { type GivenSettings, type SettingName, settings as table } from "../settings/settings.js";

/** The settings that matter to pictures: what `bench data` takes. */
export const dataBenchSettings = [
  "data_dir",
  "image_size",
  "batch_size",
  "augment",
  "seed",
  "max_bad_images",
] as const satisfies readonly SettingName[];

export interface DataBenchOptions extends Pick<GivenSettings, (typeof dataBenchSettings)[number]> {
  /** Measured, in whole batches, after {@link WARM_UP} batches: 2,000. */
  readonly images?: number | undefined;
  readonly decoder?: Decoder | undefined;
}

/** The command's JSON. */
export interface DataBenchResult {
  readonly mode: "data";
  readonly data_dir: string;
  /** Pixels. */
  readonly image_size: number;
  readonly batch_size: number;
  readonly augment: string;
  /** Of JPEGs; PNG and WebP are always sharp's. */
  readonly decoder: "libjpeg-turbo" | "sharp";
  /** Measured. */
  readonly images: number;
  /** Over any {@link WINDOW} batches in a row; `mean` is all images in all the time. */
  readonly images_per_second: {
    readonly mean: number;
    readonly min: number;
    readonly median: number;
    readonly max: number;
  };
  /** 10^6 bytes a second, as they are stored. */
  readonly mb_per_second: number;
  /** Processor time of all threads. */
  readonly cpu_ms_per_image: number;
  /** Share of the time that the JavaScript thread, which plans and hands out the work, was busy; near 1 it limits. */
  readonly main_thread_share: number;
  /** Of one picture at a time, the share that reading its bytes takes; the rest is decoding and augmenting. */
  readonly read_share: number;
  /** Peak resident size of the whole process, in units of 2^20 bytes. */
  readonly peak_memory_mb: number;
  /** Pictures that did not decode and were replaced. */
  readonly bad_images: number;
}

/** More than are prefetched, so that buffers are full and code is compiled. */
const WARM_UP = 5;

/** Batches that a rate is taken over: as many as may lie ready at once, and so arrive at once after a pause. */
const WINDOW = 4;

/** Pictures that the share of reading is taken from. */
const ALONE = 64;

/**
 * Loads training pictures as training would, shuffled and augmented, and drops them.
 *
 * @param progress hears of every batch, warm-up counted.
 * @throws UsageError or DataError, as training would.
 */
export async function benchData(
  options: DataBenchOptions,
  progress?: (done: number, total: number) => void,
): Promise<DataBenchResult> {
  const {
    images = 2000,
    decoder = "auto",
    ...given
  } = readCall(options, "benchData", dataBenchSettings, ["images", "decoder"]);
  const {
    data_dir: dataDir,
    image_size: imageSize = table.image_size.default,
    batch_size: batch = 32,
    augment = "tensorflow",
    seed = 0,
    max_bad_images: maxBadImages = table.max_bad_images.default,
  } = given;
  if (dataDir === undefined) {
    throw new UsageError({
      what: "there is nothing to load",
      hint: "npx riffle-vision bench data --data_dir FOLDER",
    });
  }
  // Of records, only the part that is measured is indexed.
  const { parts, whole } = await openSource(dataDir, { seed });
  const open = parts.train ?? whole ?? parts.validation ?? parts.test;
  if (open === undefined) throw new Error("a source without parts was opened");
  const set = await open();
  const counted = countingBytes(set);
  const augmentation = augmentationOf({ augment, crop_area_min: table.crop_area_min.default, flip: true });
  const source = trainingBatches(counted.set, {
    batch,
    imageSize,
    seed,
    firstStep: 0,
    augmentation,
    shuffle: true,
    maxBadImages,
    decoder,
  });
  const batches = Math.max(1, Math.ceil(images / batch));
  const rates: number[] = [];
  let loaded = 0;
  let start = 0;
  const arrivals: number[] = [];
  let bytesBefore = 0;
  let cpuBefore = process.cpuUsage();
  let loopBefore = performance.eventLoopUtilization();
  for await (const arrived of source) {
    const now = performance.now();
    arrivals.push(now);
    arrived.release();
    loaded++;
    progress?.(loaded, WARM_UP + batches);
    const earlier = arrivals[loaded - 1 - WINDOW];
    if (loaded > WARM_UP && earlier !== undefined) rates.push((1000 * WINDOW * batch) / (now - earlier));
    if (loaded === WARM_UP) {
      start = now;
      bytesBefore = counted.bytes();
      cpuBefore = process.cpuUsage();
      loopBefore = performance.eventLoopUtilization();
    }
    if (loaded === WARM_UP + batches) break;
  }
  const seconds = ((arrivals.at(-1) ?? start) - start) / 1000;
  const measured = batches * batch;
  const cpu = process.cpuUsage(cpuBefore);
  const loop = performance.eventLoopUtilization(loopBefore);
  const bytes = counted.bytes() - bytesBefore;
  const share = await readShare(set, { augmentation, imageSize, seed, decoder });
  await set.close?.();
  const sorted = rates.toSorted((a, b) => a - b);
  return {
    mode: "data",
    data_dir: dataDir,
    image_size: imageSize,
    batch_size: batch,
    augment,
    decoder: decoder === "sharp" ? "sharp" : jpegDecoder(),
    images: measured,
    images_per_second: {
      mean: measured / seconds,
      min: sorted[0] ?? 0,
      median: sorted[Math.floor(sorted.length / 2)] ?? 0,
      max: sorted.at(-1) ?? 0,
    },
    mb_per_second: bytes / seconds / 1e6,
    cpu_ms_per_image: (cpu.user + cpu.system) / 1000 / measured,
    main_thread_share: loop.utilization,
    read_share: share,
    peak_memory_mb: process.resourceUsage().maxRSS / 1024,
    bad_images: source.badImages.length,
  };
}

interface Alone {
  readonly augmentation: Augmentation;
  readonly imageSize: number;
  readonly seed: number;
  readonly decoder: Decoder;
}

/** Share of the time of one picture after another that reading takes; pictures that do not decode are left out. */
async function readShare(set: Dataset, { augmentation, imageSize, seed, decoder }: Alone): Promise<number> {
  const out = new Uint8Array(imageSize * imageSize * 3);
  let reading = 0;
  let rendering = 0;
  for (let sample = 0; sample < Math.min(ALONE, set.size); sample++) {
    try {
      const start = performance.now();
      const source = await set.read(sample);
      const read = performance.now();
      const draws = new Draws(seed, streams.augment, 0, sample);
      await renderInto(
        source,
        set.name(sample),
        (picture) => trainingTransform(augmentation, picture, imageSize, draws),
        out,
        0,
        decoder,
      );
      reading += read - start;
      rendering += performance.now() - read;
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
    }
  }
  return reading / (reading + rendering);
}

/** The set, and how many bytes have been read from it. */
function countingBytes(set: Dataset): { readonly set: Dataset; bytes(): number } {
  let bytes = 0;
  const readAndCount: NonNullable<Dataset["readAll"]> = async (samples, scratch) => {
    const sources = await readAll(set, samples, scratch);
    for (const source of sources) {
      if (source instanceof DataError) continue;
      bytes += source.kind === "encoded" ? source.bytes.length : source.data.length;
    }
    return sources;
  };
  return {
    set: {
      classes: set.classes,
      size: set.size,
      label: (sample) => set.label(sample),
      name: (sample) => set.name(sample),
      read: (sample) => set.read(sample),
      readAll: readAndCount,
      fingerprint: set.fingerprint,
    },
    bytes: () => bytes,
  };
}
