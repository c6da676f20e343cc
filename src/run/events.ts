/**
 * What a run reports, as typed events: the command line draws them, `--json` prints them, and
 * `events.jsonl` in the run's folder keeps them, one JSON object a line.
 *
 * Accuracies and shares are fractions, times in seconds, learning rates per step.
 */

import type { TuningReport } from "../backends/autotune.js";
import type { ExchangeKind } from "../backends/backend.js";
import type { Scored } from "../data/sets.js";
import type { Origin } from "../settings/resolve-settings.js";
import type { SettingName } from "../settings/settings.js";
import type { Best, Scores, SolvedClassifier } from "./checkpoint-state.js";
import type { StepTimes } from "./profile/layer-times.js";

/** Before the start, while pictures are looked at, an index of records or a cache is made, or the engine is tuned. */
export interface PreparingEvent {
  readonly event: "preparing";
  readonly what: "check" | "index" | "cache" | "tuning" | "statistics" | "features" | "solving" | "measuring";
  /**
   * Shards of an index, runs of a program that is tuned, views of pictures whose features are computed, steps that are
   * measured, pictures else.
   */
  readonly done: number;
  readonly total: number;
  /** Records, pictures or views; 0 while tuning and solving. */
  readonly images_per_second: number;
  readonly seconds_left: number;
}

/** Before the start, while weights are fetched over the network; lengths in bytes. */
export interface FetchingEvent {
  readonly event: "fetching";
  readonly file: string;
  readonly done: number;
  /** About, where the server does not say it. */
  readonly total: number;
  readonly bytes_per_second: number;
  readonly seconds_left: number;
}

/** Published weights that a run starts from. */
export interface WeightsEvent {
  readonly event: "weights";
  /** "torchvision/1.0x" */
  readonly name: string;
  /** For people. */
  readonly network: string;
  /** On ImageNet's validation set. */
  readonly top1: number;
  readonly bytes: number;
  /** In full, and the first digits that are published. */
  readonly sha256: string;
  readonly published_sha256: string;
  /** Whether it was fetched now, or was there. */
  readonly fetched: boolean;
  readonly path: string;
  readonly source: string;
  readonly licence: string;
}

/** What is said of a set of records. */
export interface RecordsEvent {
  readonly shards: number;
  /** Left out because they are damaged. */
  readonly bad_records: number;
  /** The file that says where each record lies; null where none could be kept. */
  readonly index: string | null;
}

/** What is said of processes that train together. */
export interface RanksEvent {
  readonly size: number;
  readonly machines: number;
  /** "Open MPI 4.1.4" */
  readonly library: string;
  /** Of the engine in each of them; 0 for as many as there are cores. */
  readonly threads: number;
  /** How they add their gradients. */
  readonly exchange: ExchangeKind;
  /** Parts that the gradients are exchanged in. */
  readonly buckets: number;
}

/** Once, before the first step. */
export interface StartEvent {
  readonly event: "start";
  readonly run: string;
  /** For people, e.g. "shufflenet-v2 1.0x (tensorflow)". */
  readonly network: string;
  readonly classes: number;
  readonly image_size: number;
  /** Trained numbers. */
  readonly parameters: number;
  readonly train_images: number;
  readonly validation_images: number;
  /** What is scored, and what of the data is not used; null for generated pictures. */
  readonly scored: Scored | null;
  /** Where the training pictures come from when they are records. */
  readonly records: RecordsEvent | null;
  /** The folder of the cache; null for one in memory and without one. */
  readonly cache_folder: string | null;
  readonly steps: number;
  readonly steps_per_epoch: number;
  /** Over all shards. */
  readonly images_per_step: number;
  readonly epochs: number;
  /** With a budget: the speed that the epochs were chosen by; null without, and where a run goes on. */
  readonly measured: { readonly images_per_second: number; readonly evaluation_seconds: number } | null;
  readonly backend: string;
  /** What it runs on: of the first process, where there are several. */
  readonly machine: {
    /** As the system names it: "Intel(R) Xeon(R) Gold 6348 CPU @ 2.60GHz". */
    readonly processor: string;
    /** The instruction set that kernels run on. */
    readonly isa: string;
    /** Of the engine. */
    readonly threads: number;
  };
  /** The processes that train together; null for one alone. */
  readonly ranks: RanksEvent | null;
  /** Estimate of the whole process, in bytes. */
  readonly memory: number;
  readonly recipe: string;
  /** The recipe's own rate and batch, where the rate was made from them for another step; `learning_rate` of a step is the run's. */
  readonly scaled_rate: { readonly lr: number; readonly batch_size: number } | null;
  /** How the classifier was made, where it was solved before the first step. */
  readonly solved: SolvedClassifier | null;
  /** What a picture of the most frequent class weighs in the loss, and one of the rarest; null where all weigh 1. */
  readonly class_weights: { readonly least: number; readonly most: number } | null;
  /** What to expect and what would be better, a sentence or a command each. */
  readonly notes: readonly string[];
  readonly settings: Readonly<Record<string, string | number | boolean>>;
  readonly origins: Readonly<Record<SettingName, Origin>>;
  /** The checkpoint this run goes on from. */
  readonly resumed: { readonly checkpoint: string; readonly step: number } | null;
}

