/**
 * The data of a run: opened as its settings say, with what takes long reported, and closed as one.
 *
 * Training, evaluation and the contact sheet open their data here, so the same settings mean the same samples under
 * the same numbers in all of them.
 */

import { join } from "node:path";

import { closing } from "../core/closing.js";
import { UsageError } from "../core/error.js";
import { type Dataset, spread, upright } from "../data/dataset.js";
import {
  cachedFingerprint,
  cacheFolder,
  type CacheProgress,
  cacheSide,
  decodedCache,
  resizedCache,
} from "../data/cache.js";
import type { IndexProgress } from "../data/records/record-scan.js";
import { parseKeys } from "../data/records/record-keys.js";
import {
  type OpenedPart,
  openDatasets,
  openPair,
  openPart,
  type OpenOptions,
  type Sets,
} from "../data/sets.js";
import type { Split } from "../data/split-names.js";
import { syntheticSet } from "../data/synthetic.js";
import { noRemarks } from "../data/remarks.js";
import type { BadImageEvent, PassedOverEvent, PreparingEvent, RecordsEvent, WarningEvent } from "./events.js";
import { availableMemory } from "../core/available-memory.js";
import {
  type GivenSettings,
  type SettingName,
  type Settings,
  settings as table,
} from "../settings/settings.js";

export interface RunData extends Sets {
  /** Closes the files that are read from while the run lasts. */
  close(): Promise<void>;
}

/** What says which data is read, and how. */
export const dataSettingNames = [
  "data_dir",
  "train_data_dir",
  "eval_data_dir",
  "synthetic",
  "val_split",
  "keys",
  "skip_bad_records",
  "label_offset",
  "train_dataset_size",
  "eval_dataset_size",
  "num_classes",
  "image_size",
] as const satisfies readonly SettingName[];
export type DataSettings = Pick<GivenSettings, (typeof dataSettingNames)[number]>;

/** A short name for where the data comes from. */
export function dataName({ synthetic, data_dir, train_data_dir }: DataSettings): string {
  return synthetic === true ? "synthetic pictures" : (train_data_dir ?? data_dir ?? "no data");
}

type DataOptions = Pick<OpenOptions, "seed" | "usualShare" | "record" | "byNumber" | "leftOut" | "outputs">;
type DataReporter = (event: PreparingEvent | BadImageEvent | PassedOverEvent | WarningEvent) => void;

/** What a run trains on, and what it is scored on meanwhile. @throws DataError, UsageError */
export async function openRunData(
  given: DataSettings,
  options: DataOptions,
  report: DataReporter,
): Promise<RunData> {
  const remarks = noRemarks();
  const sets = limited(
    given.synthetic === true
      ? synthetic(given, options.seed)
      : await openGiven(given, { ...options, ...openOptions(given, report), remarks }),
    given,
  );
  if (given.synthetic !== true) {
    remarks.notices.push(...classesWithout(sets.train, dataName(given), given.label_offset));
    if (given.eval_dataset_size === undefined) remarks.notices.push(...unscored(sets, dataName(given)));
  }
  reportRemarks(remarks, [sets.train, sets.validation], report);
  return { ...sets, close: () => closeAll([sets.train, sets.validation]) };
}

/**
 * One part of data, to be scored or looked at: the one asked for, else the one held out. Of what was given, a folder to be
 * evaluated goes before the data as a whole.
 *
 * @throws DataError, UsageError
 */
export async function openRunPart(
  given: DataSettings,
  asked: Split | undefined,
  options: DataOptions & { readonly isOwn?: boolean },
  report: DataReporter,
): Promise<OpenedPart> {
  const { data_dir, train_data_dir, eval_data_dir, eval_dataset_size } = given;
  if (given.synthetic === true) {
    const { train, validation } = limited(synthetic(given, options.seed), given);
    if (asked === "train") return { set: train, part: "train", unused: [] };
    if (validation === undefined) throw notSaid();
    return { set: validation, part: "validation", unused: [] };
  }
  const remarks = noRemarks();
  // With --train_data_dir, --data_dir is where the pictures to be scored are.
  const apart = eval_data_dir ?? (train_data_dir === undefined ? undefined : data_dir);
  const training = train_data_dir ?? data_dir;
  const isApart = apart !== undefined && asked !== "train";
  const path = (isApart ? apart : (training ?? apart)) as string;
  const { isOwn = false, ...others } = options;
  const opened = await openPart(path, asked, {
    ...others,
    ...openOptions(given, report),
    // What lies apart from the training data was never a part of it.
    ...(isApart && isOwn ? { record: undefined, usualShare: 0 } : {}),
    isOwn: isOwn && !isApart,
    remarks,
  });
  reportRemarks(remarks, [opened.set], report);
  if (eval_dataset_size === undefined) return opened;
  return { ...opened, set: spread(opened.set, eval_dataset_size, "--eval_dataset_size") };
}

