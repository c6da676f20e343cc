/**
 * Joining the ranks that a launcher started: MPI is opened, started and compared with what the launcher said
 * (native/ranks has the other side).
 */

import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { inspect } from "node:util";

import { loadAddon, ranksError } from "../core/addon.js";
import { environment, setForLibraries } from "../core/environment.js";
import { DistributedError } from "../core/error.js";
import { type LaunchedRank, rankOfEnvironment } from "./rank-environment.js";
import { placeKeeper } from "./rank-files.js";
import { ALONE } from "./alone.js";
import { type JoinedRanks, phases, type RankPhase } from "./ranks.js";

/** What the addon offers (native/binding/ranks.cc). */
interface RanksAddon {
  joinRanks(
    library: string,
    family: string,
  ): Promise<{
    readonly rank: number;
    readonly size: number;
    readonly localRank: number;
    readonly localSize: number;
    readonly machines: number;
    readonly library: string;
  }>;
  gatherBytes(tag: string, bytes: Uint8Array, patient: boolean): Promise<Uint8Array[]>;
  setPlace(phase: number, step: number): void;
  setWatch(timeout: number, advice: string): void;
  stopping(): void;
  failing(): void;
  leave(code: number): never;
  closeRanks(): Promise<void>;
}

/** Phases in the words of the watch, where these differ. */
const doing: { readonly [P in RankPhase]?: string } = {
  loading: "waiting for pictures",
  exchanging: "exchanging gradients",
};

let joined: JoinedRanks | undefined;

/** The ranks that this process is joined with; undefined where it trains alone, or has left them. */
export function currentRanks(): JoinedRanks | undefined {
  return joined;
}

/** Whether threads of MPI may be waiting for other ranks. */
let isAmongRanks = false;

/**
 * The ranks that were started with this process; itself alone where no launcher started it, or started no other.
 *
 * @param patience seconds for the others to come, and in the end to leave: in MPI's own calls no watch looks after them
 * @throws ResourceError without the native engine, which speaks with MPI
 * @throws DistributedError where MPI is missing or is not the launcher's, or where others do not come
 */
export async function joinRanks(patience: number): Promise<JoinedRanks> {
  if (joined !== undefined) return joined;
  const launched = rankOfEnvironment();
  if (launched === undefined || launched.size === 1) return ALONE;
  const addon = loadAddon(`training with ${launched.size} ranks`) as RanksAddon;
  // UCX, which moves bytes for many MPI libraries, looks for changes of memory, and to try that out moves the end of the heap
  // up and down again (ucm's test of sbrk): what another thread has allocated meanwhile is gone. One start in 40 crashed.
  setForLibraries("UCX_MEM_EVENTS", "no");
  const library = environment("RIFFLE_MPI_LIBRARY") ?? "";
  const family = launched.launcher === "mpich" ? "mpich" : "openmpi";
  // Node says what it did not catch after the exit below.
  process.on("uncaughtExceptionMonitor", (error) => process.stderr.write(`${inspect(error)}\n`));
  // Whatever ends the process: threads that wait for other ranks do not hold it, and the launcher hears of it.
  process.on("exit", (code) => {
    if (isAmongRanks) addon.leave(code === 0 ? 7 : code);
  });
  isAmongRanks = true;
  const found = await within(patience, inWords(launched, addon.joinRanks(library, family)), () =>
    missing(launched, "have not come", patience, "Nothing was written"),
  );
  if (found.size !== launched.size || found.rank !== launched.rank) throw otherFamily(launched, found);
  const gather = (tag: string, bytes: Uint8Array, patient: boolean): Promise<Uint8Array[]> =>
    inWords(launched, addon.gatherBytes(tag, bytes, patient));
  const threads = await threadsOf(found, gather);
  const keep = placeKeeper();
  joined = {
    ...found,
    threads,
    gather: (tag, bytes, { patient = false } = {}) => gather(tag, bytes, patient),
    place: (phase, step) => {
      addon.setPlace(phases.indexOf(phase), step);
      keep(`step ${step.toLocaleString("en-US")}; last seen ${doing[phase] ?? phase}`);
    },
    watch: (timeout, advice) => addon.setWatch(timeout, advice),
    stopping: () => addon.stopping(),
    failing: () => addon.failing(),
    close: async () => {
      // Whoever goes first takes the shared memory along: nobody does before all are here.
      await gather("close", new Uint8Array(0), true);
      joined = undefined;
      await within(patience, addon.closeRanks(), () =>
        missing(launched, "do not leave", patience, "Training had ended, and its last checkpoint is whole"),
      );
      isAmongRanks = false;
    },
  };
  return joined;
}

