/**
 * Whether more ranks are worth it: what one rank needs here, measured or given, what the network exchanges, and from
 * both the step of any number of ranks (scaling.ts).
 */

import { chooseBackend } from "../backends/registry.js";
import { UsageError } from "../core/error.js";
import { describe } from "../program/print.js";
import type { Program } from "../program/program.js";
import { benchData } from "./bench-data.js";
import { measureRank } from "./rank-times.js";
import { type Cluster, predict, type RankTimes, type StepWork } from "./scaling.js";
import { compileNetwork, type ProgramSettings } from "./workload.js";

export interface PlanOptions {
  readonly network: ProgramSettings;
  /** Numbers of ranks, each a divisor of the shards. */
  readonly ranks: readonly number[];
  /** Shards of a step; one for every rank when absent. */
  readonly shards?: number | undefined;
  /** As many as the machine has cores for when absent. */
  readonly ranksPerMachine?: number | undefined;
  /** Of a rank; its share of the cores when absent. */
  readonly threads?: number | undefined;
  /** Seconds of one rank's step with one shard, where they are known; else it is measured. */
  readonly step?: number | undefined;
  /** Steps measured: 10. */
  readonly steps?: number | undefined;
  /** Bytes a second that memory moves, read and written; else it is measured. */
  readonly memory?: number | undefined;
  /** A machine's link, bytes a second. */
  readonly bandwidth: number;
  /** Seconds; see scaling.ts. */
  readonly latency: number;
  readonly message: number;
  readonly overlap: boolean;
  /** Bytes of gradients that make a bucket. */
  readonly bucketSize: number;
  /** Pictures whose reading is measured, for what it takes from the cores and for the limit of a file server. */
  readonly dataDir?: string | undefined;
}

/** The command's JSON. Times in ms, rates in 10^9 bytes or bits a second where they say so. */
export interface RankPlan {
  readonly network: string;
  readonly image_size: number;
  /** Pictures of a shard. */
  readonly batch_size: number;
  readonly threads: number;
  readonly ranks_per_machine: number;
  /** Of a machine: this one's where the step was measured, else as many as its ranks have threads. */
  readonly cores: number;
  /** Whether the next three were measured, and beside how many other ranks. */
  readonly measured: boolean;
  readonly measured_beside: number;
  /** Of one shard on one rank. */
  readonly forward_ms: number;
  readonly backward_ms: number;
  readonly update_ms: number;
  /** What a machine's memory moves, read and written. */
  readonly memory_gb_per_second: number;
  readonly bandwidth_gbit: number;
  readonly latency_us: number;
  readonly message_us: number;
  readonly hcom_parallel: boolean;
  readonly gradient_bytes: number;
  /** In the order in which they go out. */
  readonly bucket_bytes: readonly number[];
  readonly statistics_bytes: number;
  readonly input: InputPlan | null;
  readonly rows: readonly PlanRow[];
}

export interface InputPlan {
  readonly data_dir: string;
  /** That this machine reads and decodes when it does nothing else. */
  readonly images_per_second: number;
  readonly cpu_ms_per_image: number;
  /** As stored, the mean. */
  readonly bytes_per_image: number;
  /** Share of the processor time of a machine full of ranks that pictures take; the same for any number of machines. */
  readonly processor_share: number;
  /** About so many ranks empty the link of one file server; those of a link of `bandwidth_gbit`. */
  readonly ranks_per_file_server: number;
}

export interface PlanRow {
  readonly ranks: number;
  readonly machines: number;
  readonly shards: number;
  readonly images_per_step: number;
  readonly step_ms: number;
  readonly compute_ms: number;
  readonly exchange_ms: number;
  readonly exposed_ms: number;
  readonly images_per_second: number;
  readonly efficiency: number;
  /** 10^6 bytes of stored pictures that all machines read a second; null where none were measured. */
  readonly input_mb_per_second: number | null;
}

/**
 * @param progress hears of what is measured.
 * @throws UsageError for ranks that cannot share the shards.
 */
