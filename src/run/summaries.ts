/**
 * What TensorBoard shows of a run: scalars, histograms of every trained tensor and its gradient, some pictures as the
 * network sees them, and the scores of evaluations.
 *
 *     RUN/events.out.tfevents.*                   training
 *     RUN/eval/events.out.tfevents.*              scores of the weights that are reported: the averages where they are kept
 *     RUN/eval_parameters/events.out.tfevents.*   scores of the weights as they are, beside the averages
 *
 * Tags are those of the lineage's model and of TensorFlow's Estimator. All of a summary belongs to the weights before
 * the update. Nothing of a run depends on it: it reads copies, and a disk that refuses loses summaries, not the run.
 *
 * Sources: TropComplique/shufflenet-v2-tensorflow, model.py; tensorflow_estimator, `_write_dict_to_summary`.
 */

import { join } from "node:path";

import { loadSharp } from "../core/sharp.js";
import type { TrainingArrays } from "../backends/backend.js";
import { EventWriter, type SummaryValue } from "../formats/tf-events.js";
import { histogramOf } from "../formats/tf-histogram.js";
import { type Scheme, tensorsOf } from "../models/tensor-names.js";
import type { Program } from "../program/program.js";
import type { EvaluationEvent, StepEvent } from "./events.js";

/** Pictures of a batch that are shown: tf.summary.image's default. */
const PICTURES = 3;

export interface SummaryOptions {
  /** Of the step at hand. */
  readonly program: () => Program;
  /** Pictures of a step, over all shards. */
  readonly stepImages: number;
  /** What the run holds at the moment. */
  readonly readState: () => Promise<Weighed>;
  readonly weightDecay: number;
  /** Of the tags: the lineage's names for its variant, ours for others. */
  readonly scheme: Scheme;
  /** Steps between summaries; 0 for none. */
  readonly interval: number;
  /** Steps between reports: a summary waits for the end of its loop. */
  readonly loop: number;
  /** The run's last step, which ends a loop as well. */
  readonly lastStep: number;
  /** What the run goes on from: 0 and -1 for a new one. */
  readonly step: number;
  readonly evaluatedStep: number;
  /** Is told once when a summary cannot be written. */
  readonly warn: (what: string) => void;
}

type Weighed = Pick<TrainingArrays, "parameters" | "gradients">;

/** A tensor of the flat parameter array. */
interface Tensor {
  readonly tag: string;
  readonly offset: number;
  readonly size: number;
  readonly decay: boolean;
}

/** Writes a run's summaries. */
export class Summaries {
  readonly #runDir: string;
  readonly #options: SummaryOptions;
  readonly #tensors: readonly Tensor[];
  /** By folder; a failed one is tried again at the next summary. */
  readonly #writers = new Map<string, EventWriter>();
  /** Weights before the update of a step that is due, and the first pictures of its first batch. */
  #before: { readonly parameters: Float32Array; readonly shown: readonly Uint8Array[] } | undefined;
  #due = -1;
  #pending: Promise<void> = Promise.resolve();
  #warned = false;

  constructor(runDir: string, options: SummaryOptions) {
    this.#runDir = runDir;
    this.#options = options;
    const { scheme } = options;
    const program = options.program();
    const decays = new Map(program.parameters.map(({ offset, decay }) => [offset, decay]));
    this.#tensors = tensorsOf(program, scheme)
      .filter(({ array }) => array === "parameters")
      .map(({ name, offset, size }) => ({ tag: name, offset, size, decay: decays.get(offset) === true }));
  }

  /**
   * Call before `step` is made, with its first batch: keeps weights and pictures if the step gets a summary. One that is
   * skipped is made again with others.
   */
  async before(step: number, images: Uint8Array): Promise<void> {
    if (!this.isDue(step)) return;
    const { batch, imageSize } = this.#options.program();
    const bytes = imageSize ** 2 * 3;
    const shown = Array.from({ length: Math.min(PICTURES, batch) }, (_, i) =>
      images.slice(i * bytes, (i + 1) * bytes),
    );
    this.#before = { parameters: (await this.#options.readState()).parameters.slice(), shown };
    this.#due = step;
  }