/** At the end of every loop of `iterations_per_loop` steps; of these, events.jsonl keeps one in `log_steps` steps. */
export interface StepEvent {
  readonly event: "step";
  /** Updates made, this one counted. */
  readonly step: number;
  /** Epochs done, with its fraction. */
  readonly epoch: number;
  /** Of this step's pictures: cross-entropy against the smoothed and mixed labels by their weights, plus the weight decay's term. */
  readonly loss: number;
  readonly cross_entropy: number;
  /** The weight decay's term alone. */
  readonly decay_loss: number;
  readonly top1: number;
  readonly top5: number;
  readonly learning_rate: number;
  /** Over the last few seconds, and the share of them spent waiting for pictures. */
  readonly images_per_second: number;
  readonly waiting: number;
  /** The share spent waiting for other ranks and adding up what they sent. */
  readonly exchanging: number;
  readonly seconds_left: number;
  /** What the loss of the next step is multiplied by; null where it is not scaled. */
  readonly loss_scale: number | null;
  /** Steps that were not finite, since the run's beginning. */
  readonly skipped: number;
}

/** A step was not finite where the loss is scaled: nothing changed but the scale, and its pictures are passed over. */
export interface SkippedEvent {
  readonly event: "skipped";
  /** Updates made; this is none. */
  readonly step: number;
  /** null where it was not finite either. */
  readonly loss: number | null;
  /** After it. */
  readonly loss_scale: number;
  /** Since the run's beginning, this one counted. */
  readonly skipped: number;
}

/** While evaluating. */
export interface EvaluatingEvent {
  readonly event: "evaluating";
  readonly done: number;
  readonly images: number;
}

/** One line per set of weights: the averages first where they are kept. */
export interface EvaluationEvent extends Scores {
  readonly event: "evaluation";
  readonly step: number;
  readonly epoch: number;
  readonly weights: "averages" | "parameters";
  /** Whether these are the best so far; `best/` holds them then. */
  readonly best: boolean;
}

interface SaveEvent {
  readonly event: "save";
  readonly step: number;
  readonly checkpoint: string;
}

export interface BadImageEvent {
  readonly event: "bad_image";
  readonly file: string;
  readonly reason: string;
}

/** What lay among the pictures and is none. */
export interface PassedOverEvent {
  readonly event: "passed_over";
  /** How many files and folders that systems, cameras and editors leave. */
  readonly system_files: number;
  /** Other files that can only be notes. */
  readonly others: readonly string[];
}

/** With `--autotune`, before the start: how the engine was tuned to a program. */
export interface TuningEvent extends TuningReport {
  readonly event: "tuning";
}

/** A window of steps was profiled. */
export interface ProfileEvent extends StepTimes {
  readonly event: "profile";
  /** Of trace.json, layers.json, roofline.html. */
  readonly folder: string;
  /** The longest first, not all. */
  readonly layers: StepTimes["layers"];
  readonly layers_in_all: number;
}

/** Something of a step was written for whoever looks for a fault: its tensors, or where a number that is not finite began. */
export interface DumpEvent {
  readonly event: "dump";
  readonly step: number;
  readonly path: string;
  /** "412 arrays", or where it began, in words. */
  readonly what: string;
}

/** Something that went wrong and did not stop the run. */
export interface WarningEvent {
  readonly event: "warning";
  readonly what: string;
}

/** Stopped on request after a step, and saved. */
interface StoppedEvent {
  readonly event: "stopped";
  readonly step: number;
  readonly epoch: number;
  /** null where none was to be written. */
  readonly checkpoint: string | null;
}

/** A run ended by a failure, which its caller is told of by what is thrown: for events.jsonl alone, its last line then. */
export interface FailedEvent {
  readonly event: "failed";
  readonly step: number;
  readonly epoch: number;
  /** The exit code it has at the command line: 1 for a bug. */
  readonly code: number;
  readonly what: string;
}

/** Why a run is at its end: it has made all its steps, or `patience` evaluations in a row were no better than the best. */
export type EndReason = "steps" | "patience";

/** The last event of a run that reached its end. */
export interface EndEvent {
  readonly event: "end";
  readonly step: number;
  readonly epoch: number;
  readonly reason: EndReason;
  /** The last evaluations, in a row, that were no better than the best; and that one. */
  readonly unimproved: number;
  readonly best: Best | null;
  /** On the validation set; without one, of the last training step. */
  readonly loss: number;
  readonly top1: number;
  readonly top5: number;
  /** Training alone, waiting for pictures counted; evaluation and saving are not. */
  readonly images_per_second: number;
  /** Steps that were not finite. */
  readonly skipped: number;
  /** null where none was to be written. */
  readonly checkpoint: string | null;
}

/** The run's report was written; told, and not kept in the log that the report is made of. */
export interface ReportEvent {
  readonly event: "report";
  /** Of report.html. */
  readonly path: string;
  /** Of the model card; null where one that was changed by hand was left as it is. */
  readonly card: string | null;
  /** Pictures that its scores are of; 0 where it has none. */
  readonly scored: number;
}

export type TrainEvent =
  | PreparingEvent
  | FetchingEvent
  | WeightsEvent
  | StartEvent
  | StepEvent
  | SkippedEvent
  | EvaluatingEvent
  | EvaluationEvent
  | SaveEvent
  | BadImageEvent
  | PassedOverEvent
  | TuningEvent
  | ProfileEvent
  | DumpEvent
  | WarningEvent
  | StoppedEvent
  | EndEvent
  | ReportEvent;

/** Is called with every event, in order. What it throws is said once, as a warning; training goes on. */
export type Reporter = (event: TrainEvent) => void;
