/**
 * What the network sees in pictures: the numbers that its classifier is given, of every picture in a few views
 * (feature-views.ts). The network runs as it does in evaluation.
 */

import type { Backend, BackendOptions, Weights } from "../backends/backend.js";
import { closing } from "../core/closing.js";
import type { Dataset } from "../data/dataset.js";
import { type BadImage, everyPicture, type LoadedBatch } from "../data/loader.js";
import { imagesOf } from "../inference/evaluate.js";
import type { Program } from "../program/program.js";
import { BATCH, type Features, LAST_MAP, meansInto, type ViewOptions, viewsOf } from "./feature-views.js";

export interface FeatureOptions extends ViewOptions {
  readonly samples: readonly number[];
  readonly maxBadImages: number;
  readonly known: readonly BadImage[];
  /** Ends the work by throwing its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Hears of every batch: views of pictures done, and all. */
  readonly progress?: (done: number, total: number) => void;
}

/** @throws TooManyBadImages, the signal's reason */
export async function featuresOf(
  backend: Backend,
  backendOptions: BackendOptions,
  program: Program,
  weights: Weights,
  dataset: Dataset,
  options: FeatureOptions,
): Promise<Features> {
  const { samples, signal, progress } = options;
  const features = program.kept[0]?.planes.length ?? 0;
  const views = viewsOf(options);
  const total = samples.length * views.length;
  const values = new Float32Array(total * features);
  const labels = new Int32Array(total);
  const of = new Uint32Array(total);
  let rows = 0;
  let plain = 0;
  const run = backend.infer(program, backendOptions);
  return closing(async (atEnd) => {
    atEnd(() => run.close());
    await run.load(weights);
    const take = async (batch: LoadedBatch): Promise<void> => {
      signal?.throwIfAborted();
      await run.infer(imagesOf(batch, program), batch.count);
      meansInto(values.subarray(rows * features), run.kept(LAST_MAP), batch.count * features);
      labels.set(batch.labels.subarray(0, batch.count), rows);
      of.set(batch.samples.subarray(0, batch.count), rows);
      rows += batch.count;
      progress?.(rows, total);
    };
    for (const [i, view] of views.entries()) {
      const source = everyPicture(dataset, { ...options, batch: BATCH, samples, transform: view });
      atEnd(() => source.close());
      for await (const batch of source) {
        await take(batch);
        batch.release();
      }
      if (i === 0) plain = rows;
    }
    return {
      features,
      values: values.subarray(0, rows * features),
      labels: labels.subarray(0, rows),
      samples: of.subarray(0, rows),
      plain,
    };
  });
}
