/**
 * All that the first step needs: the compiled network, its weights drawn or loaded, memory for both. What does not fit
 * is refused here, before anything is trained or written.
 */

import type {
  Backend,
  BackendOptions,
  TrainingRun,
  TrainingState,
  ExchangeKind,
  Tuning,
} from "../backends/backend.js";
import type { LoadedNetwork } from "../inference/evaluate.js";
import { decodingMemoryOf, DEFAULT_PREFETCH } from "../data/loader.js";
import { evaluationDecodings } from "../data/pictures/augment.js";
import { onFirst } from "../distributed/duties.js";
import { solveClassifier } from "../finetune/classifier.js";
import { evenly, type NewClassifier, place, solvingMemory } from "../finetune/new-classifier.js";
import { featuresOf } from "../finetune/features.js";
import { featureProgram, LAST_MAP } from "../finetune/feature-views.js";
import { measureStatistics, type MeasureOptions } from "../finetune/moving-statistics.js";
import { statisticsFit } from "../finetune/statistics-fit.js";
import { badImageLimit } from "../run/run-data.js";
import { augmentationOf } from "../settings/augmentation.js";
import { isClassifier } from "../weights/match.js";
import { storageOf } from "../settings/precision.js";
import { initialise, initialStatistics } from "../models/initialise.js";
import type { Network } from "../models/layers.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "../program/compile.js";
import type { Program } from "../program/program.js";
import type { PreparingEvent, RanksEvent } from "../run/events.js";
import type { CheckpointState, ModelDescription, SolvedClassifier } from "../run/checkpoint-state.js";
import { loadTraining } from "../run/load-checkpoint.js";
import { tunedFor, type TuningMessage } from "../run/tuning.js";
import { initialiseFrom } from "../weights/initialise-from.js";
import { weightsPath } from "../weights/named-weights.js";
import { initialLossScale, type LossScale } from "../backends/loss-scale.js";
import { lossScaling } from "../settings/loss-scaling.js";
import { readSettings } from "../settings/read-settings.js";
import { agreeOnWeights } from "./agreement.js";
import { trainingSize } from "./growth.js";
import { longestLoop } from "./loop.js";
import { estimateMemory, refuseTooLargeBatch } from "./memory.js";
import type { Plan } from "./plan.js";

/** Where a run stands, as its next checkpoint will say. */
export type Standing = {
  -readonly [K in "step" | "evaluated_step" | "scores" | "best" | "loss_scale"]: CheckpointState[K];
} & {
  /** Steps that were not finite: `step + skipped` batches have been used. */
  skipped: number;
  /** Evaluations in a row without a better one. */
  unimproved: number;
};

export interface Prepared {
  readonly network: Network;
  /** For the size of the pictures at hand, as is the run: both are replaced where pictures grow. */
  program: Program;
  run: TrainingRun;
  /** Absent where nothing is evaluated. */
  readonly evaluation: LoadedNetwork | undefined;
  /** Estimate of the whole process, in bytes. */
  readonly memory: number;
  readonly standing: Standing;
  /** How the classifier was made, where it was solved before the first step. */
  readonly solved: SolvedClassifier | undefined;
  readonly warnings: readonly string[];
  /** Replaces run and program by those for pictures of another size; the state of training is what it was. */
  grow(imageSize: number): Promise<void>;
}