/** @throws what `late` makes when the work takes longer than so many seconds */
async function within<T>(seconds: number, work: Promise<T>, late: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const isLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), seconds * 1000);
  });
  try {
    return await Promise.race([work, isLate]);
  } finally {
    clearTimeout(timer);
  }
}

function missing(
  { rank, size }: LaunchedRank,
  what: string,
  seconds: number,
  safe: string,
): DistributedError {
  return new DistributedError({
    what: `other ranks ${what}`,
    where: `rank ${rank} of ${size}`,
    expected: `all of them within ${seconds} s`,
    found: "one or more that do not answer",
    safe,
    hint: "See whether all processes run, and are not stopped; slow machines get more time with --rank_timeout",
  });
}

/** The cores that this process may use, shared equally among the ranks of this machine that may use the same ones. */
async function threadsOf(
  {
    rank,
    localRank,
    localSize,
  }: { readonly rank: number; readonly localRank: number; readonly localSize: number },
  gather: (tag: string, bytes: Uint8Array, patient: boolean) => Promise<Uint8Array[]>,
): Promise<number> {
  const all = (await gather("cores", Buffer.from(allowedCores()), true)).map((bytes) =>
    Buffer.from(bytes).toString(),
  );
  const first = rank - localRank;
  const alike = all.slice(first, first + localSize).filter((cores) => cores === all[rank]);
  return Math.max(1, Math.floor(availableParallelism() / alike.length));
}

/** As the kernel lists them: "0-3,8". Empty where it is not Linux. */
function allowedCores(): string {
  try {
    return /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "";
  } catch {
    return "";
  }
}

/** @throws DistributedError for what MPI refuses. */
async function inWords<T>({ rank, size }: LaunchedRank, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const where = `rank ${rank} of ${size}`;
    if (!(error instanceof Error) || !error.message.startsWith("no MPI library opens"))
      throw ranksError(error, { where });
    throw new DistributedError(
      {
        what: "the launcher's MPI library does not open",
        where,
        found: error.message,
        hint: "Install the library of the launcher on every machine: sudo apt-get install libopenmpi3 (Open MPI) or libmpich12 (MPICH)",
      },
      error,
    );
  }
}

/** Each process then believes to be alone, and all of them would train and write the same. */
function otherFamily(
  launched: LaunchedRank,
  found: { readonly rank: number; readonly size: number; readonly library: string },
): DistributedError {
  const launcher = { openmpi: "Open MPI's mpirun", mpich: "MPICH's mpiexec", slurm: "Slurm's srun" }[
    launched.launcher
  ];
  return new DistributedError({
    what: "the launcher and the MPI library are not of one family, or of two versions that do not speak with each other",
    where: `rank ${launched.rank} of ${launched.size}`,
    expected: `rank ${launched.rank} of ${launched.size}, as ${launcher} says`,
    found: `rank ${found.rank} of ${found.size}, as ${found.library} says`,
    safe: "Nothing was written",
    hint: "Start the ranks with the launcher of that library (npx riffle-vision launch --mpi openmpi or --mpi mpich), or install the launcher's own library",
  });
}
