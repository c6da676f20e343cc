/**
 * Steps that are tried: made as training makes its first ones, on their pictures, and undone. Speed is told from them
 * (budget.ts), and what a learning rate does (find-rate.ts).
 */

import type { StepResult, TrainingState } from "../backends/backend.js";
import { closing } from "../core/closing.js";
import type { BatchSource, LoadedBatch } from "../data/loader.js";
import { FailedElsewhere, firstFailure } from "../distributed/duties.js";
import { lossScaling } from "../settings/loss-scaling.js";
import type { Plan } from "./plan.js";
import type { Prepared } from "./prepare.js";
import { StepInputs } from "./step-inputs.js";

/** Makes the next step at a learning rate. */
export type TriedStep = (rate: number) => Promise<StepResult>;

/**
 * Hands a maker of steps to `work`; when that has ended well the run is as it was before. All ranks call it, and make the
 * same steps.
 */
export async function tryOut<T>(
  plan: Plan,
  prepared: Prepared,
  work: (step: TriedStep) => Promise<T>,
): Promise<T> {
  const inputs = new StepInputs(plan, prepared);
  const source = inputs.source(0, plan.unreadable.train);
  const trial = new Trial(plan, prepared, inputs, source);
  try {
    return await closing(async (atEnd) => {
      atEnd(() => source.close());
      const before = await stateOf(prepared);
      const made = await work((rate) => trial.step(rate));
      await prepared.run.writeState(before);
      const { loss_scale: scale } = prepared.standing;
      if (scale !== undefined) prepared.run.scaleLoss({ kind: lossScaling(plan.settings).kind, ...scale });
      return made;
    });
  } catch (error) {
    throw trial.failsTogether ? await firstFailure(plan.ranks, error) : error;
  }
}

class Trial {
  /** Whether all ranks have learned that one of them cannot go on. */
  failsTogether = false;
  readonly #batches: AsyncIterator<LoadedBatch>;
  /** Tried, and updates among them. */
  #steps = 0;
  #updates = 0;

  constructor(
    private readonly plan: Plan,
    private readonly prepared: Prepared,
    private readonly inputs: StepInputs,
    source: BatchSource,
  ) {
    this.#batches = source[Symbol.asyncIterator]();
  }

  /** Shard by shard, whose pictures need not lie in memory together. */
  async step(rate: number): Promise<StepResult> {
    const { count } = this.plan.shards;
    let result: StepResult | undefined;
    for (let index = 0; index < count; index++) {
      const batch = await this.#load();
      try {
        const { run } = this.prepared;
        const updates = index === count - 1 ? [this.inputs.update(rate, this.#updates)] : [];
        const inputs = this.inputs.of([batch], { index, count }, this.#steps);
        [result] = await run.steps({ ...inputs, updates });
      } finally {
        batch.release();
      }
    }
    if (result === undefined) throw new Error("a step without a shard");
    if (result.failures > 0) {
      this.failsTogether = true;
      throw new FailedElsewhere();
    }
    this.#steps++;
    if (result.finite) this.#updates++;
    return result;
  }

  /** Of a rank that has no more pictures the others learn with the step's sum, unless they wait in its batch norms. */
  async #load(): Promise<LoadedBatch> {
    try {
      return ((await this.#batches.next()) as IteratorYieldResult<LoadedBatch>).value;
    } catch (error) {
      const { ranks, settings } = this.plan;
      if (ranks.size > 1 && !settings.sync_batch_norm) {
        await this.prepared.run.abandonStep();
        this.failsTogether = true;
      }
      throw error;
    }
  }
}

/** A copy: what a run holds is right until its next step only. */
async function stateOf({ run }: Prepared): Promise<TrainingState> {
  const { parameters, statistics, momentum, averages } = await run.readState();
  return {
    parameters: parameters.slice(),
    statistics: statistics.slice(),
    momentum: momentum.slice(),
    averages: averages.slice(),
  };
}
