/**
 * `--autotune`: a program's tuning from a file of the user's caches, or measured now and kept there.
 *
 * A file is for one processor, instruction set, number of threads, version of Riffle and program (its shapes, not its
 * weights). It is believed only as far as it fits all of them; one that does not, or that is damaged, is said and replaced.
 */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { cpus } from "node:os";
import { basename, join } from "node:path";

import * as z from "zod";

import { replaceFile } from "../core/durable.js";
import { environment } from "../core/environment.js";
import { errorCode, RiffleError } from "../core/error.js";
import { userCache } from "../core/user-cache.js";
import { riffleVersion } from "../core/version.js";
import type { Program } from "../program/program.js";
import type { Backend, BackendOptions, Machine, Tuning } from "./backend.js";

/** What is said of a tuning, as events have it. */
export interface TuningReport {
  readonly mode: Program["mode"];
  /** "none" where nothing was to be had: of several processes each only reads what is kept. */
  readonly from: "cache" | "measured" | "none";
  /** Where it is kept; null where it could not be. */
  readonly file: string | null;
  /** Steps of the program that are cut otherwise than usual. */
  readonly tuned: number;
  readonly steps: number;
  /** Inference: pictures that a thread takes at a time, 0 for all threads on the same; null as usual. */
  readonly portion: number | null;
  readonly products: "dot" | "unpack" | null;
  /** How many times as fast as untuned, when it was measured; 1 where nothing was faster. */
  readonly speedup: number;
  /** That measuring took now. */
  readonly seconds: number;
}

export interface AutotuneOptions {
  /** False for one of several processes, which would measure each other: it only reads what is kept. */
  readonly mayMeasure?: boolean;
  readonly progress?: (done: number, total: number) => void;
  readonly warn?: (what: string) => void;
}

/** What a file says of its program, for people; a run finds its own by the key. */
export interface TunedProgram {
  readonly mode: Program["mode"];
  readonly batch: number;
  readonly image_size: number;
  readonly classes: number;
  readonly storage: "f32" | "bf16";
  /** Numbers in the network's weights, which tell its width. */
  readonly parameters: number;
}

/** A file among the user's caches. */
export interface KeptTuning {
  readonly file: string;
  /** Whether runs on this machine may read it: those of "stale" files are of another processor or build, and damaged ones of nothing. */
  readonly state: "current" | "stale" | "damaged";
  /** Why it is not current; empty where it is. */
  readonly why: string;
  /** Null where it is damaged. */
  readonly of: (TunedProgram & Readonly<Record<"cpu" | "isa", string>> & { readonly threads: number }) | null;
  /** How many times as fast as untuned, when it was measured; 1 where nothing was faster, or it is damaged. */
  readonly speedup: number;
}

const FORMAT = "riffle-tuning-1";
/** A network of 100 steps takes 10 KB. */
const MOST_BYTES = 2 ** 20;

/** What to give the backend beside `options`, and what to say of it. Undefined: the usual. */
export async function autotune(
  backend: Backend,
  program: Program,
  options: BackendOptions,
  { mayMeasure = true, progress, warn = () => undefined }: AutotuneOptions = {},
): Promise<{ readonly tuning: Tuning | undefined; readonly report: TuningReport }> {
  const file = tuningFile(backend, program, options);
  const fits = (tuning: Tuning): boolean => backend.fits?.(program, options, tuning) ?? false;
  const kept = file === undefined ? undefined : await readTuning(file, warn, fits);
  const of = (
    { tuning, speedup }: Kept,
    from: TuningReport["from"],
    path: string | null,
    seconds = 0,
  ): { tuning: Tuning; report: TuningReport } => ({
    tuning,
    report: {
      mode: program.mode,
      from,
      file: path,
      tuned: tuning.cuts.filter((cut) => cut.blockColumns + cut.rowParts + cut.runs > 0).length,
      steps: program.steps.length,
      portion: tuning.portion ?? null,
      products: tuning.products ?? null,
      speedup,
      seconds,
    },
  });
  if (file !== undefined && kept !== undefined) return of(kept, "cache", file.path);
  if (!mayMeasure || backend.tune === undefined) {
    const { report } = of({ tuning: { cuts: [] }, speedup: 1 }, "none", null);
    return { tuning: undefined, report };
  }
  const start = performance.now();
  const tuned = await backend.tune(program, options, progress);
  const seconds = (performance.now() - start) / 1000;
  const isKept = file !== undefined && (await writeTuning(file, tuned, warn));
  return of(tuned, "measured", isKept ? file.path : null, seconds);
}

