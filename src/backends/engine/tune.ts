/**
 * Finds how a program is cut into tasks best on this machine: `--autotune`.
 *
 * A few cuts are tried on all steps at once, the whole program run with each, and every step keeps the one that it was
 * fastest with. What comes of that is then run in turn with the usual cuts, and is kept only if the whole is faster. Only
 * what changes no bit is tried: blocks and rows of steps that do not train, how many neighbours are one task, how many
 * pictures a thread takes, how products of bf16 are made. Times are in seconds.
 */

import { median } from "../../core/median.js";
import type { Program, Step } from "../../program/program.js";
import type { Backend, BackendOptions, Cut, Tuned, Tuning } from "../backend.js";
import { type MadeUp, makeUp, openWorkload, type Workload } from "../workload.js";
import type { EngineAccess } from "./engine.js";
import { inPortions, portionOf } from "./portions.js";

/** About how long tuning may take where a step is not long itself. */
const SECONDS = 10;
/** Runs of one choice that is timed, after one that is not. */
const MOST_RUNS = 20;
/** Turns in which usual and tuned are run against each other; pairs of batches of them, where they are run in turn. */
const TURNS = 3;
const FEWEST_PAIRS = 16;
/** A step that is not this much faster keeps its usual cut, and a program its usual tuning: less is noise. */
const STEP_GAIN = 1.03;
const WHOLE_GAIN = 1.02;

const USUAL: Cut = { blockColumns: 0, rowParts: 0, runs: 0 };

/** Largest values that the engine takes of each (native/runtime/program.cc has the same). */
export function cutLimits(program: Program, step: Step): Cut {
  if (step.kind !== "pointwise") {
    return { ...USUAL, runs: step.kind === "depthwise" ? step.count : 0 };
  }
  const runs = columnsOf(program, step);
  return step.trains ? { ...USUAL, runs } : { blockColumns: 2048, rowParts: step.count, runs };
}

export function fits(
  access: EngineAccess,
  program: Program,
  options: BackendOptions,
  { cuts, portion, products }: Tuning,
): boolean {
  const { isa } = access.machine(options.isa);
  if (products !== undefined && !access.engine().products(isa).includes(products)) return false;
  if (portion !== undefined && (program.mode !== "infer" || portion > program.batch)) return false;
  const executed = portionOf(program, threadsOf(access, options), { cuts, portion }) || program.batch;
  return (
    cuts.length === program.steps.length &&
    program.steps.every((step, i) => {
      const cut = cuts[i] ?? USUAL;
      const most = cutLimits({ ...program, batch: executed }, step);
      return (
        (["blockColumns", "rowParts", "runs"] as const).every(
          (name) => Number.isSafeInteger(cut[name]) && cut[name] >= 0 && cut[name] <= most[name],
        ) && cut.blockColumns % 32 === 0
      );
    })
  );
}

/** See `Backend.tune`. Memory is that of one run at a time, of inference at the end of two. */
export async function tune(
  access: EngineAccess,
  backend: Backend,
  program: Program,
  options: BackendOptions,
  progress?: (done: number, total: number) => void,
): Promise<Tuned> {
  const threads = threadsOf(access, options);
  const timer = new Timer(backend, sampleOf(program, threads), options, progress);
  const none: Tuning = { cuts: [] };
  const ways = choices(access, timer.program, threads, options);
  await timer.calibrate(none, ways);
  const products = await timer.fastest(
    ways.products.map((each) => ({ ...none, products: each })),
    none,
  );
  const portioned = await timer.fastest(
    ways.portions.map((portion) => ({ ...products, portion })),
    products,
  );
  const tuning = { ...portioned, cuts: await bestCuts(timer, portioned, threads) };
  const isUsual = (cut: Cut): boolean => cut.blockColumns + cut.rowParts + cut.runs === 0;
  const usual = { cuts: program.steps.map(() => USUAL) };
  if (tuning.cuts.every(isUsual) && tuning.products === undefined && tuning.portion === undefined) {
    return { tuning: usual, speedup: 1 };
  }
  const speedup = await timer.speedup(tuning, none);
  return speedup < WHOLE_GAIN ? { tuning: usual, speedup: 1 } : { tuning, speedup };
}

/** Of a large batch of inference as many pictures as show how portions do; its logits are made portion by portion. */
function sampleOf(program: Program, threads: number): Program {
  const pictures = 16 * threads;
  const isSample = program.mode === "infer" && program.kept.length === 0 && program.batch > pictures;
  return isSample ? inPortions(program, pictures) : program;
}

interface Choices {
  readonly products: readonly ("dot" | "unpack")[];
  readonly portions: readonly number[];
  /** Of cuts, as many as `candidates` gives at most. */
  readonly cuts: number;
}