/** Classes that are trained on and never scored, in words; of a set whose part is limited that is no news. */
function unscored({ train, validation, scored }: Sets, where: string): string[] {
  if (validation === undefined) return [];
  const held = new Set(Array.from({ length: validation.size }, (_, sample) => validation.label(sample)));
  const trained = new Set(Array.from({ length: train.size }, (_, sample) => train.label(sample)));
  const missing = [...trained].filter((label) => !held.has(label)).sort((a, b) => a - b);
  if (missing.length === 0) return [];
  const named = missing.slice(0, NAMED).map((label) => train.classes[label] ?? String(label));
  const list = named.join(", ") + (missing.length > NAMED ? ", ..." : "");
  const why = scored?.by === "share" ? "; a class needs two pictures for that" : "";
  return [
    `${where}: of ${list} no picture is held out, so how well ${missing.length === 1 ? "it is" : "they are"} told is never scored${why}`,
  ];
}

/** Labels that no picture to train on has, in words, and the option that counts them otherwise. */
function classesWithout(train: Dataset, where: string, offset = table.label_offset.default): string[] {
  const counts = new Uint32Array(train.classes.length);
  for (let sample = 0; sample < train.size; sample++) {
    const label = train.label(sample);
    counts[label] = (counts[label] ?? 0) + 1;
  }
  const empty = train.classes.flatMap((name, label) => (counts[label] === 0 ? [{ name, label }] : []));
  if (empty.length === 0) return [];
  const first = counts.findIndex((count) => count > 0);
  const isNumbers = train.classes.every((name, label) => name === String(label));
  const named = empty.slice(0, NAMED).map(({ name, label }) => (isNumbers ? String(label + offset) : name));
  const list = named.join(", ") + (empty.length > NAMED ? ", ..." : "");
  const are = empty.length === 1 ? "class" : "classes";
  const what = isNumbers
    ? `no picture has the label ${list}`
    : `${empty.length} ${are} without a picture to train on: ${list}`;
  if (!isNumbers || first === 0) {
    const gaps = isNumbers ? "; labels without gaps give a network without idle outputs" : "";
    return [`${where}: ${what}; the network has ${train.classes.length} outputs all the same${gaps}`];
  }
  const fewer = train.classes.length - first;
  return [
    `${where}: ${what}, so the network has ${train.classes.length} outputs; if the labels are counted from ${first + offset}, ` +
      `--label_offset ${first + offset} makes it ${fewer}`,
  ];
}

const NAMED = 5;

function reportRemarks(
  { system, others, notices }: ReturnType<typeof noRemarks>,
  sets: readonly (Dataset | undefined)[],
  report: DataReporter,
): void {
  if (system + others.length > 0) report({ event: "passed_over", system_files: system, others });
  for (const what of notices) report({ event: "warning", what });
  for (const records of new Set(sets.map((set) => set?.records))) {
    for (const { shard, record, offset, reason, lost } of records?.badRecords ?? []) {
      const more = lost > 1 ? `; ${lost - 1} more are lost behind it` : "";
      const file = `${join(records?.folder ?? "", shard)}#${record}, byte ${offset}`;
      report({ event: "bad_image", file, reason: reason + more });
    }
  }
}

/** The sets at the paths given. */
async function openGiven(
  { data_dir, train_data_dir, eval_data_dir }: DataSettings,
  options: OpenOptions,
): Promise<Sets> {
  const trainDir = train_data_dir ?? data_dir;
  // With --train_data_dir, --data_dir is where the validation pictures are.
  const evalDir = eval_data_dir ?? (train_data_dir === undefined ? undefined : data_dir);
  if (evalDir === undefined) return openDatasets(trainDir as string, options);
  return openPair(trainDir as string, evalDir, options);
}

function openOptions(
  given: DataSettings,
  report: (event: PreparingEvent | WarningEvent) => void,
): Pick<OpenOptions, "valSplit" | "records"> {
  let clock = { started: performance.now(), records: 0 };
  return {
    valSplit: given.val_split,
    records: {
      keys: given.keys === undefined ? undefined : parseKeys(given.keys),
      skipBadRecords: given.skip_bad_records ?? table.skip_bad_records.default,
      labelOffset: given.label_offset ?? table.label_offset.default,
      onProgress: (progress) => {
        // Validation counts anew.
        if (progress.records < clock.records) clock = { started: performance.now(), records: 0 };
        clock.records = progress.records;
        report(indexing(progress, clock.started));
      },
      onNotice: (what) => report({ event: "warning", what }),
    },
  };
}

/** As many classes and training pictures as ImageNet has where nothing is given; validation only where it is. */
function synthetic(given: DataSettings, seed: number): Sets {
  if (
    given.data_dir !== undefined ||
    given.train_data_dir !== undefined ||
    given.eval_data_dir !== undefined
  ) {
    throw new UsageError({
      what: "--synthetic true takes the place of data, and data is given",
      where: "option --synthetic",
      expected: "one of the two",
      found: `--synthetic true and ${dataName({ ...given, synthetic: false })}`,
      safe: "Nothing was read or written",
      hint: "Leave --data_dir out, or --synthetic",
    });
  }
  const { train_dataset_size = IMAGENET.images, eval_dataset_size } = given;
  const common = {
    classes: given.num_classes ?? IMAGENET.classes,
    imageSize: given.image_size ?? table.image_size.default,
  };
  const validation =
    eval_dataset_size === undefined
      ? undefined
      : syntheticSet({ ...common, size: eval_dataset_size, seed: seed + 1 });
  const train = syntheticSet({ ...common, size: train_dataset_size, seed });
  return { train, validation, classes: train.classes };
}

