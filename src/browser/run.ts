/** A run that is kept in the browser (OPFS), and what can be asked of it. */

import type { LabelledPicture, Picture } from "./picture.js";
import type { Evaluation, Heat, PictureRefusal, Prediction, PredictOptions } from "./prediction.js";
import type { ResumeOptions, TrainResult } from "./training.js";

/** What is known of a run without opening it. */
export interface RunSummary {
  readonly name: string;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly classes: readonly string[];
  /** "shufflenet-v2 0.5x (torchvision)" */
  readonly network: string;
  readonly imageSize: number;
  /** Updates made, and in all. */
  readonly step: number;
  readonly steps: number;
  readonly best: { readonly step: number; readonly top1: number; readonly loss: number } | null;
  /** Whether it can go on: it has steps left, and its pictures. */
  readonly resumable: boolean;
  /** On the disk. */
  readonly bytes: number;
}

/** A picture as the run keeps it: turned upright, and made smaller where it was larger than training needs. */
export interface KeptPicture {
  readonly name: string;
  readonly label: string;
  readonly heldOut: boolean;
  /** PNG. */
  readonly file: Blob;
}

/**
 * `"safetensors"`: the best weights with their classes, which `riffle import`, `predict` and `train --init_from` read. `"onnx"`: the
 * same network, whose input is RGB of 0 to 255, [N, 3, size, size] in f32. `"run"`: all of it with its pictures, a zip file; unpacked
 * it is a folder that `riffle predict`, `evaluate` and `train --resume` read.
 */
export type ExportFormat = "safetensors" | "onnx" | "run";

/** All calls reject with a RiffleError. They may overlap, and go on while something trains. */
export interface Run extends RunSummary {
  /** Asks the best weights, or the last where nothing was scored. A picture that cannot be used is answered in its place. */
  predict(pictures: readonly Picture[], options?: PredictOptions): Promise<(Prediction | PictureRefusal)[]>;
  /** Scores pictures of this run's classes. */
  evaluate(pictures: readonly LabelledPicture[]): Promise<Evaluation>;
  /** Where the network looks: what in the picture speaks for a class, the likeliest unless told. */
  explain(picture: Picture, options?: { readonly class?: string | undefined }): Promise<Heat>;
  /** Goes on where it was stopped, to the bits of a training that was not. */
  resume(options?: ResumeOptions): Promise<TrainResult>;
  /** The pictures that it is trained on and scored with. */
  pictures(): Promise<KeptPicture[]>;
  exportAs(format: ExportFormat): Promise<Blob>;
  /** Deletes all that is kept of it. */
  remove(): Promise<void>;
  /** Gives the memory back that asking took; the next call takes it anew. */
  close(): void;
}
