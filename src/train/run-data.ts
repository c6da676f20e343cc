/**
 * The data of a run: opened as its settings say, with what takes long reported, and closed as one.
 *
 * Training, evaluation and the contact sheet open their data here, so the same settings mean the same samples under
 * the same numbers in all of them.
 */

import type { Dataset } from "../data/dataset.js";
import {
  cachedFingerprint,
  cacheFolder,
  type CacheProgress,
  cacheSide,
  decodedCache,
  resizedCache,
} from "../data/cache.js";
import type { IndexProgress } from "../data/record-index.js";
import { parseKeys } from "../data/record-keys.js";
import { openDatasets, type Sets } from "../data/sets.js";
import type { BadImageEvent, PreparingEvent, RecordsEvent, WarningEvent } from "./events.js";
import { availableMemory } from "./memory.js";
import { type GivenSettings, type Settings, settings as table } from "./settings.js";

export interface RunData extends Sets {
  /** Closes the files that are read from while the run lasts. */
  close(): Promise<void>;
}

/** What says how data is read. */
export type DataSettings = Pick<GivenSettings, "val_split" | "keys" | "skip_bad_records" | "label_offset">;

/** @throws DataError, UsageError */
export async function openRunData(
  dataDir: string,
  given: DataSettings,
  options: { readonly seed: number; readonly evalOnly?: boolean },
  report: (event: PreparingEvent | BadImageEvent | WarningEvent) => void,
): Promise<RunData> {
  let clock = { started: performance.now(), records: 0 };
  const sets = await openDatasets(dataDir, {
    ...options,
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
  });
  for (const records of new Set([sets.train.records, sets.validation?.records])) {
    for (const { shard, record, offset, reason, lost } of records?.badRecords ?? []) {
      const more = lost > 1 ? `; ${lost - 1} more are lost behind it` : "";
      report({ event: "bad_image", file: `${shard}#${record}, byte ${offset}`, reason: reason + more });
    }
  }
  return { ...sets, close: () => closeAll([sets.train, sets.validation]) };
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

/** The fingerprint of what is trained on: the data's own, or that of the cache that the settings ask for. */
export function trainingFingerprint(train: Dataset, settings: CacheSettings): string {
  const { cache = "none" } = settings;
  return cache === "none" ? train.fingerprint : cachedFingerprint(train, cache, sideOf(settings));
}

/**
 * The set that is trained on: `data.train`, or its cache, made first where it is missing.
 *
 * @throws the signal's reason when it aborts while the cache is made.
 */
export async function withCache(
  data: RunData,
  settings: CacheSettings,
  report: (event: PreparingEvent) => void,
  signal?: AbortSignal,
): Promise<RunData & { readonly cacheFolder?: string }> {
  const { cache = "none" } = settings;
  if (cache === "none") return data;
  const options = {
    shorterSide: sideOf(settings),
    progress: (progress: CacheProgress) => report(caching(progress)),
    signal,
  };
  if (cache === "decoded") {
    const memory = availableMemory().bytes - process.memoryUsage.rss();
    const train = await decodedCache(data.train, { ...options, memory });
    return { ...data, train };
  }
  const folder = await cacheFolder(
    settings.data_dir as string,
    settings.cache_dir,
    data.train,
    options.shorterSide,
  );
  const train = await resizedCache(data.train, folder, options);
  return { ...data, train, cacheFolder: folder, close: () => closeAll([train, data]) };
}

type CacheSettings = Partial<Pick<Settings, "cache" | "cache_dir" | "data_dir">> &
  Pick<Settings, "image_size">;

function sideOf({ image_size }: CacheSettings): number {
  return cacheSide(image_size);
}

async function closeAll(all: readonly ({ close?(): Promise<void> } | undefined)[]): Promise<void> {
  for (const each of new Set(all)) await each?.close?.();
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