/** "inference: 12 of 56 steps, 8 pictures a thread, 1.07 times as fast · measured in 3.1 s, kept in tuning.json" */
export function tuningText(
  report: TuningReport,
  shortened: (path: string) => string = (path) => path,
): string {
  const { mode, from, file, tuned, steps, portion, products, speedup, seconds } = report;
  const what = mode === "train" ? "training" : "inference";
  if (from === "none") return `${what}: as usual; no tuning is kept for it, and it is not measured here`;
  const parts = [
    ...(tuned > 0 ? [`${tuned} of ${steps} steps`] : []),
    ...(portion === null
      ? []
      : [portion === 0 ? "all threads on the same pictures" : `${portion} pictures a thread`]),
    ...(products === null ? [] : [`products by ${products}`]),
  ];
  const found =
    parts.length === 0
      ? "as usual, nothing was faster"
      : `${parts.join(", ")}, ${speedup.toFixed(2)} times as fast`;
  const where = file === null ? "not kept" : `kept in ${shortened(file)}`;
  const source =
    from === "cache" ? `from ${shortened(file ?? "")}` : `measured in ${seconds.toFixed(1)} s, ${where}`;
  return `${what}: ${found} · ${source}`;
}

/** All files that are kept, by name. Empty where there is no folder for them. */
export function keptTunings(backend: Backend): KeptTuning[] {
  const folder = tuningFolder();
  if (folder === undefined) return [];
  let names: string[];
  try {
    names = readdirSync(folder).filter((name) => name.endsWith(".json"));
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
    return [];
  }
  return names.sort().map((name) => keptTuning(backend, join(folder, name)));
}

/** "training, 2.28 M parameters, 1000 classes, 224 px, batch 32, f32; AMD EPYC 9354, avx512, 2 threads: 1.04 times as fast" */
export function keptTuningText({ of, speedup, why }: KeptTuning): string {
  if (of === null) return why;
  const program = [
    of.mode === "train" ? "training" : "inference",
    `${(of.parameters / 1e6).toFixed(2)} M parameters`,
    `${of.classes} classes`,
    `${of.image_size} px`,
    `batch ${of.batch}`,
    of.storage,
  ].join(", ");
  const gain = speedup > 1 ? `${speedup.toFixed(2)} times as fast` : "as usual, nothing was faster";
  return `${program}; ${of.cpu}, ${of.isa}, ${of.threads} threads: ${gain}${why && ` (${why})`}`;
}

function keptTuning(backend: Backend, file: string): KeptTuning {
  const damaged = (why: string): KeptTuning => ({ file, state: "damaged", why, of: null, speedup: 1 });
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
    return damaged("it cannot be read");
  }
  const read = parsed(bytes);
  if (typeof read === "string") return damaged(read);
  const { key, of, speedup } = read;
  const here = builtHere(backend);
  const why =
    key.cpu !== here.cpu
      ? "of another processor"
      : key.version !== here.version
        ? "of another version of Riffle, or one built by another compiler"
        : !here.available.includes(key.isa)
          ? "of an instruction set that this machine does not run"
          : basename(file) !== nameOf(key)
            ? "not under the name that runs look for"
            : "";
  const { cpu, isa, threads } = key;
  return { file, state: why === "" ? "current" : "stale", why, of: { ...of, cpu, isa, threads }, speedup };
}

/** What a tuning is of; the file's name is its hash. */
type Key = Readonly<Record<"cpu" | "isa" | "version" | "products" | "program", string>> & {
  readonly threads: number;
};

interface TuningFile {
  readonly path: string;
  readonly key: Key;
  readonly of: TunedProgram;
}

interface Kept {
  readonly tuning: Tuning;
  readonly speedup: number;
}

/** Undefined for a user without a folder for caches. */
export function tuningFile(
  backend: Backend,
  program: Program,
  options: BackendOptions,
): TuningFile | undefined {
  const folder = tuningFolder();
  if (folder === undefined) return undefined;
  const { cpu, isa, version, threads } = builtHere(backend, options.isa);
  const key = {
    cpu,
    isa,
    version,
    products: options.products ?? environment("RIFFLE_PRODUCTS") ?? "",
    program: hashOf(shapesOf(program)),
    threads: options.threads || threads,
  };
  const of = {
    mode: program.mode,
    batch: program.batch,
    image_size: program.imageSize,
    classes: program.classes,
    storage: program.planes[0]?.storage ?? "f32",
    parameters: program.parameterCount,
  };
  return { path: join(folder, nameOf(key)), key, of };
}

