/** A network that is asked: probabilities, scores, and where it looks. It holds the engine's memory until it is closed. */

import type { InferenceRun, Weights } from "../backends/backend.js";
import { DataError, UsageError } from "../core/error.js";
import { Explainer } from "../inference/explain.js";
import { enlarged, shares } from "../inference/heat-map.js";
import { ScoreKeeper, scoresOf, softmax } from "../inference/metrics.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "../program/compile.js";
import type { ModelDescription, Scores } from "../run/checkpoint-state.js";
import type { PageEngine } from "./engine.js";
import type { Guess, Heat } from "./prediction.js";
import { evaluationInto, type Rgb } from "./seen-picture.js";

/** Pictures that run at a time, where there are many; results do not depend on it. */
const BATCH = 16;

export class PageNetwork {
  readonly #engine: PageEngine;
  readonly #model: ModelDescription;
  readonly #weights: Weights;
  /** By the size of their batch. */
  readonly #runs = new Map<number, InferenceRun>();
  #explainer: Explainer | undefined;

  constructor(engine: PageEngine, model: ModelDescription, weights: Weights) {
    this.#engine = engine;
    this.#model = model;
    this.#weights = weights;
  }

  /** Logits [classes] of each. */
  async logits(pictures: readonly Rgb[]): Promise<Float32Array[]> {
    const { image_size, classes } = this.#model;
    const out: Float32Array[] = [];
    for (let first = 0; first < pictures.length; first += BATCH) {
      const some = pictures.slice(first, first + BATCH);
      const batch = some.length === 1 ? 1 : BATCH;
      const run = await this.#run(batch);
      const images = new Uint8Array(batch * image_size * image_size * 3);
      some.forEach((picture, i) => this.#see(picture, images, i));
      const logits = await run.infer(
        images.subarray(0, some.length * image_size * image_size * 3),
        some.length,
      );
      some.forEach((_, i) => out.push(logits.slice(i * classes, (i + 1) * classes)));
      await this.#engine.breathe();
    }
    return out;
  }

  /** Most probable first. */
  guesses(logits: Float32Array, top: number): Guess[] {
    const probabilities = softmax(logits);
    const order = Array.from(logits.keys()).sort(
      (a, b) => (logits[b] as number) - (logits[a] as number) || a - b,
    );
    return order.slice(0, top).map((index) => ({
      index,
      name: this.#model.class_names[index] ?? String(index),
      probability: probabilities[index] as number,
    }));
  }

  async explain(picture: Rgb, name: string | undefined): Promise<Heat> {
    const { image_size: size, class_names, classes } = this.#model;
    const image = new Uint8Array(size * size * 3);
    this.#see(picture, image, 0);
    const [logits = new Float32Array(classes)] = await this.logits([picture]);
    const index = name === undefined ? this.guesses(logits, 1)[0]?.index : class_names.indexOf(name);
    if (index === undefined || index < 0) {
      throw new UsageError({
        what: "the network knows no such class",
        where: "option class",
        expected: class_names.join(", "),
        found: name,
      });
    }
    const { backend, threads } = this.#engine;
    this.#explainer ??= await Explainer.open(this.#model, this.#weights, { backend, threads });
    const { activation } = await this.#explainer.explain(image, index);
    const pixels = new Uint8ClampedArray(size * size * 4).fill(255);
    for (let from = 0, to = 0; from < image.length; to++)
      for (let channel = 0; channel < 3; channel++) pixels[to++] = image[from++] as number;
    const guess = this.guesses(logits, classes).find((one) => one.index === index) as Guess;
    return { class: guess, pixels, heat: enlarged(shares(activation), size).values, size };
  }

  close(): void {
    for (const run of this.#runs.values()) run.close();
    this.#runs.clear();
    this.#explainer?.close();
    this.#explainer = undefined;
  }

  async #run(batch: number): Promise<InferenceRun> {
    const kept = this.#runs.get(batch);
    if (kept !== undefined) return kept;
    const run = inferenceRun(this.#engine, this.#model, batch);
    try {
      await run.load(this.#weights);
    } catch (error) {
      run.close();
      throw error;
    }
    this.#runs.set(batch, run);
    return run;
  }

  #see(picture: Rgb, images: Uint8Array, place: number): void {
    const bytes = this.#model.image_size ** 2 * 3;
    const out = images.subarray(place * bytes, (place + 1) * bytes);
    evaluationInto(this.#engine.pictures, picture, this.#model, out);
  }
}

export function inferenceRun(
  { backend, threads }: PageEngine,
  { variant, width, classes, image_size }: ModelDescription,
  batch: number,
): InferenceRun {
  const program = compile(shuffleNetV2({ variant, width, classes }), {
    batch,
    imageSize: image_size,
    mode: "infer",
  });
  return backend.infer(program, { threads });
}

/** The scores of logits, as evaluation counts them everywhere. */
export function scored(logits: readonly Float32Array[], labels: readonly number[], classes: number): Scores {
  const keeper = new ScoreKeeper(logits.length);
  logits.forEach((row, i) => keeper.add([i], row, Int32Array.of(labels[i] as number), 1, classes));
  return scoresOf([keeper.bytes()]);
}

/** @throws DataError for a class that the network was not trained on */
export function outputOf(label: string, { class_names }: ModelDescription): number {
  const output = class_names.indexOf(label);
  if (output >= 0) return output;
  throw DataError.at(`class ${JSON.stringify(label)}`, "a class that the network was not trained on", {
    expected: class_names.join(", "),
    found: label,
  });
}