/** @throws ResourceError when it does not fit into memory, CheckpointError when weights to start from do not fit. */
export async function prepare(
  plan: Plan,
  backend: Backend,
  report: (event: TuningMessage | PreparingEvent) => void = () => undefined,
  signal?: AbortSignal,
): Promise<Prepared> {
  const { settings, data, checkpoint } = plan;
  const { network, programOf, evaluated } = programsOf(plan);
  const sets = data.validation === undefined ? [data.train] : [data.train, data.validation];
  const decoding = Math.max(...(await Promise.all(sets.map(decodingMemoryOf))));
  const loop = longestLoop(settings, plan.length);
  const memory = (training: Program, steps: number): number =>
    memoryOf(plan, backend, training, evaluated, decoding, steps);
  refuseTooLargeBatch({ ...settings, loop }, (batch, steps) => memory(programOf(batch), steps));
  const {
    step = 0,
    evaluated_step = -1,
    scores = null,
    best = null,
    skipped = 0,
    unimproved = 0,
  } = checkpoint?.state ?? {};
  // The sizes that are yet to come, the next step's first.
  const sizes = new Set([trainingSize(step, settings, plan.length), plan.model.image_size]);
  const programs = [...sizes].map((size) => programOf(settings.batch_size, size));
  const options = { threads: settings.threads ?? plan.ranks.threads };
  // One program after the other, before either has a run: each takes a run's memory while it is measured.
  const tuned = async (each: Program): Promise<Tuning | undefined> =>
    settings.autotune
      ? (await tunedFor(backend, each, options, { report, signal, mayMeasure: plan.ranks.size === 1 })).tuning
      : undefined;
  const tunings = new Map<Program, Tuning | undefined>();
  for (const each of programs) tunings.set(each, await tuned(each));
  const evaluationTuning = evaluated === undefined ? undefined : await tuned(evaluated);
  const load = (program: Program): TrainingRun =>
    backend.train(program, {
      ...options,
      tuning: tunings.get(program),
      exchange: exchangeOf(plan),
      synchronised: settings.sync_batch_norm,
    });
  const [program] = programs as [Program];
  // Before the run has its memory.
  const { measured, classifier } = await beginning(plan, backend, options, network, { report, signal });
  const run = load(program);
  try {
    const state = await run.readState();
    const { warnings } = await fillState(state, plan, program);
    if (measured?.statistics !== undefined) state.statistics.set(measured.statistics);
    if (classifier !== undefined) {
      place(classifier, program, state.parameters);
      state.averages.set(state.parameters);
    }
    await run.writeState(state);
    await agreeOnWeights(plan.ranks, program, state);
    const lossScale = lossScaleOf(plan);
    run.scaleLoss(lossScale);
    const prepared: Prepared = {
      network,
      program,
      run,
      evaluation:
        evaluated === undefined
          ? undefined
          : {
              program: evaluated,
              run: backend.infer(evaluated, { ...options, tuning: evaluationTuning }),
            },
      memory: memory(programOf(settings.batch_size), loop),
      standing: { step, evaluated_step, scores, best, skipped, unimproved, ...standingOf(lossScale) },
      solved: classifier?.says ?? checkpoint?.state.solved,
      warnings: [...plan.warnings, ...warnings, ...(measured === undefined ? [] : [measured.says])],
      async grow(imageSize): Promise<void> {
        const grown = programs.find((each) => each.imageSize === imageSize);
        if (grown === undefined) throw new Error(`no program was made for ${imageSize} px`);
        const state = await prepared.run.readState();
        const scale = prepared.standing.loss_scale;
        // One after the other: memory was foreseen for one.
        prepared.run.close();
        prepared.program = grown;
        prepared.run = load(grown);
        await prepared.run.writeState(state);
        if (scale !== undefined) prepared.run.scaleLoss({ kind: lossScale.kind, ...scale });
      },
    };
    return prepared;
  } catch (error) {
    run.close();
    throw error;
  }
}

/** What a run from weights has in place of some of them. */
interface Beginning {
  /** Where the weights' own moving statistics do not fit them; those measured, where they could be, and what to say of it. */
  readonly measured?: { readonly statistics?: Float32Array | undefined; readonly says: string };
  readonly classifier?: NewClassifier;
}

