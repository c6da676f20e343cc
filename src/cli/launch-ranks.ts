/**
 * Runs a command on several ranks to its end: starts them, hands signals on, prints for them, and says in one message what
 * ended them; goes on from the newest checkpoint where it may.
 */

import { existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { availableParallelism, constants, cpus } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

import { loadAddon } from "../core/addon.js";
import { childEnvironment, environment, variablesSet } from "../core/environment.js";
import { type Problem, RiffleError } from "../core/error.js";
import { shellWord } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";
import type { MpiLauncher } from "../distributed/find-mpi.js";
import { mpichMachinefile, openMpiHostfile, type Placement } from "../distributed/host-list.js";
import { coresOfRank, launchArguments, type RankPlaces } from "../distributed/launch-command.js";
import { type RanksEnd, type RanksListener, startRanks } from "../distributed/launcher.js";
import {
  type AddLine,
  endKept,
  forgetPlaces,
  lastPlace,
  launcherLogFile,
  openLog,
} from "../distributed/rank-files.js";
import type { RankFailure } from "../distributed/rank-messages.js";
import { listSteps } from "../run/checkpoint.js";
import { newestValid } from "../run/find-checkpoint.js";
import { reportError } from "./report-error.js";
import { titled } from "./report-run.js";
import { hearSignals } from "./stop.js";
import type { Terminal } from "./terminal.js";

export interface RanksJob {
  readonly mpi: MpiLauncher;
  readonly placement: Placement;
  /** The run's folder; what is said of checkpoints is of this one. */
  readonly run: string;
  /** What every rank is to do: a command line of ours. */
  readonly command: readonly string[];
  /** The same, going on with what was saved; undefined where it cannot. */
  readonly resumed: readonly string[] | undefined;
  /** The command that goes on, to be pasted. */
  readonly goOn: string;
  /** How often it may go on by itself. */
  readonly restarts: number;
}

/** Variables that ranks on other machines need as they are here, where they are set. */
const FORWARDED = [
  "RIFFLE_LAUNCH",
  "RIFFLE_TERMINAL",
  "RIFFLE_BACKEND",
  "RIFFLE_ISA",
  "RIFFLE_MPI_LIBRARY",
  "UV_THREADPOOL_SIZE",
  "XDG_CACHE_HOME",
  "TERM",
  "NO_COLOR",
  "JOB_ID",
  "NODE_OPTIONS",
  "PATH",
  "LD_LIBRARY_PATH",
] as const;

/** After these a run goes on as it was: a bug, the machine, a lost rank. The others' reasons stay. */
const PASSING: ReadonlySet<number> = new Set([1, 6, 7]);

/**
 * @returns the exit code; what went wrong has been printed
 * @throws ResourceError where the ranks are to run here, and the engine that they need is not there
 */
export async function runRanks(job: RanksJob, terminal: Terminal): Promise<number> {
  const { ranks, hosts } = job.placement;
  if (ranks > 1 && hosts === undefined) loadAddon(`training with ${ranks} ranks`);
  const folder = `${job.run}.ranks`;
  mkdirSync(folder, { recursive: true });
  terminal.keepGoing();
  terminal.note(titled("Launch", launchWords(job, folder)));
  const log = openLog(launcherLogFile(folder), (reason) => terminal.warn(reason));
  let command = job.command;
  for (let restart = 1; ; restart++) {
    const attempt = await oneAttempt(job, command, folder, log, terminal);
    if ("code" in attempt) return attempt.code;
    const { error } = attempt;
    const again = restart <= job.restarts && PASSING.has(error.exitCode) ? await nextCommand(job) : undefined;
    if (again === undefined) return reportError(error, terminal, false);
    const { what, where } = error.problem;
    terminal.emit({ event: "restart", restart, of: job.restarts, what, from: again.from });
    terminal.note(
      titled(
        "Restart",
        `${restart} of ${job.restarts}: ${where === undefined ? "" : `${where}: `}${what}; ${again.words}`,
      ),
    );
    log(`restart ${restart} of ${job.restarts}: ${again.words}`);
    command = again.command;
  }
}

/** An end that needs no words, or the failure. */
type Attempt = { readonly code: number } | { readonly error: RiffleError };

async function oneAttempt(
  job: RanksJob,
  command: readonly string[],
  folder: string,
  log: AddLine,
  terminal: Terminal,
): Promise<Attempt> {
  const listener = new Listener(terminal, log);
  forgetPlaces(folder, job.placement.ranks);
  const ranks = startRanks(mpirun(job, command, folder, log, terminal), listener);
  let asked = 0;
  let signal = 0;
  const signals = hearSignals((code) => {
    signal ||= code;
    asked++;
    if (asked === 1) ranks.stop();
    else ranks.kill();
  });
  try {
    const end = await ranks.ended;
    listener.endLine();
    if (asked > 1) {
      const kept = await lastCheckpoint(job.run);
      terminal.note(`Ended at once. ${kept === undefined ? "Nothing had been saved" : `Saved is ${kept}`}.`);
      return { code: signal };
    }
    const isWell = end.first === undefined && end.verdict === undefined && !end.killed;
    const codes = Array.from({ length: job.placement.ranks }, (_, rank) => codeOf(end, rank, folder));
    if (isWell && codes.every((code) => code === 0 || code > 128)) {
      // Rank 0 says with its code that the ranks were stopped: by us, or by a signal that reached them otherwise.
      const [first = 0] = codes;
      return { code: first === 0 ? 0 : signal || first };
    }
    const { code, ...problem } = problemOf(job, end, folder);
    // Nobody of ours has said why; what others printed may tell.
    if (problem.what !== end.verdict && !hasFailed(end)) {
      for (const line of listener.telling()) terminal.note(`${basename(job.mpi.path)}: ${line}`);
    }
    return { error: new RiffleError(code, { ...(await advice(job, folder)), ...problem }) };
  } finally {
    signals.release();
  }
}

/** Prints what rank 0 prints, and knows whether a line is still open when something else is to be said. */
class Listener implements RanksListener {
  readonly #others: string[] = [];
  #isOpen = false;

  constructor(
    private readonly terminal: Terminal,
    private readonly log: AddLine,
  ) {}

  output(to: "stdout" | "stderr", text: string): void {
    this.terminal.relay(to, text);
    if (to === "stderr" && text !== "") this.#isOpen = !text.endsWith("\n");
  }

  warned(line: string): void {
    this.endLine();
    this.terminal.warn(line);
  }

  said(line: string): void {
    this.log(line);
    if (this.#others.length < MOST_LINES && !BANNERS.some((banner) => banner.test(line)))
      this.#others.push(line);
  }

  /** What mpirun and others printed, in a few lines: those that speak of an error where there are any. */
  telling(): readonly string[] {
    const errors = this.#others.filter((line) =>
      /error|fatal|abort|fail|cannot|could not|denied|refused/i.test(line),
    );
    return (errors.length > 0 ? errors : this.#others).slice(0, TOLD);
  }

  /** What is drawn over itself leaves the cursor behind it. */
  endLine(): void {
    if (this.#isOpen) this.terminal.relay("stderr", "\n");
    this.#isOpen = false;
  }
}

/** Lines of others that are kept; all of them are in the log. */
const MOST_LINES = 1000;
const TOLD = 6;

/** What launchers print of any end that is not theirs. */
const BANNERS = [
  /^[-=]{20,}$/,
  /^=   /,
  /^Primary job  ?terminated normally|^a non-zero exit code\. Per user-direction/,
  /^\S+ (?:noticed that process rank|detected that one or more processes exited)/,
  /^(?:signal \d+ \(.*\)\.|the job to be terminated\. The first process|thus causing the job to be terminated)/,
  /^ +(?:Process name|Exit code): /,
  /^YOUR APPLICATION TERMINATED WITH|^This typically refers to a problem with your application/,
  /^Please see the FAQ page for debugging suggestions/,
  // The words of a shell whose program a signal has ended.
  /^(?:Killed|Aborted|Terminated|Segmentation fault|Bus error|Hangup)(?: \(core dumped\))?$/,
  // The verdict of a rank's watch, which is told in our own message.
  /^riffle: rank \d+ |^  All ranks were ended\./,
];

function mpirun(
  { mpi, placement }: RanksJob,
  command: readonly string[],
  folder: string,
  log: AddLine,
  terminal: Terminal,
): Parameters<typeof startRanks>[0] {
  const program = fileURLToPath(new URL("./main.js", import.meta.url));
  const { hosts } = placement;
  const hostFile = hosts === undefined ? undefined : join(folder, "hosts");
  if (hosts !== undefined && hostFile !== undefined) {
    writeFileSync(hostFile, mpi.family === "openmpi" ? openMpiHostfile(hosts) : mpichMachinefile(hosts));
  }
  const argv = launchArguments(
    mpi,
    { ...places(placement), hostFile },
    variablesSet(FORWARDED, ["RIFFLE_LAUNCH", "RIFFLE_TERMINAL"]),
    [process.execPath, ...process.execArgv, program, ...command],
  );
  log(`${new Date().toISOString()}: ${[mpi.path, ...argv].map(shellWord).join(" ")}`);
  return {
    path: mpi.path,
    argv,
    ranks: placement.ranks,
    word: program,
    environment: childEnvironment({ RIFFLE_LAUNCH: folder, RIFFLE_TERMINAL: terminal.columns.join(" ") }),
  };
}

/** Hardware threads are shared out where all ranks are here, and all of this machine may be used. */
function places({ ranks, hosts }: Placement): Omit<RankPlaces, "hostFile"> {
  const isHere = hosts === undefined && environment("SLURM_JOB_ID") === undefined;
  const cores = availableParallelism();
  return { ranks, cores: isHere && cores === cpus().length ? cores : undefined };
}

/** "8 ranks by /usr/bin/mpirun (Open MPI 4.1.4), 2 cores each · logs model_1p.ranks/" */
function launchWords({ mpi, placement }: RanksJob, folder: string): string {
  const { ranks, hosts } = placement;
  const cores = coresOfRank({ ...places(placement), hostFile: undefined });
  const machines = hosts === undefined ? "" : ` on ${hosts.length} machines`;
  const bound = cores === undefined ? "not bound to cores" : `${cores} core${cores === 1 ? "" : "s"} each`;
  return (
    `${ranks} rank${ranks === 1 ? "" : "s"}${machines} by ${mpi.path} (${mpi.name} ${mpi.version}), ${bound} · ` +
    `logs ${shortPath(folder)}/`
  );
}

/** What a rank ended with, as it said or kept; NaN where nobody knows. */
function codeOf({ ranks, code }: RanksEnd, rank: number, folder: string): number {
  const state = ranks.get(rank);
  return state?.ended ?? endKept(folder, rank) ?? (state !== undefined && code === 0 ? 0 : NaN);
}

function hasFailed(end: RanksEnd): boolean {
  return [...end.ranks.values()].some(({ failure }) => failure !== undefined);
}

/** What ended the ranks, of all that is known the first cause, and its exit code. */
function problemOf(job: RanksJob, end: RanksEnd, folder: string): RankFailure {
  const { ranks } = job.placement;
  const failures = [...end.ranks].flatMap(([rank, { failure }]) =>
    failure === undefined ? [] : [{ rank, failure }],
  );
  // Who lost another says so; why the other was lost is the better answer.
  const cause = failures.find(({ failure }) => failure.code !== 7) ?? failures[0];
  if (cause !== undefined) return ofRank(cause.rank, cause.failure);

  const first = end.first === undefined ? undefined : end.ranks.get(end.first);
  const [, lost, lastSeen] = /^rank (\d+) is gone \((.*)\)$/.exec(end.verdict ?? "") ?? [];
  if (end.verdict !== undefined && (lost === undefined || first === undefined)) {
    return { code: 7, what: end.verdict };
  }
  if (first === undefined || end.first === undefined) {
    const began = end.ranks.size;
    const after = began < ranks ? `${began} of ${ranks} ranks had begun` : "all ranks had begun";
    return { code: 7, what: `${job.mpi.path} ended ${byWhat(end.code)}; ${after}` };
  }
  const { status = 0, host } = first;
  const place = lost === String(end.first) ? lastSeen : lastPlace(folder, end.first);
  const seen = place === undefined ? "" : ` (${place})`;
  const here = job.placement.hosts === undefined || host === undefined ? "" : ` on ${host}`;
  if (status <= 128) {
    return {
      code: status >= 1 && status <= 7 ? status : 7,
      what: `rank ${end.first}${here} ended with exit code ${status} without a word${seen}`,
    };
  }
  return {
    code: 7,
    what: `rank ${end.first}${here} was ended ${byWhat(status)}${place === undefined ? "" : ` (${place})`}`,
  };
}

/** "by signal 9 (SIGKILL, ...)", "with exit code 3" */
function byWhat(status: number): string {
  const number = status - 128;
  const [name] = Object.entries(constants.signals).find(([, value]) => value === number) ?? [];
  if (name === undefined) return `with exit code ${status}`;
  return `by signal ${number}, ${name}${name === "SIGKILL" ? ", which the system sends too when memory runs out" : ""}`;
}

/** A failure that befell one rank names it; one of rank 0 is most often everybody's. */
function ofRank(rank: number, failure: RankFailure): RankFailure {
  if (rank === 0) return failure;
  const where = [`rank ${rank}`, failure.where].filter(Boolean).join(", ");
  return { ...failure, where };
}

/** What is safe and how to go on, for failures that do not say it themselves. */
async function advice(job: RanksJob, folder: string): Promise<Pick<Problem, "safe" | "hint">> {
  const kept = await lastCheckpoint(job.run);
  if (kept !== undefined) {
    return {
      safe: `All ranks were ended. The last checkpoint is whole: ${kept}`,
      hint: `Go on: ${job.goOn}`,
    };
  }
  const logs = join(shortPath(folder), "rank-*.log");
  return { safe: "All ranks were ended; nothing had been saved", hint: `What each rank printed: ${logs}` };
}

/** The path of the newest whole checkpoint; undefined where there is none. */
async function lastCheckpoint(run: string): Promise<string | undefined> {
  try {
    return shortPath((await newestValid(run)).checkpoint.path);
  } catch {
    return undefined;
  }
}

interface Again {
  readonly command: readonly string[];
  /** The checkpoint; null where all begins anew. */
  readonly from: string | null;
  readonly words: string;
}

/** How to go on after a failure; undefined where that cannot be. */
async function nextCommand({ run, command, resumed }: RanksJob): Promise<Again | undefined> {
  const kept = await lastCheckpoint(run);
  if (kept !== undefined) {
    return resumed === undefined
      ? undefined
      : { command: resumed, from: kept, words: `going on from ${kept}` };
  }
  // Checkpoints that are all damaged are for somebody to look at.
  if ((await listSteps(run).catch(() => [])).length > 0) return undefined;
  const begun = existsSync(join(run, "recipe.json")) ? asideOf(run) : undefined;
  if (begun !== undefined) renameSync(run, begun);
  const moved = begun === undefined ? "" : `; what there was is now ${shortPath(begun)}`;
  return { command, from: null, words: `nothing was saved, so it begins anew${moved}` };
}

function asideOf(run: string): string {
  let aside = `${run}.begun`;
  for (let n = 2; existsSync(aside); n++) aside = `${run}.begun-${n}`;
  return aside;
}