function choices(access: EngineAccess, program: Program, threads: number, options: BackendOptions): Choices {
  const isTold = (options.products ?? access.products()) !== undefined;
  // The last is the usual one.
  const others = access.engine().products(access.machine(options.isa).isa).slice(0, -1) as (
    "dot" | "unpack"
  )[];
  const usual = portionOf(program, threads);
  const isShared = program.mode === "infer" && program.kept.length === 0 && threads > 1;
  return {
    products: program.planes[0]?.storage === "bf16" && !isTold ? others : [],
    portions: isShared
      ? [16, 8, 4, 2, 1, 0].filter(
          (portion) =>
            portion !== usual &&
            portion * threads <= program.batch &&
            // All threads on many pictures keep the memory busy instead of the cores.
            (portion > 0 || program.batch < 8 * threads),
        )
      : [],
    cuts: candidates(program, threads, usual > 0 || threads === 1).length,
  };
}

/** Cuts tried on every step, each a function of the step. */
type Candidate = (step: Step) => Cut;

/** @param alone whether a thread runs the program by itself, so that only the sizes of blocks matter. */
function candidates(program: Program, threads: number, alone: boolean): Candidate[] {
  const smallest = (step: Step): number => columnsOf(program, step);
  const runsOf = (step: Step, runs: number): number => (alone ? 0 : Math.min(runs, step.count));
  if (program.mode === "train") {
    return [2, 4, 8, 16].map((each) => (step) => {
      if (step.kind === "depthwise") return { ...USUAL, runs: runsOf(step, each * threads) };
      return step.kind === "pointwise" && step.trains
        ? { ...USUAL, runs: Math.min(each * threads, Math.ceil(smallest(step) / 128)) }
        : USUAL;
    });
  }
  const blocks = [64, 128, 192, 256, 384, 512, 1024];
  const parts = alone ? [0] : [1, 2, 4];
  const pairs = parts.flatMap((rowParts) => blocks.map((blockColumns) => ({ blockColumns, rowParts })));
  return pairs.map(({ blockColumns, rowParts }, k) => (step) => {
    if (step.kind === "depthwise") return { ...USUAL, runs: runsOf(step, threads * 2 ** (k % 5)) };
    if (step.kind !== "pointwise") return USUAL;
    const widest = Math.ceil(smallest(step) / 32) * 32;
    return { ...USUAL, blockColumns: Math.min(blockColumns, widest), rowParts };
  });
}

/** Of every step that cut of the candidates with which it was fastest, where it gains by it. */
async function bestCuts(timer: Timer, base: Tuning, threads: number): Promise<Cut[]> {
  const { program } = timer;
  const portion = portionOf(program, threads, base);
  const executed = portion === 0 ? program : { ...program, batch: portion };
  const best = program.steps.map(() => ({ cut: USUAL, seconds: Infinity }));
  const before = await timer.stepTimes(base);
  for (const candidate of candidates(executed, threads, portion > 0 || threads === 1)) {
    if (timer.isLate) break;
    const cuts = program.steps.map(candidate);
    const times = await timer.stepTimes({ ...base, cuts });
    times.forEach((seconds, i) => {
      const cut = cuts[i] ?? USUAL;
      if (seconds < (best[i]?.seconds ?? 0)) best[i] = { cut, seconds };
    });
  }
  // The usual cuts once more: the machine may have changed its speed meanwhile.
  const after = await timer.stepTimes(base);
  return best.map(({ cut, seconds }, i) =>
    STEP_GAIN * seconds < Math.min(before[i] ?? 0, after[i] ?? 0) ? cut : USUAL,
  );
}

/** Runs the program under one tuning after the other. */
class Timer {
  #runs = MOST_RUNS;
  #done = 0;
  #total = 1;
  readonly #start = performance.now();
  readonly #madeUp: MadeUp;

  constructor(
    private readonly backend: Backend,
    readonly program: Program,
    private readonly options: BackendOptions,
    private readonly progress: ((done: number, total: number) => void) | undefined,
  ) {
    // Drawn once: a copy for every run takes no time.
    const madeUp = makeUp(program, "he_uniform");
    const drawn = new Float32Array(program.parameterCount);
    madeUp.fill(drawn);
    this.#madeUp = { ...madeUp, fill: (parameters) => parameters.set(drawn) };
  }

  /** Whether only what must be run should be run yet. */
  get isLate(): boolean {
    return performance.now() - this.#start > 600 * SECONDS;
  }