function notSaid(): UsageError {
  return new UsageError({
    what: "how many synthetic pictures are to be evaluated is not said",
    where: "option --eval_dataset_size",
    expected: "a number of pictures",
    found: "nothing",
    safe: "Nothing was written",
  });
}

/** What the published training set left after its skipped pictures. */
const IMAGENET = { images: 1_281_144, classes: 1000 } as const;

/** No more pictures than are asked for. */
function limited(sets: Sets, { train_dataset_size, eval_dataset_size }: DataSettings): Sets {
  const { train, validation } = sets;
  return {
    ...sets,
    train:
      train_dataset_size === undefined ? train : spread(train, train_dataset_size, "--train_dataset_size"),
    validation:
      validation === undefined || eval_dataset_size === undefined
        ? validation
        : spread(validation, eval_dataset_size, "--eval_dataset_size"),
  };
}

/** What events say of a set of records. */
export function recordsEvent({ records }: Dataset): RecordsEvent | null {
  if (records === undefined) return null;
  const { shards, badRecords, index } = records;
  return { shards, bad_records: badRecords.reduce((sum, { lost }) => sum + lost, 0), index };
}

/**
 * Pictures that may be bad before a run stops: damaged records that --skip_bad_records leaves out are found when they
 * are read, too, where a shard was damaged after its index was made.
 */
export function badImageLimit(given: Pick<GivenSettings, "max_bad_images" | "skip_bad_records">): number {
  return Math.max(
    given.max_bad_images ?? table.max_bad_images.default,
    given.skip_bad_records ?? table.skip_bad_records.default,
  );
}

/** The data with its training pictures upright, where the settings ask for that; evaluation asks its model. */
export function turnedData(data: RunData, { exif_orientation }: CacheSettings): RunData {
  return exif_orientation === "apply" ? { ...data, train: upright(data.train) } : data;
}

/** The fingerprint of what is trained on: the data's own, or that of the cache that the settings ask for. */
export function trainingFingerprint(train: Dataset, settings: CacheSettings): string {
  const { cache = "none", exif_orientation } = settings;
  const set = exif_orientation === "apply" ? upright(train) : train;
  return cache === "none" ? set.fingerprint : cachedFingerprint(set, cache, sideOf(settings));
}

/**
 * The set that is trained on: `data.train`, or its cache, made first where it is missing.
 *
 * @throws the signal's reason when it aborts while the cache is made.
 */
export async function withCache(
  data: RunData,
  settings: CacheSettings,
  report: (event: PreparingEvent | WarningEvent) => void,
  signal?: AbortSignal,
): Promise<RunData & { readonly cacheFolder?: string }> {
  const { cache = "none" } = settings;
  if (cache === "none") return data;
  const options = {
    shorterSide: sideOf(settings),
    progress: (progress: CacheProgress) => report(caching(progress)),
    onNotice: (what: string) => report({ event: "warning", what }),
    signal,
  };
  if (cache === "decoded") {
    const memory = availableMemory().bytes - process.memoryUsage.rss();
    const train = await decodedCache(data.train, { ...options, memory });
    return { ...data, train };
  }
  const folder = await cacheFolder(dataName(settings), settings.cache_dir, data.train, options.shorterSide);
  const train = await resizedCache(data.train, folder, options);
  return { ...data, train, cacheFolder: folder, close: () => closeAll([train, data]) };
}

type CacheSettings = Partial<
  Pick<Settings, "cache" | "cache_dir" | "data_dir" | "train_data_dir" | "exif_orientation">
> &
  Pick<Settings, "image_size">;

function sideOf({ image_size }: CacheSettings): number {
  return cacheSide(image_size);
}

async function closeAll(all: readonly ({ close?(): Promise<void> } | undefined)[]): Promise<void> {
  await closing((atEnd) => {
    for (const each of new Set(all)) atEnd(() => each?.close?.());
    return Promise.resolve();
  });
}

function indexing(
  { records, bytes, totalBytes, shards, shardsDone }: IndexProgress,
  started: number,
): PreparingEvent {
  const seconds = Math.max((performance.now() - started) / 1000, 1e-3);
  return {
    event: "preparing",
    what: "index",
    done: shardsDone,
    total: shards,
    images_per_second: records / seconds,
    seconds_left: bytes === 0 ? 0 : (seconds * (totalBytes - bytes)) / bytes,
  };
}

function caching({ done, total, imagesPerSecond, secondsLeft }: CacheProgress): PreparingEvent {
  return {
    event: "preparing",
    what: "cache",
    done,
    total,
    images_per_second: imagesPerSecond,
    seconds_left: secondsLeft,
  };
}
