/**
 * Where numbers that are not finite begin (`--over_dump`).
 *
 * When a step is found not to be finite its weights are still those before it, but planes of memory have been used again
 * by then. So its shards are computed once more, layer by layer, and every tensor is looked at as it is made: the first in
 * the order of forward and backward that is not finite is where it began. Statistics of all go to
 *
 *     RUN/dump/step-N/overflow.json
 */

import { join } from "node:path";

import type { Batch, LossSettings } from "../backends/backend.js";
import { exists, makeFolder, replaceFile } from "../core/durable.js";
import { asRiffleError, RiffleError } from "../core/error.js";
import { shortPath } from "../core/short-path.js";
import { everybodys } from "../distributed/duties.js";
import type { Journal } from "../run/journal.js";
import { parametersOf, tensorsAt, type LayerTensor } from "./layer-tensors.js";
import type { Plan } from "./plan.js";
import type { Prepared } from "./prepare.js";
import { badWords, isFinite, statisticsOf, type TensorStatistics } from "./tensor-statistics.js";

/** What a shard of the step was given. */
export interface ShardInput {
  readonly batch: Batch;
  readonly loss: LossSettings;
}

/** A tensor and its numbers. */
export interface SeenTensor extends Omit<LayerTensor, "read">, TensorStatistics {}

/** Of overflow.json. */
export interface OverflowReport {
  readonly step: number;
  /** Null where the step was finite when it was made again. */
  readonly first: (SeenTensor & { readonly shard: number | null }) | null;
  readonly shards: readonly ShardReport[];
  /** Gradients summed over all shards, where there are several. */
  readonly sum: readonly SeenTensor[];
}

interface ShardReport {
  /** Of all shards of the step. */
  readonly shard: number;
  /** As text, for JSON knows no NaN. */
  readonly cross_entropy: string;
  readonly decay_loss: string;
  /** In the order in which they were made. */
  readonly tensors: readonly SeenTensor[];
}

/** Reports of a command: a loss scale that is too high overflows again and again, always alike. */
const MOST_REPORTS = 10;

export class Overflows {
  #reports = 0;

  constructor(
    private readonly plan: Plan,
    private readonly prepared: Prepared,
    private readonly journal: Journal,
  ) {}

  /**
   * After a step whose result is not finite, with its loss scale and what its shards of this process were given; all ranks
   * call it.
   *
   * @returns in words where it began, and the file; undefined where enough was told
   */
  async look(step: number, scale: number, shards: readonly ShardInput[]): Promise<string | undefined> {
    if (this.#reports++ >= MOST_REPORTS) return undefined;
    const { ranks, shards: share } = this.plan;
    const { run, program } = this.prepared;
    const state = await run.readState();
    const sum =
      share.of === 1
        ? []
        : program.steps
            .toReversed()
            .filter(({ trains }) => trains)
            .flatMap((each) => parametersOf(program, each).map((parameter) => ({ each, parameter })))
            .map(({ each, parameter: { name, shape, offset, size } }) => ({
              layer: each.name,
              tensor: `${name.slice(name.lastIndexOf(".") + 1)}.gradient`,
              direction: "backward" as const,
              shape,
              ...statisticsOf(state.gradients.subarray(offset, offset + size)),
            }));
    // Gradients may lie where the others still read them.
    await everybodys(ranks, "overflow", null);
    const own: ShardReport[] = [];
    for (const [index, input] of shards.entries())
      own.push(await this.#walk(share.first + index, scale, input));
    const all = (await everybodys(ranks, "overflow of shards", own)).flat();
    const report: OverflowReport = { step, first: firstOf(all, sum), shards: all, sum };
    const file = ranks.rank === 0 ? await this.#write(report) : undefined;
    return file === undefined ? undefined : `${wordsOf(report)} (${shortPath(file)})`;
  }

  async #walk(shard: number, scale: number, { batch, loss }: ShardInput): Promise<ShardReport> {
    const { run, program } = this.prepared;
    const state = await run.readState();
    const tensors: SeenTensor[] = [];
    let [cross_entropy, decay_loss] = ["", ""];
    const last = program.steps.length - 1;
    await run.walk(batch, loss, scale, (time, { crossEntropy, decayLoss }) => {
      if (time.direction === "forward" && time.step === last)
        [cross_entropy, decay_loss] = [String(crossEntropy), String(decayLoss)];
      for (const { read, ...tensor } of tensorsAt(time, run, program, state))
        tensors.push({ ...tensor, ...statisticsOf(read()) });
    });
    return { shard, cross_entropy, decay_loss, tensors };
  }

  /** @returns the file; undefined where it could not be written, which is said */
  async #write(report: OverflowReport): Promise<string | undefined> {
    const folder = join(this.plan.runDir, "dump", `step-${report.step}`);
    try {
      await makeFolder(folder);
      let file = join(folder, "overflow.json");
      // A step that is tried again with the next pictures has the same number.
      for (let n = 2; await exists(file); n++) file = join(folder, `overflow-${n}.json`);
      await replaceFile(file, [Buffer.from(`${JSON.stringify(report, null, 1)}\n`)]);
      this.journal.emit({ event: "dump", step: report.step, path: file, what: wordsOf(report) });
      return file;
    } catch (thrown) {
      const error = asRiffleError(thrown);
      if (!(error instanceof RiffleError)) throw error;
      this.journal.warn(
        `the report of step ${report.step} is not written: ${error.message}; ${wordsOf(report)}`,
      );
      return undefined;
    }
  }
}

/** The earliest in the order of a step, of the first shard where several have it. */
function firstOf(shards: readonly ShardReport[], sum: readonly SeenTensor[]): OverflowReport["first"] {
  const found = shards
    .map(({ shard, tensors }) => ({ shard, tensors, at: tensors.findIndex((tensor) => !isFinite(tensor)) }))
    .filter(({ at }) => at >= 0)
    .sort((a, b) => a.at - b.at);
  const [first] = found;
  if (first !== undefined) return { ...(first.tensors[first.at] as SeenTensor), shard: first.shard };
  const added = sum.find((tensor) => !isFinite(tensor));
  return added === undefined ? null : { ...added, shard: null };
}

function wordsOf({ first, shards }: OverflowReport): string {
  if (first === null) {
    const loss = shards.find(
      ({ cross_entropy, decay_loss }) => !Number.isFinite(Number(cross_entropy) + Number(decay_loss)),
    );
    return loss === undefined
      ? "all of it was finite when it was computed again"
      : `every tensor is finite, but not the loss: cross-entropy ${loss.cross_entropy}, weight decay ${loss.decay_loss}`;
  }
  const { layer, tensor, shape, shard } = first;
  const count = shape.reduce((product, length) => product * length, 1);
  const where = shard === null ? ", added over the shards" : shards.length === 1 ? "" : `, of shard ${shard}`;
  return `the first such number is in ${layer}, ${tensor}${where}: ${badWords(first, count)}`;
}