  /** Decides how often each choice can be run. */
  async calibrate(tuning: Tuning, ways: Choices): Promise<void> {
    const tried = ways.cuts + ways.products.length + ways.portions.length + 2 + 2 * TURNS;
    const seconds = median(await this.#wholes(tuning, 2));
    this.#runs = Math.min(MOST_RUNS, Math.max(1, Math.floor(SECONDS / (seconds * tried)) - 1));
    this.#total = this.#done + tried * (this.#runs + 1);
  }

  /** The fastest of them as a whole, where it gains over `usual`. */
  async fastest(tunings: readonly Tuning[], usual: Tuning): Promise<Tuning> {
    if (tunings.length === 0) return usual;
    let best = { tuning: usual, seconds: median(await this.#wholes(usual, this.#runs)) / WHOLE_GAIN };
    for (const tuning of tunings) {
      if (this.isLate) break;
      const seconds = median(await this.#wholes(tuning, this.#runs));
      if (seconds < best.seconds) best = { tuning, seconds };
    }
    return best.tuning;
  }

  /** Seconds of each step forward, the least of the runs: what else the machine does only adds to them. */
  async stepTimes(tuning: Tuning): Promise<number[]> {
    const times: Float64Array[] = [];
    await this.#run(tuning, this.#runs, ({ seconds }) => times.push(seconds.forward.slice()));
    return this.program.steps.map((_, i) => Math.min(...times.map((forward) => forward[i] ?? 0)));
  }

  /** How many times as fast as `usual`, the median of pairs; 1 where not three of four pairs say that it is faster. */
  async speedup(tuning: Tuning, usual: Tuning): Promise<number> {
    const ratios = await (this.program.mode === "infer"
      ? this.#interleaved(tuning, usual)
      : this.#inTurns(tuning, usual));
    const sorted = ratios.toSorted((a, b) => a - b);
    return (sorted[Math.floor(sorted.length / 4)] ?? 0) > 1 ? median(ratios) : 1;
  }

  /** Training takes memory, so one run is open at a time. */
  async #inTurns(tuning: Tuning, usual: Tuning): Promise<number[]> {
    const ratios: number[] = [];
    for (let turn = 0; turn < TURNS; turn++) {
      const first = median(await this.#wholes(turn % 2 === 0 ? usual : tuning, this.#runs));
      const second = median(await this.#wholes(turn % 2 === 0 ? tuning : usual, this.#runs));
      ratios.push(turn % 2 === 0 ? first / second : second / first);
    }
    return ratios;
  }

  /** Batch by batch: the machine has the same speed for both. */
  async #interleaved(tuning: Tuning, usual: Tuning): Promise<number[]> {
    const opened: Workload[] = [];
    try {
      for (const each of [usual, tuning]) opened.push(await this.#open(each));
      for (const workload of opened) await this.#time(workload);
      const ratios: number[] = [];
      for (let turn = 0; turn < Math.max(FEWEST_PAIRS, TURNS * this.#runs); turn++) {
        const seconds = [0, 0];
        for (const which of turn % 2 === 0 ? [0, 1] : [1, 0]) {
          seconds[which] = await this.#time(opened[which] as Workload);
        }
        ratios.push((seconds[0] ?? 0) / (seconds[1] ?? 0));
      }
      return ratios;
    } finally {
      for (const workload of opened) workload.close();
    }
  }

  async #wholes(tuning: Tuning, runs: number): Promise<number[]> {
    const whole: number[] = [];
    await this.#run(tuning, runs, ({ elapsed }) => whole.push(elapsed));
    return whole;
  }

  async #run(
    tuning: Tuning,
    runs: number,
    see: (run: { readonly elapsed: number; readonly seconds: { readonly forward: Float64Array } }) => void,
  ): Promise<void> {
    const workload = await this.#open(tuning);
    try {
      for (let i = 0; i <= runs; i++) {
        const elapsed = await this.#time(workload);
        if (i > 0) see({ elapsed, seconds: workload.seconds });
      }
    } finally {
      workload.close();
    }
  }

  #open(tuning: Tuning): Promise<Workload> {
    return openWorkload(this.backend, this.program, this.#madeUp, { ...this.options, tuning });
  }

  async #time(workload: Workload): Promise<number> {
    const start = performance.now();
    await workload.step();
    const elapsed = (performance.now() - start) / 1000;
    this.progress?.(Math.min(++this.#done, this.#total), this.#total);
    return elapsed;
  }
}

function threadsOf(access: EngineAccess, { threads, isa }: BackendOptions): number {
  return threads || access.machine(isa).threads;
}

/** Columns of the product that a pointwise step is: pixels of all pictures. */
function columnsOf({ batch, planes }: Program, { first }: Step): number {
  const plane = planes[first];
  return plane === undefined ? 0 : batch * plane.height * plane.width;
}