function tuningFolder(): string | undefined {
  const caches = userCache();
  return caches === undefined ? undefined : join(caches, "tuning");
}

/** What a key has of the machine and the build. */
function builtHere(
  backend: Backend,
  isa?: string,
): Machine & { readonly cpu: string; readonly version: string } {
  const machine = backend.machine(isa);
  const version = `${riffleVersion()}, ${backend.name}, ${machine.compiler}`;
  return { ...machine, cpu: cpus()[0]?.model.trim() ?? "", version };
}

function nameOf(key: Key): string {
  return `${hashOf(key).slice(0, 32)}.json`;
}

/** All that decides how long a program takes: where its planes and parameters lie does not. */
function shapesOf({ mode, batch, imageSize, classes, kept, planes, steps }: Program): unknown {
  const shapes = steps.map(({ kind, inputs, first, count, trains }) => {
    const { height = 0, width = 0 } = planes[first] ?? {};
    return [kind, inputs.length, count, height, width, trains];
  });
  return { mode, batch, imageSize, classes, kept: kept.length, storage: planes[0]?.storage, shapes };
}

function hashOf(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}

const whole = z.int().nonnegative();
const schema = z.strictObject({
  format: z.literal(FORMAT),
  key: z.strictObject({
    cpu: z.string(),
    isa: z.string(),
    version: z.string(),
    products: z.string(),
    program: z.string(),
    threads: whole,
  }),
  of: z.strictObject({
    mode: z.enum(["train", "infer"]),
    batch: whole,
    image_size: whole,
    classes: whole,
    storage: z.enum(["f32", "bf16"]),
    parameters: whole,
  }),
  speedup: z.number().min(1).max(1000),
  portion: whole.optional(),
  products: z.enum(["dot", "unpack"]).optional(),
  /** [blockColumns, rowParts, runs] of each step. */
  cuts: z.array(z.tuple([whole, whole, whole])),
});

/** The file's content, or why it has none. */
function parsed(bytes: Buffer): z.infer<typeof schema> | string {
  if (bytes.length > MOST_BYTES) return "it is too long";
  try {
    return schema.parse(JSON.parse(bytes.toString("utf8")));
  } catch {
    return "it is damaged";
  }
}

/** Undefined where there is none that can be used. */
async function readTuning(
  { path, key }: TuningFile,
  warn: (what: string) => void,
  fits: (tuning: Tuning) => boolean,
): Promise<Kept | undefined> {
  const refuse = (why: string): undefined => {
    warn(`a kept tuning is passed over, ${why}: ${path}`);
  };
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    return errorCode(error) === "ENOENT" ? undefined : refuse("it cannot be read");
  }
  const read = parsed(bytes);
  if (typeof read === "string") return refuse(read);
  const names = Object.keys(key) as (keyof Key)[];
  if (names.some((name) => read.key[name] !== key[name]))
    return refuse("it is of another machine or network");
  const tuning: Tuning = {
    cuts: read.cuts.map(([blockColumns, rowParts, runs]) => ({ blockColumns, rowParts, runs })),
    portion: read.portion,
    products: read.products,
  };
  return fits(tuning) ? { tuning, speedup: read.speedup } : refuse("it does not fit the network");
}

/** @returns whether it was written; a folder that cannot be written is no reason to fail. */
async function writeTuning(
  { path, key, of }: TuningFile,
  { tuning, speedup }: Kept,
  warn: (what: string) => void,
): Promise<boolean> {
  const { cuts, portion, products } = tuning;
  const content: z.infer<typeof schema> = {
    format: FORMAT,
    key,
    of,
    speedup,
    portion,
    products,
    cuts: cuts.map(({ blockColumns, rowParts, runs }) => [blockColumns, rowParts, runs]),
  };
  try {
    await mkdir(join(path, ".."), { recursive: true });
    await replaceFile(path, [Buffer.from(`${JSON.stringify(content)}\n`)]);
    return true;
  } catch (error) {
    const why = error instanceof RiffleError ? error.problem.what : (errorCode(error) ?? String(error));
    warn(`the tuning is not kept: ${why}: ${path}`);
    return false;
  }
}
