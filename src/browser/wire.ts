/** What page and worker send each other, and errors on the way: a class is lost in a message, so it travels by name. */

import {
  asRiffleError,
  CheckpointError,
  DataError,
  DivergedError,
  type Problem,
  ResourceError,
  RiffleError,
  UsageError,
} from "../core/error.js";
import type { BrowserEvent } from "./events.js";
import type { Given } from "./given-picture.js";
import type { RunSummary } from "./run.js";
import type { Evaluation, Heat, PictureRefusal, Prediction, PredictOptions } from "./prediction.js";
import type { ExportFormat, KeptPicture } from "./run.js";
import type { ResumeOptions, TrainOptions, TrainResult } from "./training.js";

/** A labelled picture that travels. */
export interface GivenLabelled {
  readonly picture: Given;
  readonly label: string;
}

type Local = "signal" | "onEvent";

/** What a worker can be asked: its arguments and its answer. */
export interface Calls {
  train: {
    readonly asked: Omit<TrainOptions, Local | "pictures" | "validation"> & {
      readonly pictures: readonly GivenLabelled[];
      readonly validation?: readonly GivenLabelled[] | undefined;
    };
    readonly answer: Trained;
  };
  resume: {
    readonly asked: Omit<ResumeOptions, Local> & { readonly name: string };
    readonly answer: Trained;
  };
  list: { readonly asked: object; readonly answer: RunSummary[] };
  summary: { readonly asked: { readonly name: string }; readonly answer: RunSummary };
  predict: {
    readonly asked: {
      readonly name: string;
      readonly pictures: readonly Given[];
      readonly options: PredictOptions;
    };
    readonly answer: (Prediction | PictureRefusal)[];
  };
  evaluate: {
    readonly asked: { readonly name: string; readonly pictures: readonly GivenLabelled[] };
    readonly answer: Evaluation;
  };
  explain: {
    readonly asked: { readonly name: string; readonly picture: Given; readonly class?: string | undefined };
    readonly answer: Heat;
  };
  pictures: { readonly asked: { readonly name: string }; readonly answer: KeptPicture[] };
  exportAs: {
    readonly asked: { readonly name: string; readonly format: ExportFormat };
    readonly answer: Blob;
  };
  importRun: {
    readonly asked: { readonly file: Blob; readonly name?: string | undefined };
    readonly answer: RunSummary;
  };
  remove: { readonly asked: { readonly name: string }; readonly answer: undefined };
}

export type CallName = keyof Calls;

/** A result without the handle that the page makes. */
export type Trained = Omit<TrainResult, "run"> & { readonly summary: RunSummary };

export type Request =
  | { readonly id: number; readonly call: CallName; readonly asked: unknown }
  /** The call is to end soon. */
  | { readonly id: number; readonly abort: true };

export type Answer =
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly failure: Failure }
  | { readonly id: number; readonly event: BrowserEvent };

/** A RiffleError as data, or a bug of ours. */
export type Failure =
  | { readonly kind: string; readonly problem: Problem }
  | { readonly bug: string; readonly stack: string | undefined };

const kinds = { UsageError, DataError, CheckpointError, DivergedError, ResourceError } as const;

export function failureOf(thrown: unknown): Failure {
  const error = asRiffleError(thrown);
  if (!(error instanceof RiffleError))
    return { bug: String(error), stack: error instanceof Error ? error.stack : undefined };
  // Subclasses with more to say are told as what they are kinds of: messages are of the problem alone.
  const kind = Object.entries(kinds).find(([, one]) => error instanceof one)?.[0];
  return { kind: kind ?? "ResourceError", problem: error.problem };
}

export function errorOf(failure: Failure): Error {
  if ("bug" in failure) return Object.assign(new Error(failure.bug), { stack: failure.stack });
  return new kinds[failure.kind as keyof typeof kinds](failure.problem);
}