export async function planRanks(
  options: PlanOptions,
  progress?: (what: "rank" | "pictures", done: number, total: number) => void,
): Promise<RankPlan> {
  for (const ranks of options.ranks) refuseUneven(ranks, options.shards ?? ranks);
  const backend = await chooseBackend();
  const here = backend.machine().threads;
  const most = Math.max(...options.ranks);
  const ranksPerMachine = options.ranksPerMachine ?? Math.max(1, Math.floor(here / (options.threads ?? 1)));
  const together = Math.min(most, ranksPerMachine);
  const threads = options.threads ?? Math.max(1, Math.floor(here / together));
  const compiled = compileNetwork(options.network, "train", { bucketBytes: options.bucketSize });
  const { program } = compiled;

  const measured = options.step === undefined;
  const beside = measured ? Math.max(0, Math.min(together, Math.floor(here / threads)) - 1) : 0;
  const times = measured
    ? await measureRank(options.network, { threads, beside, steps: options.steps ?? 10 }, (done, total) =>
        progress?.("rank", done, total),
      )
    : sharedOut(options.step, program);
  const memory = options.memory ?? 1e9 * (await backend.peak({ threads: 0 }, "f32")).copyGigabytes;
  const cores = measured ? here : together * threads;
  const reading = await readingOf(options, program, progress);

  const work: StepWork = {
    times,
    batch: program.batch,
    buckets: program.buckets.map(({ begin, end, afterStep }) => ({ bytes: 4 * (end - begin), afterStep })),
    // A mean and a variance of every plane, f64.
    statisticsBytes: 2 * 8 * program.planes.length,
    decode: (reading?.cpu_ms_per_image ?? 0) / 1000,
  };
  const { bandwidth, latency, message, overlap } = options;
  const cluster: Cluster = { ranksPerMachine, threads, cores, memory, bandwidth, latency, message, overlap };
  const rows = options.ranks.map((ranks) => predict(ranks, options.shards ?? ranks, work, cluster));
  const last = rows.at(-1)!;
  const perRank = last.imagesPerSecond / last.ranks;
  const backward = times.backward.reduce((sum, s) => sum + s, 0);
  return {
    network: compiled.name,
    image_size: program.imageSize,
    batch_size: program.batch,
    threads,
    ranks_per_machine: ranksPerMachine,
    cores,
    measured,
    measured_beside: beside,
    forward_ms: 1000 * times.forward,
    backward_ms: 1000 * backward,
    update_ms: 1000 * times.update,
    memory_gb_per_second: memory / 1e9,
    bandwidth_gbit: (8 * bandwidth) / 1e9,
    latency_us: 1e6 * latency,
    message_us: 1e6 * message,
    hcom_parallel: overlap,
    gradient_bytes: 4 * program.trainedCount,
    bucket_bytes: work.buckets.map(({ bytes }) => bytes),
    statistics_bytes: work.statisticsBytes,
    input:
      reading === undefined
        ? null
        : {
            ...reading,
            processor_share: (together * perRank * work.decode) / cores,
            ranks_per_file_server: Math.floor(bandwidth / reading.bytes_per_image / perRank),
          },
    rows: rows.map((row) => ({
      ranks: row.ranks,
      machines: row.machines,
      shards: row.shards,
      images_per_step: row.pictures,
      step_ms: 1000 * row.step,
      compute_ms: 1000 * row.compute,
      exchange_ms: 1000 * row.exchange,
      exposed_ms: 1000 * row.exposed,
      images_per_second: row.imagesPerSecond,
      efficiency: row.efficiency,
      input_mb_per_second:
        reading === undefined ? null : (row.imagesPerSecond * reading.bytes_per_image) / 1e6,
    })),
  };
}

/** A rank runs neighbouring shards whose sums are a branch of the tree over all of them. */
function refuseUneven(ranks: number, shards: number): void {
  const each = shards / ranks;
  if (ranks === 1 || (Number.isInteger(each) && Number.isInteger(Math.log2(each)))) return;
  throw new UsageError({
    what: `${ranks} ranks cannot share ${shards} shards`,
    where: "option --ranks",
    expected: "1, 2, 4, 8, ... shards for each rank, as many for all",
    found: `${shards} / ${ranks}`,
  });
}

/**
 * A step's time over its parts where only the whole is known: by multiply-adds, of which backward has twice forward's
 * (but the stem's, whose input has no gradient).
 */
function sharedOut(step: number, program: Program): RankTimes {
  const rows = describe(program);
  const forward = rows.reduce((sum, { multiplyAdds }) => sum + multiplyAdds, 0);
  const back = rows.map(({ kind, multiplyAdds }) => (kind === "stem" ? 1 : 2) * multiplyAdds);
  const all = back.reduce((sum, operations) => sum + operations, forward);
  return {
    forward: (step * forward) / all,
    backward: back.map((operations) => (step * operations) / all),
    update: 0,
  };
}

/** What a picture costs to read and decode, where there is a data set. */
async function readingOf(
  { dataDir }: PlanOptions,
  program: Program,
  progress: Parameters<typeof planRanks>[1],
): Promise<
  Pick<InputPlan, "data_dir" | "images_per_second" | "cpu_ms_per_image" | "bytes_per_image"> | undefined
> {
  if (dataDir === undefined) return undefined;
  const result = await benchData(
    { data_dir: dataDir, image_size: program.imageSize, batch_size: program.batch, augment: "tensorflow" },
    (done, total) => progress?.("pictures", done, total),
  );
  return {
    data_dir: dataDir,
    images_per_second: result.images_per_second.median,
    cpu_ms_per_image: result.cpu_ms_per_image,
    bytes_per_image: (1e6 * result.mb_per_second) / result.images_per_second.mean,
  };
}
