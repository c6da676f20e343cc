/**
 * riffle-vision: train, evaluate and use ShuffleNet V2 image classifiers.
 *
 *     import { predict, train } from "riffle-vision";
 *
 *     await train({ data_dir: "photos", log_dir: "runs/a", width: 0.5, image_size: 96 });
 *     const [result] = await predict("runs/a", ["photo.jpg"]);
 *
 * Settings have the names and defaults of the command line (`settings`). Every failure that is not a
 * bug is a `RiffleError`, whose `problem` says what, where, expected and found.
 */

export { train, type TrainResult } from "./train/trainer.js";
export { evaluate, type EvaluateEvent, type Examiner, type ScoredSet } from "./inference/evaluate.js";
export { writeReport, type WrittenReport } from "./report/write-report.js";
export {
  openPredictor,
  predict,
  type Guess,
  type PictureInput,
  type Prediction,
  type PredictOneOptions,
  type PredictOptions,
  type Predictor,
  type PredictorOptions,
  type Refused,
} from "./inference/predict.js";
export { inspect, type InspectOptions, type LayerReport, type NetworkReport } from "./measure/inspect.js";
export { bench, type BenchOptions, type BenchResult, type LayerTiming } from "./measure/bench.js";
export { benchData, type DataBenchOptions, type DataBenchResult } from "./measure/bench-data.js";
export { doctor, type DoctorReport, type Finding } from "./measure/doctor.js";
export type { KeptTuning, TunedProgram, TuningReport } from "./backends/autotune.js";
export type { Mode, ProgramSettings } from "./measure/workload.js";
export type { Reporter, TrainEvent } from "./run/events.js";
export type { Checkpoint, CheckpointState, ModelDescription, Scores } from "./run/checkpoint-state.js";
export { findCheckpoint } from "./run/find-checkpoint.js";
export { readSettings } from "./settings/read-settings.js";
export { type Setting } from "./settings/setting-kinds.js";
export { settings, type GivenSettings, type SettingName, type Settings } from "./settings/settings.js";
export { recipes, type Recipe, type RecipeName } from "./settings/recipe.js";
export { resolveSettings, type ResolvedSettings } from "./settings/resolve-settings.js";
export type { Dataset } from "./data/dataset.js";
export { openDatasets, type OpenOptions, type Sets } from "./data/sets.js";
export { openRecords, type RecordOptions } from "./data/records/record-dataset.js";
export { explore, type ExploreReport, type ExploreSettings } from "./prepare/imagenet/explore.js";
export { createRecords, type CreateResult, type CreateSettings } from "./prepare/records/create-records.js";
export { verifyData, type VerifyReport, type VerifySettings } from "./prepare/verify-data.js";
export {
  importWeights,
  type Imported,
  type ImportOptions,
  writeImportedFile,
  writeImportedRun,
} from "./weights/import-weights.js";
export { exportRun, type ExportOptions, type ExportResult } from "./weights/export-run.js";
export { importAsRun, type ImportedRun } from "./train/import-tf-run.js";
export { exportTfCheckpoint } from "./weights/export-tf-checkpoint.js";
export { drawFolder, type DrawProgress, type DrawSettings } from "./prepare/draw/draw-folder.js";
export { type ObjectClass, objectClasses } from "./prepare/draw/classes.js";
export { type SafetensorsFile, type TensorEntry } from "./formats/safetensors.js";
export { openSafetensors } from "./formats/safetensors-file.js";
export {
  CheckpointError,
  DataError,
  DivergedError,
  FormatError,
  type Problem,
  ResourceError,
  RiffleError,
  ShapeError,
  UsageError,
} from "./core/error.js";