/** Made by the first rank for all; each has the pictures, but the numbers are the first one's. */
async function beginning(
  plan: Plan,
  backend: Backend,
  options: BackendOptions,
  network: Network,
  {
    report,
    signal,
  }: {
    readonly report: (event: PreparingEvent) => void;
    readonly signal: AbortSignal | undefined;
  },
): Promise<Beginning> {
  const { settings, model, data, solves } = plan;
  const usesMoving = solves !== undefined || settings.freeze || settings.batch_norm === "moving";
  if (plan.checkpoint !== undefined || settings.init_from === undefined || !usesMoving) return {};
  const program = featureProgram(network, model.image_size);
  const looking = {
    imageSize: model.image_size,
    augmentation: augmentationOf({ ...settings, eval_resize: model.eval_resize }),
    seed: settings.seed,
    maxBadImages: badImageLimit(settings),
    known: plan.unreadable.train,
    signal,
  };
  const resize = { ...evaluationDecodings[model.pipeline], shorterSide: model.eval_resize };
  const made = await onFirst(plan.ranks, "beginning", async () => {
    const state = emptyState(program);
    await fillState(state, plan, program);
    const some = await featuresOf(backend, options, program, state, data.train, {
      ...looking,
      resize,
      samples: evenly(data.train.size, Math.min(data.train.size, LOOKED_AT)),
      views: 1,
    });
    const fits = statisticsFit(program, state, some);
    const tell = tellingOf(report);
    const statistics = fits
      ? undefined
      : await measuredFor(plan, backend, options, network, {
          ...looking,
          progress: (done, total) => tell("statistics", done, total),
        });
    if (statistics !== undefined) state.statistics.set(statistics);
    const classifier =
      solves === undefined
        ? undefined
        : await solveClassifier(backend, options, program, state, data.train, {
            ...looking,
            resize,
            sample: solves,
            balanced: settings.class_weights === "balanced",
            progress: tellingOf(report),
          });
    return {
      fits,
      statistics: statistics && Array.from(statistics),
      classifier: classifier && {
        ...classifier,
        weight: Array.from(classifier.weight),
        bias: Array.from(classifier.bias),
      },
    };
  });
  const { fits, statistics, classifier } = made;
  const unfit = `the moving statistics of batch norms in ${settings.init_from} do not fit its weights`;
  const says =
    statistics === undefined
      ? `${unfit}, and on the training pictures none could be measured that are finite`
      : `${unfit}: they were measured anew, on training pictures; weights of so few steps may learn better with --batch_norm batch`;
  return {
    ...(fits ? {} : { measured: { statistics: statistics && Float32Array.from(statistics), says } }),
    ...(classifier && {
      classifier: {
        ...classifier,
        weight: Float32Array.from(classifier.weight),
        bias: Float32Array.from(classifier.bias),
      },
    }),
  };
}

/** How far work is that begins now. */
function tellingOf(
  report: (event: PreparingEvent) => void,
): (what: "statistics" | "features" | "solving", done: number, total: number) => void {
  const begun = performance.now();
  return (what, done, total) => {
    const speed = what === "solving" ? 0 : done / Math.max((performance.now() - begun) / 1000, 1e-3);
    const seconds_left = speed > 0 ? (total - done) / speed : 0;
    report({ event: "preparing", what, done, total, images_per_second: speed, seconds_left });
  };
}

/** Pictures by whose features the statistics are judged. */
const LOOKED_AT = 32;

/** In steps whose memory was foreseen for the run's own; where it is frozen, for far less. */
const MOST_MEASURED_AT_ONCE = { frozen: 8, free: 32 };

async function measuredFor(
  plan: Plan,
  backend: Backend,
  options: BackendOptions,
  network: Network,
  looking: Omit<MeasureOptions, "batch">,
): Promise<Float32Array | undefined> {
  const { settings, data } = plan;
  const { frozen, free } = MOST_MEASURED_AT_ONCE;
  const batch = Math.min(settings.batch_size, settings.freeze ? frozen : free, data.train.size);
  const parametersOf = async (program: Program): Promise<Float32Array> => {
    const state = emptyState(program);
    await fillState(state, plan, program);
    return state.parameters;
  };
  return measureStatistics(backend, options, network, parametersOf, data.train, { ...looking, batch });
}

/** As the checkpoint left it, where the loss was scaled the same way. */
function lossScaleOf({ settings, checkpoint }: Plan): LossScale {
  const { kind, value } = lossScaling(settings);
  const held = checkpoint?.state.loss_scale;
  if (checkpoint === undefined || held === undefined || kind === "none") return initialLossScale(kind, value);
  const before = lossScaling(readSettings(checkpoint.state.settings));
  return before.kind === kind && before.value === value ? { kind, ...held } : initialLossScale(kind, value);
}

/** Of a loss scale what a checkpoint says. */
export function standingOf({ kind, ...counts }: LossScale): Pick<Standing, "loss_scale"> {
  return { loss_scale: kind === "none" ? undefined : counts };
}

/** Inside a machine the memory that all see is the fastest; between machines backward hides what it can. */
export function exchangeOf({ ranks, settings }: Pick<Plan, "ranks" | "settings">): ExchangeKind {
  if (ranks.size === 1) return "none";
  const isOneMachine = ranks.machines === 1;
  if (settings.exchange === "window" || (settings.exchange === "auto" && isOneMachine)) return "window";
  return settings.hcom_parallel ? "overlapped" : "messages";
}

