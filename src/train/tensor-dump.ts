/**
 * Tensors of a step as files (`--data_dump_flag`): before the step is made its first shard is computed once more, layer by
 * layer, and what each leaves is written. Nothing that is trained changes.
 *
 *     RUN/dump/step-N/images.npy, labels.npy      the pictures as bytes: [batch, height, width, 3]
 *     RUN/dump/step-N/<layer>.y.npy               what a layer's readers see: [batch, channels, height, width]
 *     RUN/dump/step-N/<layer>.logits.npy          [batch, classes]
 *     RUN/dump/step-N/<layer>.weight.npy, ...     parameters before the step
 *     RUN/dump/step-N/<layer>.weight.gradient.npy, ...
 *     RUN/dump/step-N/index.json                  names, shapes, types and files
 *
 * The folder appears whole. One that is there already is kept.
 */

import { join } from "node:path";

import { exists, makeFolder, makeWholeFolder, replaceFile } from "../core/durable.js";
import { asRiffleError, RiffleError } from "../core/error.js";
import { everybodys } from "../distributed/duties.js";
import { npyPieces, npyType, type NpyNumbers } from "../formats/npy-writer.js";
import type { Journal } from "../run/journal.js";
import { holds, parseSteps, type StepRange } from "../settings/step-list.js";
import { tensorsAt } from "./layer-tensors.js";
import type { ShardInput } from "./overflow.js";
import type { Plan } from "./plan.js";
import type { Prepared } from "./prepare.js";

/** The original's. */
const USUAL_STEP = 10;

/** A row of index.json. */
interface DumpedTensor {
  readonly name: string;
  readonly file: string;
  readonly dtype: string;
  readonly shape: readonly number[];
}

export class TensorDump {
  readonly #plan: Plan;
  readonly #prepared: Prepared;
  readonly #journal: Journal;
  readonly #steps: readonly StepRange[];

  constructor(plan: Plan, prepared: Prepared, journal: Journal) {
    this.#plan = plan;
    this.#prepared = prepared;
    this.#journal = journal;
    const { data_dump_flag, data_dump_step } = plan.settings;
    const usual = Math.min(USUAL_STEP, plan.length.steps);
    const told = data_dump_step === undefined ? [] : parseSteps(data_dump_step, "data_dump_step");
    this.#steps = !data_dump_flag
      ? []
      : data_dump_step === undefined
        ? [{ first: usual, last: usual }]
        : told;
  }

  isDue(step: number): boolean {
    return holds(this.#steps, step);
  }

  /** Before a step that is due, with what its first shard is given; all ranks call it. */
  async write(step: number, input: ShardInput): Promise<void> {
    const { ranks, runDir, settings } = this.#plan;
    const folder = join(runDir, "dump", `step-${step}`);
    // All wait for each other: gradients may lie where the others still read them.
    const [isThere] = await everybodys(ranks, "dump", ranks.rank === 0 && (await exists(folder)));
    if (isThere === true) {
      this.#journal.warn(`step ${step} is not dumped: ${folder} is there already, and is kept`);
      return;
    }
    // Where batch norms are one, layers of all ranks run together.
    if (ranks.rank > 0) {
      if (settings.sync_batch_norm)
        await this.#prepared.run.walk(input.batch, input.loss, 1, () => undefined);
      return;
    }
    try {
      await makeFolder(join(runDir, "dump"));
      let arrays = 0;
      const fill = async (temporary: string): Promise<void> => {
        arrays = await this.#fill(temporary, step, input);
      };
      await makeWholeFolder(folder, fill, { safe: "Training goes on without it" });
      this.#journal.emit({ event: "dump", step, path: folder, what: `${arrays} arrays` });
    } catch (thrown) {
      const error = asRiffleError(thrown);
      if (!(error instanceof RiffleError)) throw error;
      this.#journal.warn(`step ${step} is not dumped: ${error.message}`);
    }
  }

  /** @returns how many arrays there are */
  async #fill(folder: string, step: number, { batch, loss }: ShardInput): Promise<number> {
    const { run, program, network } = this.#prepared;
    const tensors: DumpedTensor[] = [];
    // What cannot be written does not stop the walk, in which other ranks may take part.
    const problems: unknown[] = [];
    const write = async (name: string, shape: readonly number[], data: NpyNumbers): Promise<void> => {
      if (problems.length > 0) return;
      const file = `${name}.npy`;
      try {
        await replaceFile(join(folder, file), npyPieces(shape, data));
        tensors.push({ name, file, dtype: npyType(data), shape });
      } catch (error) {
        problems.push(error);
      }
    };
    const { batch: count, imageSize } = program;
    await write("images", [count, imageSize, imageSize, 3], batch.images);
    await write("labels", [count], batch.labels);
    const { weights, mixed } = batch;
    if (weights !== undefined) await write("weights", [count], weights);
    if (mixed !== undefined) {
      await write("mixed_labels", [count], mixed.labels);
      await write("shares", [count], mixed.shares);
    }
    if (loss.dropoutMask !== undefined)
      await write("dropout", [count, loss.dropoutMask.length / count], loss.dropoutMask);
    await run.walk(batch, loss, 1, async (time) => {
      for (const { layer, tensor, shape, read } of await tensorsAt(time, run, program)) {
        if (tensor === "z" || tensor === "g") continue; // each as large as y
        await write(`${layer}.${tensor}`, shape, read());
      }
    });
    if (problems.length > 0) throw problems[0];
    const index = { step, shard: this.#plan.shards.first, network: network.name, tensors };
    await replaceFile(join(folder, "index.json"), [Buffer.from(`${JSON.stringify(index, null, 1)}\n`)]);
    return tensors.length;
  }
}