  /** Call after it, while the gradients stand. Files are written behind the next steps. */
  async step(event: StepEvent): Promise<void> {
    if (event.step !== this.#due || this.#before === undefined) return;
    const { gradients } = await this.#options.readState();
    const { stepImages } = this.#options;
    const { imageSize } = this.#options.program();
    const { parameters, shown } = this.#before;
    const scalars: [string, number][] = [
      ["cross_entropy_loss", event.cross_entropy],
      ["regularization_loss", event.decay_loss],
      ["loss", event.loss],
      ["learning_rate", event.learning_rate],
      ["train_accuracy", event.top1],
      ["train_top5_accuracy", event.top5],
      ["global_step/sec", event.images_per_second / stepImages],
      ...(event.loss_scale === null
        ? []
        : ([
            ["loss_scale", event.loss_scale],
            ["skipped_steps", event.skipped],
          ] satisfies [string, number][])),
    ];
    const values: SummaryValue[] = [
      ...scalars.map(([tag, value]) => ({ tag, kind: "scalar" as const, value })),
      ...this.#histograms({ parameters, gradients }),
    ];
    this.#before = undefined;
    this.#write("", event.step, async () => [
      ...values,
      ...(await Promise.all(shown.map((pixels, i) => picture(`input/image/${i}`, pixels, imageSize)))),
    ]);
  }

  /** Scores of one set of weights; `main` are those that the run reports. */
  evaluation(event: EvaluationEvent, weights: Float32Array, main: boolean): void {
    if (this.#options.interval === 0) return;
    const decay = this.#decayLoss(weights);
    const scalars: [string, number][] = [
      ["accuracy", event.top1],
      ["top5_accuracy", event.top5],
      ["cross_entropy_loss", event.loss],
      ["regularization_loss", decay],
      ["loss", event.loss + decay],
    ];
    const values = scalars.map(([tag, value]) => ({ tag, kind: "scalar" as const, value }));
    this.#write(main ? "eval" : `eval_${event.weights}`, event.step, () => values);
  }

  /** Resolves when all that was added is written. */
  async close(): Promise<void> {
    await this.#pending;
    for (const writer of this.#writers.values()) await writer.close();
    this.#writers.clear();
  }

  /** At the end of the first loop, and of each in which a multiple of the interval lies. */
  isDue(step: number): boolean {
    const { interval, loop, lastStep } = this.#options;
    if (interval === 0 || (step % loop !== 0 && step !== lastStep)) return false;
    const begin = Math.floor((step - 1) / loop) * loop;
    return begin === 0 || Math.floor(step / interval) > Math.floor(begin / interval);
  }

  /** Of all tensors and their gradients, which are those of the whole loss: the decay's share is added. */
  #histograms({ parameters, gradients }: Weighed): SummaryValue[] {
    const { weightDecay } = this.#options;
    return this.#tensors.flatMap(({ tag, offset, size, decay }) => {
      const tensor = parameters.subarray(offset, offset + size);
      const own = gradients.subarray(offset, offset + size);
      const whole = decay ? sumOf(own, weightDecay, tensor) : own;
      return [...histogram(`${tag}_hist`, tensor), ...histogram(`${tag}_grad_hist`, whole)];
    });
  }

  /** weightDecay * sum of squares / 2 over what decays. */
  #decayLoss(weights: Float32Array): number {
    let squares = 0;
    for (const { offset, size, decay } of this.#tensors) {
      if (decay) for (let i = offset; i < offset + size; i++) squares += (weights[i] as number) ** 2;
    }
    return (this.#options.weightDecay * squares) / 2;
  }

  /** Appends behind what is being written; the wall time is that of the call. */
  #write(folder: string, step: number, values: () => SummaryValue[] | Promise<SummaryValue[]>): void {
    const now = Date.now() / 1000;
    this.#pending = this.#pending.then(async () => {
      try {
        const writer = await this.#writer(folder, now);
        await writer.add(step, await values(), now);
      } catch (error) {
        if (this.#warned) return;
        this.#warned = true;
        const reason = error instanceof Error ? error.message : String(error);
        this.#options.warn(`the summary of step ${step} was not written, nor may later ones be: ${reason}`);
      }
    });
  }

  async #writer(folder: string, now: number): Promise<EventWriter> {
    const open = this.#writers.get(folder);
    if (open !== undefined) return open;
    const { step, evaluatedStep } = this.#options;
    const firstStep = 1 + (folder === "" ? step : evaluatedStep);
    const writer = await EventWriter.create(join(this.#runDir, folder), firstStep, now);
    this.#writers.set(folder, writer);
    return writer;
  }
}

/** a + factor * b */
function sumOf(a: Float32Array, factor: number, b: Float32Array): Float32Array {
  const sum = new Float32Array(a.length);
  for (let i = 0; i < a.length; i++) sum[i] = (a[i] as number) + factor * (b[i] as number);
  return sum;
}

/** One value, or none where a number is not finite: the run ends at that by itself. */
function histogram(tag: string, values: Float32Array): SummaryValue[] {
  const counted = histogramOf(values);
  return counted === undefined ? [] : [{ tag, kind: "histogram", histogram: counted }];
}

/** [size, size, 3] RGB bytes as a PNG. */
async function picture(tag: string, pixels: Uint8Array, size: number): Promise<SummaryValue> {
  const png = await loadSharp()(pixels, { raw: { width: size, height: size, channels: 3 } })
    .png()
    .toBuffer();
  return { tag, kind: "image", image: { height: size, width: size, colorspace: 3, encoded: png } };
}
