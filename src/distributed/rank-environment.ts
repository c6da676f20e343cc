/**
 * Which rank of a launch this process is, as the variables of its launcher say it.
 *
 * Open MPI sets OMPI_COMM_WORLD_*, the MPICH family's Hydra PMI_* with MPI_LOCAL*, Slurm's srun PMI_* or PMIX_RANK with
 * SLURM_*. A launcher that sets none of them has started a process like any other.
 */

import { environment as environmentOfProcess, type EnvironmentVariable } from "../core/environment.js";
import { DistributedError } from "../core/error.js";

export interface LaunchedRank {
  /** From 0. */
  readonly rank: number;
  readonly size: number;
  /** Among the ranks of this machine, from 0; undefined where the launcher does not say. */
  readonly localRank: number | undefined;
  /** Ranks on this machine; undefined where the launcher does not say. */
  readonly localSize: number | undefined;
  readonly launcher: "openmpi" | "mpich" | "slurm";
}

/**
 * undefined for a process that no launcher started.
 *
 * @throws DistributedError where the variables contradict themselves: nobody knows then who this process is.
 */
export function rankOfEnvironment(
  environment: (name: EnvironmentVariable) => string | undefined = environmentOfProcess,
): LaunchedRank | undefined {
  if (environment("OMPI_COMM_WORLD_SIZE") !== undefined) {
    return checked("openmpi", {
      OMPI_COMM_WORLD_RANK: environment("OMPI_COMM_WORLD_RANK"),
      OMPI_COMM_WORLD_SIZE: environment("OMPI_COMM_WORLD_SIZE"),
      OMPI_COMM_WORLD_LOCAL_RANK: environment("OMPI_COMM_WORLD_LOCAL_RANK"),
      OMPI_COMM_WORLD_LOCAL_SIZE: environment("OMPI_COMM_WORLD_LOCAL_SIZE"),
    });
  }
  if (environment("PMI_RANK") !== undefined && environment("MPI_LOCALRANKID") !== undefined) {
    return checked("mpich", {
      PMI_RANK: environment("PMI_RANK"),
      PMI_SIZE: environment("PMI_SIZE"),
      MPI_LOCALRANKID: environment("MPI_LOCALRANKID"),
      MPI_LOCALNRANKS: environment("MPI_LOCALNRANKS"),
    });
  }
  // A step of Slurm: srun alone sets one of the first two, and its allocation the others even where no step is.
  const rank = environment("PMIX_RANK") ?? environment("PMI_RANK");
  if (rank === undefined) return undefined;
  if (environment("SLURM_STEP_NUM_TASKS") === undefined && environment("PMI_SIZE") === undefined) {
    return undefined;
  }
  const size = environment("PMI_SIZE") ?? environment("SLURM_STEP_NUM_TASKS");
  const local = tasksOfNode(environment("SLURM_STEP_TASKS_PER_NODE"), environment("SLURM_NODEID"));
  return checked(environment("SLURM_STEP_NUM_TASKS") === undefined ? "mpich" : "slurm", {
    "PMI_RANK or PMIX_RANK": rank,
    "PMI_SIZE or SLURM_STEP_NUM_TASKS": size,
    SLURM_LOCALID: environment("SLURM_LOCALID"),
    SLURM_STEP_TASKS_PER_NODE: local === undefined ? undefined : String(local),
  });
}

/** The rank of four variables in this order: rank, size, local rank, local size; the last two may be missing. */
function checked(
  launcher: LaunchedRank["launcher"],
  variables: Readonly<Record<string, string | undefined>>,
): LaunchedRank {
  const names = Object.keys(variables);
  const texts = Object.values(variables);
  const number = (i: number): number | undefined =>
    /^\d{1,7}$/.test(texts[i] ?? "") ? Number(texts[i]) : undefined;
  const [rank, size, localRank, localSize] = [number(0), number(1), number(2), number(3)];
  const isWhole = texts.every((text, i) => number(i) !== undefined || (i >= 2 && text === undefined));
  const isInside = (rank ?? 0) < (size ?? 0) && (localRank ?? 0) < (localSize ?? Infinity);
  if (isWhole && isInside && rank !== undefined && size !== undefined && (localSize ?? 1) <= size) {
    return { rank, size, localRank, localSize, launcher };
  }
  throw new DistributedError({
    what: "the launcher's variables do not say which rank this process is",
    where: `environment variables ${names.join(", ")}`,
    expected: "a rank from 0 below the number of ranks",
    found: names.map((name, i) => texts[i] ?? `no ${name}`).join(", "),
    safe: "Nothing was written",
    hint: "Start all ranks with one launcher, and unset what an earlier one left in the environment",
  });
}

/** Slurm counts tasks as "4(x2),1": 4 on each of the first two machines, 1 on the third. */
function tasksOfNode(list: string | undefined, node: string | undefined): number | undefined {
  let left = Number(node ?? "0");
  for (const part of (list ?? "").split(",")) {
    const [, tasks, times = "1"] = /^(\d+)(?:\(x(\d+)\))?$/.exec(part) ?? [];
    if (tasks === undefined) return undefined;
    left -= Number(times);
    if (left < 0) return Number(tasks);
  }
  return undefined;
}
