/**
 * Evaluations in the course of a run: when, of which weights, and what is best.
 */

import { badImageLimit } from "../run/run-data.js";
import type { EvaluationEvent } from "../run/events.js";
import type { Journal } from "../run/journal.js";
import type { Summaries } from "../run/summaries.js";
import type { Scores } from "../run/checkpoint-state.js";
import { score } from "../inference/evaluate.js";
import { isBetter } from "./best.js";
import type { Plan } from "./plan.js";
import type { Prepared } from "./prepare.js";
import type { Saver } from "./saver.js";

export class Evaluations {
  constructor(
    private readonly plan: Plan,
    private readonly prepared: Prepared,
    private readonly journal: Journal,
    private readonly summaries: Summaries,
    private readonly saver: Saver,
  ) {}

  /** Whether the step that the run stands at ends an epoch that is to be evaluated, or the run, and was not yet. */
  get isDue(): boolean {
    const { settings, length } = this.plan;
    const { step, evaluated_step } = this.prepared.standing;
    const interval = settings.epochs_between_evals * length.stepsPerEpoch;
    return (
      settings.mode !== "train" && evaluated_step < step && (step % interval === 0 || step === length.steps)
    );
  }

  /** Whether so many evaluations in a row were no better that the run ends. */
  get endsEarly(): boolean {
    const { patience } = this.plan.settings;
    return patience > 0 && this.prepared.standing.unimproved >= patience;
  }

  /**
   * On the whole validation set, with the averages and with the weights as they are; keeps the best.
   *
   * @returns false when it was stopped before its end, and is made up for when the run resumes.
   */
  async evaluate(signal: AbortSignal | undefined): Promise<boolean> {
    const { data, settings, model, length } = this.plan;
    const { evaluation, standing } = this.prepared;
    if (evaluation === undefined || data.validation === undefined) return true;
    this.plan.ranks.place("evaluating", standing.step);
    const { parameters, averages, statistics } = await this.saver.readState();
    const candidates = [
      ...(settings.average_decay > 0
        ? [{ name: "averages" as const, weights: { parameters: averages, statistics } }]
        : []),
      { name: "parameters" as const, weights: { parameters, statistics } },
    ];
    this.journal.emit({ event: "evaluating", done: 0, images: data.validation.size });
    // Before the first step they are the same weights.
    const isOne = averages.every((value, i) => value === parameters[i]);
    const all = await score(
      evaluation,
      data.validation,
      (isOne ? candidates.slice(0, 1) : candidates).map(({ weights }) => weights),
      {
        model,
        maxBadImages: badImageLimit(settings),
        ...(signal === undefined ? {} : { signal }),
        onBadImage: (image) => this.saver.noteBad([image]),
        known: this.plan.unreadable.validation,
        ranks: this.plan.ranks,
      },
      this.journal.emit,
    );
    if (all === undefined) return false;
    const scored = candidates.map((_, i) => all[isOne ? 0 : i]);
    const { step } = standing;
    standing.evaluated_step = step;
    const [chosen] = scored;
    const kept = candidates[0];
    if (chosen === undefined || kept === undefined) return true;
    standing.scores = chosen;
    const met = { step, top1: chosen.top1, loss: chosen.loss };
    const improves = isBetter(met, standing.best);
    // A run that goes on from before its best meets it again; until then there is nothing to wait for.
    const isOnItsWay = standing.best !== null && step < standing.best.step;
    standing.unimproved = improves || isOnItsWay ? 0 : standing.unimproved + 1;
    if (!Number.isFinite(chosen.loss)) {
      this.journal.warn(
        `the validation loss of step ${step} is not finite, so it is not the best: try a lower --lr`,
      );
    }
    const best = improves && (await this.saver.saveBest(kept.weights, met));
    candidates.forEach(({ name, weights }, i) => {
      const event: EvaluationEvent = {
        event: "evaluation",
        step,
        epoch: step / length.stepsPerEpoch,
        weights: name,
        ...(scored[i] as Scores),
        best: best && i === 0,
      };
      this.journal.emit(event);
      this.summaries.evaluation(event, weights.parameters, i === 0);
    });
    return true;
  }
}