/** What is said of the ranks; null for a process alone. */
export function ranksEvent(plan: Plan, { buckets }: Program): RanksEvent | null {
  const { size, machines, library, threads } = plan.ranks;
  return size === 1
    ? null
    : {
        size,
        machines,
        library,
        threads: plan.settings.threads ?? threads,
        exchange: exchangeOf(plan),
        buckets: buckets.length,
      };
}

/** Estimate of the whole process. */
export function memoryOf(
  { settings, shards, solves, model }: Plan,
  backend: Backend,
  training: Program,
  evaluated: Program | undefined,
  decoding: number,
  /** Steps of the longest. */
  loop: number,
): number {
  const ahead = batchesAhead(settings, shards.count, loop);
  const features = training.steps.at(-1)?.inputs.length ?? 0;
  const solving = solves === undefined ? 0 : solvingMemory(solves, model.classes, features);
  return solving + estimateMemory(backend, training, evaluated, { decoding, ...ahead, shards: shards.count });
}

/** Batches decoded ahead, and those that the engine holds: all of a loop's; of a single step the shards come one by one. */
export function batchesAhead(
  { enable_data_pre_proc }: Plan["settings"],
  shards: number,
  loop: number,
): { readonly prefetch: number; readonly held: number } {
  const held = loop === 1 ? 1 : loop * shards;
  return { held, prefetch: enable_data_pre_proc ? Math.max(DEFAULT_PREFETCH, loop === 1 ? 0 : held) : 0 };
}

/** The programs of a run, for any batch size and, of training, for pictures that are yet to grow. */
export function programsOf({ settings, model, data }: Pick<Plan, "settings" | "model" | "data">): {
  readonly network: Network;
  readonly programOf: (batch: number, imageSize?: number) => Program;
  readonly evaluated: Program | undefined;
} {
  const network = trainedNetwork(model, settings.weight_decay_on);
  return {
    network,
    programOf: (batch, imageSize = model.image_size) =>
      compile(network, {
        batch,
        imageSize,
        mode: "train",
        classifierRate: settings.classifier_rate,
        statistics: settings.batch_norm,
        freeze: settings.freeze ? { through: LAST_MAP } : undefined,
        bucketBytes: settings.bucket_size * 1024,
        storage: storageOf(settings.precision_mode),
      }),
    evaluated:
      data.validation === undefined || settings.mode === "train"
        ? undefined
        : compile(network, { batch: settings.eval_batch_size, imageSize: model.image_size, mode: "infer" }),
  };
}

/** Of zeros. */
export function emptyState({ parameterCount, planes }: Program): TrainingState {
  const ofAll = (): Float32Array => new Float32Array(parameterCount);
  const statistics = new Float32Array(2 * planes.length);
  return { parameters: ofAll(), momentum: ofAll(), averages: ofAll(), statistics };
}

/** Weights drawn, read from elsewhere, or as the checkpoint holds them, into a state of zeros. */
export async function fillState(
  state: TrainingState,
  plan: Pick<Plan, "settings" | "model" | "checkpoint" | "solves">,
  program: Program,
): Promise<{ readonly warnings: readonly string[]; readonly drawsClassifier: boolean }> {
  const { settings, checkpoint } = plan;
  if (checkpoint !== undefined) {
    await loadTraining(checkpoint, program, state);
    return { warnings: [], drawsClassifier: false };
  }
  const { parameters, statistics, averages } = state;
  initialise(program, { version: settings.version, seed: settings.seed }, parameters);
  statistics.set(initialStatistics(program));
  const notices: string[] = [];
  const { init_from: path } = settings;
  const drawn =
    path === undefined
      ? { tensors: [], classifier: true }
      : await initialiseFrom(
          weightsPath(path),
          plan.model.variant,
          program,
          state,
          plan.model.class_names,
          (what) => notices.push(`${path}: ${what}`),
        );
  averages.set(parameters);
  // A classifier that is solved is said with its numbers.
  const said = drawn.tensors.filter((name) => plan.solves === undefined || !isClassifier(name));
  const what = `${said.join(", ")} start from the seed: not in the weights given, or of another number of classes`;
  return {
    warnings: said.length === 0 ? notices : [...notices, what],
    drawsClassifier: drawn.classifier,
  };
}

/** The network, with its rule of what decays or the simpler one. */
function trainedNetwork(model: ModelDescription, decayOn: "variant" | "matrices"): Network {
  const network = shuffleNetV2({ variant: model.variant, width: model.width, classes: model.classes });
  return decayOn === "variant" ? network : { ...network, decays: ["convolution", "depthwise", "linear"] };
}
