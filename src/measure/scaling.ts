/**
 * How long a training step of R ranks takes, from what one rank needs alone and what a message costs: a model, so that
 * a cluster can be judged before it is rented. Nothing here measures.
 *
 * A rank computes its shards one after the other. During the last one's backward, buckets of gradients become final and
 * go out one behind another; what of it is not done when backward ends is *exposed*. The update follows.
 *
 * - Inside one machine gradients lie in a window that all its P ranks see: when backward has ended, each adds its P-th of
 *   all ranks' gradients, waits for the others, and copies what they added (native/ranks/window_exchange.cc).
 * - Between machines every rank sends the R-th part of a bucket to each other rank, adds what it gets, and sends the sum
 *   to all: two phases, 2 (R - 1) messages a rank. The ranks of a machine share its link, which carries both directions
 *   at once (native/ranks/message_exchange.cc).
 *
 * Batch norm's statistics, the loss and what all have to agree on follow in the same way when backward has ended.
 *
 * What it leaves out: that all wait for the slowest rank, and what else a network carries.
 *
 * Times are in seconds, sizes in bytes, rates in bytes a second.
 */

/** What one rank needs for one shard, while as many ranks compute beside it as the machine's cores hold. */
export interface RankTimes {
  readonly forward: number;
  /** Of each of the program's steps, in their order. */
  readonly backward: readonly number[];
  /** Once a step, however many shards it has. */
  readonly update: number;
}

/** Gradients that go out together. */
export interface GradientBucket {
  readonly bytes: number;
  /** The program's step whose backward completes them. */
  readonly afterStep: number;
}

/** What a step consists of. */
export interface StepWork {
  readonly times: RankTimes;
  /** Pictures of a shard. */
  readonly batch: number;
  /** In the order in which backward completes them; at least one. */
  readonly buckets: readonly GradientBucket[];
  /** What is added up beside the gradients, f64: above all what batch norm measured. */
  readonly statisticsBytes: number;
  /** Processor time that reading and decoding a picture takes from the cores that train. */
  readonly decode: number;
}

/** What it runs on: machines that are all alike. */
export interface Cluster {
  readonly ranksPerMachine: number;
  /** Threads of a rank. */
  readonly threads: number;
  readonly cores: number;
  /** What memory moves, read and written. */
  readonly memory: number;
  /** Of a machine's link, each way. */
  readonly bandwidth: number;
  /** From one machine to another. */
  readonly latency: number;
  /** What sending or receiving a message costs a rank beside its bytes. */
  readonly message: number;
  /** Whether buckets go out while backward goes on; inside one machine they never do. */
  readonly overlap: boolean;
}

/** A step of so many ranks. */
export interface Prediction {
  readonly ranks: number;
  readonly machines: number;
  readonly shards: number;
  readonly pictures: number;
  /** Forward, backward and update. */
  readonly compute: number;
  /** All that is exchanged, hidden or not. */
  readonly exchange: number;
  /** What of it the ranks wait for. */
  readonly exposed: number;
  readonly step: number;
  readonly imagesPerSecond: number;
  /** images/s for each rank over those of one rank alone that runs all of the step's shards. */
  readonly efficiency: number;
}

/** The step of `ranks` ranks, which divide `shards`. */
export function predict(ranks: number, shards: number, work: StepWork, cluster: Cluster): Prediction {
  const { compute, exchange, exposed } = timesOf(ranks, shards / ranks, work, cluster);
  const alone = timesOf(1, shards, work, cluster);
  const step = compute + exposed;
  return {
    ranks,
    machines: Math.ceil(ranks / cluster.ranksPerMachine),
    shards,
    pictures: shards * work.batch,
    compute,
    exchange,
    exposed,
    step,
    imagesPerSecond: (shards * work.batch) / step,
    efficiency: alone.compute / (ranks * step),
  };
}

function timesOf(
  ranks: number,
  shards: number,
  work: StepWork,
  cluster: Cluster,
): Pick<Prediction, "compute" | "exchange" | "exposed"> {
  const { times, buckets, statisticsBytes } = work;
  const beside = Math.min(ranks, cluster.ranksPerMachine);
  const gradients = sum(buckets.map(({ bytes }) => bytes));
  const shard = times.forward + sum(times.backward);
  // Each shard but the last is put aside, read and written, and added to another, which is read and written, too.
  const adding = ((shards - 1) * 4 * gradients * beside) / cluster.memory;
  const alone = shards * shard + times.update;
  const slower = stretch(alone, shards * work.batch, beside, work, cluster);
  const compute = slower * alone + adding;
  if (ranks === 1) return { compute, exchange: 0, exposed: 0 };
  if (ranks <= cluster.ranksPerMachine) {
    const exchange = windowTime(gradients, statisticsBytes, ranks, cluster);
    return { compute, exchange, exposed: exchange };
  }

  const costs = buckets.map(({ bytes }) => messagesTime(bytes, ranks, cluster));
  const last = messagesTime(statisticsBytes, ranks, cluster);
  const exchange = sum(costs) + last;
  if (!cluster.overlap) return { compute, exchange, exposed: exchange };
  // Seconds from the end of the last backward, negative before it.
  let free = -Infinity;
  for (const [i, { afterStep }] of buckets.entries()) {
    const ready = -slower * sum(times.backward.slice(0, afterStep));
    free = Math.max(free, ready) + (costs[i] as number);
  }
  return { compute, exchange, exposed: Math.max(0, free) + last };
}

/**
 * By how much computing takes longer than measured: where the ranks of a machine have more threads than it has cores, or
 * leave none for decoding, the work is spread over the cores there are.
 */
function stretch(
  alone: number,
  pictures: number,
  beside: number,
  { decode }: StepWork,
  { threads, cores }: Cluster,
): number {
  return Math.max(1, (beside * (threads * alone + pictures * decode)) / (cores * alone));
}

/**
 * The ranks of one machine. Each reads its slice of all gradients and writes it, then reads and writes the other slices; of
 * the statistics each reads all ranks' and writes the sum. They wait for each other three times.
 */
function windowTime(gradients: number, statistics: number, ranks: number, { memory }: Cluster): number {
  const slices = 1 + 1 / ranks + 2 * (1 - 1 / ranks);
  return (ranks * (slices * gradients + (ranks + 1) * statistics)) / memory + 3 * barrier(ranks);
}

/** So many bytes, from all ranks to all. */
function messagesTime(bytes: number, ranks: number, cluster: Cluster): number {
  const { ranksPerMachine: beside, memory, bandwidth, latency, message } = cluster;
  const slice = bytes / ranks + HEADER;
  const sent = 2 * beside * (ranks - beside) * slice;
  // Slices are put together and taken apart, read and written both times, and each rank adds one of all ranks' gradients;
  // what goes to a rank of the same machine is copied in and out of the memory that both see.
  const moved = beside * (5 + 1 / ranks) * bytes + 2 * beside * (beside - 1) * 2 * slice;
  return 2 * latency + 2 * (ranks - 1) * message + sent / (FRAMED * bandwidth) + moved / memory;
}

/** Ranks of one machine wait for each other: a cache line from core to core, as often as they can be halved. */
function barrier(ranks: number): number {
  return 1e-6 * Math.ceil(Math.log2(ranks));
}

/** In front of every slice. */
const HEADER = 64;

/** What Ethernet, IP and TCP leave of a link: 1,448 of 1,538 bytes on the wire. */
const FRAMED = 1448 / 1538;

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
