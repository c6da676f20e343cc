/** The handle of a run in the page: what it is asked goes to a worker of its own, which is there from the first question to `close`. */

import { type NamesOf, refuseUnknown } from "../core/nearest-name.js";
import type { LabelledPicture, Picture } from "./picture.js";
import { pack, packLabelled } from "./given-picture.js";
import type { Evaluation, Heat, PictureRefusal, Prediction, PredictOptions } from "./prediction.js";
import type { ExportFormat, KeptPicture, Run, RunSummary } from "./run.js";
import type { ResumeOptions, TrainResult } from "./training.js";
import type { Trained } from "./wire.js";
import { WorkerClient } from "./worker-client.js";

/** Asks a worker that ends with the answer. */
export async function once<T>(ask: (worker: WorkerClient) => Promise<T>): Promise<T> {
  const worker = new WorkerClient();
  try {
    return await ask(worker);
  } finally {
    worker.end();
  }
}

export function runOf(summary: RunSummary): Run {
  return new PageRun(summary);
}

export function resultOf({ summary, ...rest }: Trained): TrainResult {
  return { ...rest, run: runOf(summary) };
}

const resumeOptions: NamesOf<ResumeOptions> = { threads: true, signal: true, onEvent: true, steps: true };
const predictOptions: NamesOf<PredictOptions> = { top: true, logits: true };

class PageRun implements Run {
  readonly name: string;
  readonly created: number;
  readonly classes: readonly string[];
  readonly network: string;
  readonly imageSize: number;
  readonly step: number;
  readonly steps: number;
  readonly best: RunSummary["best"];
  readonly resumable: boolean;
  readonly bytes: number;
  #worker: WorkerClient | undefined;

  constructor(summary: RunSummary) {
    this.name = summary.name;
    this.created = summary.created;
    this.classes = summary.classes;
    this.network = summary.network;
    this.imageSize = summary.imageSize;
    this.step = summary.step;
    this.steps = summary.steps;
    this.best = summary.best;
    this.resumable = summary.resumable;
    this.bytes = summary.bytes;
  }

  async predict(
    pictures: readonly Picture[],
    options: PredictOptions = {},
  ): Promise<(Prediction | PictureRefusal)[]> {
    refuseUnknown(options, predictOptions, "predict");
    const packed = await Promise.all(pictures.map((picture, i) => pack(picture, `#${i + 1}`)));
    const moved = packed.flatMap((one) => one.moved);
    const asked = { name: this.name, pictures: packed.map(({ given }) => given), options };
    return this.#own.call("predict", asked, { moved });
  }

  async evaluate(pictures: readonly LabelledPicture[]): Promise<Evaluation> {
    const { given, moved } = await packLabelled(pictures);
    return this.#own.call("evaluate", { name: this.name, pictures: given }, { moved });
  }

  async explain(picture: Picture, options: { readonly class?: string | undefined } = {}): Promise<Heat> {
    const { given, moved } = await pack(picture, "#1");
    return this.#own.call("explain", { name: this.name, picture: given, class: options.class }, { moved });
  }

  async resume(options: ResumeOptions = {}): Promise<TrainResult> {
    refuseUnknown(options, resumeOptions, "resume");
    const { signal, onEvent, ...asked } = options;
    const trained = await once((worker) =>
      worker.call("resume", { ...asked, name: this.name }, { signal, onEvent }),
    );
    return resultOf(trained);
  }

  pictures(): Promise<KeptPicture[]> {
    return this.#own.call("pictures", { name: this.name });
  }

  exportAs(format: ExportFormat): Promise<Blob> {
    return this.#own.call("exportAs", { name: this.name, format });
  }

  async remove(): Promise<void> {
    this.close();
    await once((worker) => worker.call("remove", { name: this.name }));
  }

  close(): void {
    this.#worker?.end();
    this.#worker = undefined;
  }

  get #own(): WorkerClient {
    this.#worker ??= new WorkerClient();
    return this.#worker;
  }
}
