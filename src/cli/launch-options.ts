/** The options of `riffle launch` that say how ranks are started. */

import { environment } from "../core/environment.js";
import { UsageError } from "../core/error.js";
import {
  type HostSlots,
  placementOf,
  type Placement,
  placementOfTable,
  readHostList,
} from "../distributed/host-list.js";
import { readRankTable } from "../distributed/rank-table.js";
import { type Invocation, type OwnOptions, wholeNumber } from "./command.js";

export const ranksOptions: OwnOptions = {
  Ranks: {
    ranks: {
      value: "<n>",
      help: "processes that train together",
      default: "RANK_SIZE, else as many as the list or table of machines has places",
    },
    hosts: { value: "<file>", help: "machines to start them on: a line HOST slots=8 (or HOST:8) for each" },
    rank_table: {
      value: "<file>",
      help: "the same from a rank table in JSON",
      default: "RANK_TABLE_FILE",
    },
    mpi: {
      value: "<openmpi|mpich|path>",
      help: "which mpirun or mpiexec starts them",
      default: "the first on PATH",
    },
    max_restarts: {
      value: "<n>",
      help: "go on from the newest checkpoint so many times when a rank is lost",
      default: "0",
    },
  },
};

/** The value of --mpi. */
export function mpiWanted({ own }: Invocation): string | undefined {
  const wanted = own.get("mpi");
  return wanted === true ? undefined : wanted;
}

/** How many ranks, and where. @throws UsageError, DistributedError */
export async function placementWanted(invocation: Invocation): Promise<Placement> {
  const { own } = invocation;
  const [hosts, table] = [path(own.get("hosts")), path(own.get("rank_table"))];
  if (hosts !== undefined && table !== undefined) {
    throw new UsageError({
      what: "--hosts and --rank_table both say where the ranks run",
      where: "riffle launch",
      expected: "one of them",
      found: "both",
      safe: "Nothing was started",
    });
  }
  const tablePath = table ?? (hosts === undefined ? path(environment("RANK_TABLE_FILE")) : undefined);
  const listed =
    hosts !== undefined
      ? placementOf(await readHostList(hosts))
      : tablePath !== undefined
        ? placementOfTable(await readRankTable(tablePath), tablePath)
        : undefined;
  const ranks = ranksWanted(invocation, listed?.ranks);
  if (listed === undefined) return { ranks };
  if (ranks > listed.ranks) {
    throw new UsageError({
      what: `there are not places for ${ranks} ranks`,
      where: hosts ?? tablePath ?? "",
      expected: `at most ${listed.ranks}`,
      found: `--ranks ${ranks}`,
      safe: "Nothing was started",
      hint: "Give a machine more of them (slots=N), or start fewer ranks",
    });
  }
  return listed.hosts === undefined ? { ranks } : { ranks, hosts: taken(listed.hosts, ranks) };
}

/** @throws UsageError */
function ranksWanted(invocation: Invocation, listed: number | undefined): number {
  const ofEnvironment = environment("RANK_SIZE");
  if (!invocation.own.has("ranks") && ofEnvironment) {
    if (/^[1-9]\d{0,6}$/.test(ofEnvironment)) return Number(ofEnvironment);
    throw new UsageError({
      what: "RANK_SIZE is no number of ranks",
      where: "environment variable RANK_SIZE",
      expected: "a whole number from 1",
      found: JSON.stringify(ofEnvironment),
      safe: "Nothing was started",
    });
  }
  const ranks = wholeNumber(invocation, "ranks", listed ?? 0);
  if (ranks > 0) return ranks;
  throw new UsageError({
    what: "the number of ranks is not given",
    where: "riffle launch",
    expected: "--ranks N, or a list of machines that says it",
    found: "neither",
    safe: "Nothing was started",
    hint: "npx riffle-vision launch --ranks 8 -- train --data_dir data",
  });
}

/** The first places of the machines, as many as there are ranks. */
function taken(hosts: readonly HostSlots[], ranks: number): HostSlots[] {
  let left = ranks;
  return hosts.flatMap(({ host, slots }) => {
    const used = Math.min(left, slots);
    left -= used;
    return used > 0 ? [{ host, slots: used }] : [];
  });
}

function path(value: string | true | undefined): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
