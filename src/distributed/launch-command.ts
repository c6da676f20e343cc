/**
 * The command line of `mpirun` or `mpiexec` that starts the ranks, in each family's words.
 *
 * Ranks that share one machine are bound, each to as many neighbouring hardware threads as it gets; where there are more
 * ranks than those, they are not bound and the launcher is told that it is meant so. On several machines nothing is known
 * of their cores, and nothing is bound.
 *
 * Around each rank stands a shell, so that what ended the rank is told by its own machine: a launcher has one exit code for
 * all, and Hydra may name a rank that it ended itself.
 */

import type { MpiLauncher } from "./find-mpi.js";
import { statusLine } from "./rank-messages.js";

export interface RankPlaces {
  readonly ranks: number;
  /** Hardware threads of this machine to share; undefined where the ranks may run elsewhere, or not on all of it. */
  readonly cores: number | undefined;
  /** A list of machines in the launcher's form; undefined for this machine, or what a batch system allotted. */
  readonly hostFile: string | undefined;
}

/** To how many hardware threads each rank is bound; undefined where none is. */
export function coresOfRank({ ranks, cores = 0 }: RankPlaces): number | undefined {
  return ranks <= cores ? Math.floor(cores / ranks) : undefined;
}

/**
 * @param variables names of variables of this environment that ranks on other machines need too
 * @param program what every rank runs
 */
export function launchArguments(
  mpi: MpiLauncher,
  places: RankPlaces,
  variables: readonly string[],
  program: readonly string[],
): string[] {
  const options = mpi.family === "openmpi" ? openMpiOptions : hydraOptions;
  const number = ["-n", String(places.ranks)];
  return [...number, ...options(mpi, places, variables), "sh", "-c", SHELL, RANK_SHELL, ...program];
}

/** What the shells of ranks are called, by which they are found among processes. */
export const RANK_SHELL = "riffle-rank";

/**
 * Hears what its rank hears, without ending of it; the rank ends, and then this does, with its status. A rank that a
 * signal ended has 128 and the signal's number, as everywhere in shells.
 */
const SHELL = [
  "trap : HUP INT TERM USR1",
  '"$@"',
  "status=$?",
  // Open MPI may stop to listen when it hears of the end; what was said last is given time to arrive.
  `[ $status = 0 ] || { ${statusLine('"${OMPI_COMM_WORLD_RANK:-$PMI_RANK}"', "$status")} >&2; sleep 0.2; }`,
  "exit $status",
].join("\n");

/** Seconds between SIGTERM and SIGKILL when somebody ends mpirun itself: more than a step and a save take. */
const KILL_SECONDS = 60;

function openMpiOptions(mpi: MpiLauncher, places: RankPlaces, variables: readonly string[]): string[] {
  const bound = coresOfRank(places);
  const isOld = Number.parseInt(mpi.version) < 5;
  const placing = isOld
    ? bound === undefined
      ? ["--oversubscribe"]
      : ["--use-hwthread-cpus", "--map-by", `slot:PE=${bound}`]
    : ["--map-by", bound === undefined ? ":OVERSUBSCRIBE" : `slot:PE=${bound}:HWTCPUS`];
  return [
    // Refused without it, also in a container, where root is the usual user.
    ...(process.getuid?.() === 0 ? ["--allow-run-as-root"] : []),
    ...placing,
    ...["--bind-to", bound === undefined ? "none" : "hwthread"],
    // Open MPI 5 has no such parameter: it ends ranks within a second.
    ...(isOld ? ["--mca", "odls_base_sigkill_timeout", String(KILL_SECONDS)] : []),
    ...(places.hostFile === undefined ? [] : ["--hostfile", places.hostFile]),
    ...variables.flatMap((name) => ["-x", name]),
  ];
}

/** Hydra hands the whole environment on by itself. */
function hydraOptions(mpi: MpiLauncher, places: RankPlaces): string[] {
  const bound = coresOfRank(places);
  const isIntel = mpi.name === "Intel MPI";
  return [
    // Intel's binds by itself, to single cores even where there are too few, and takes no -bind-to.
    ...(isIntel
      ? bound === undefined
        ? ["-genv", "I_MPI_PIN", "0"]
        : []
      : ["-bind-to", bound === undefined ? "none" : `hwthread:${bound}`]),
    ...(places.hostFile === undefined ? [] : ["-f", places.hostFile]),
  ];
}
