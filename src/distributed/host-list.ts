/**
 * Which machine takes how many neighbouring ranks, from a rank table or a list that a user wrote, and the files in which
 * Open MPI and MPICH want to be told.
 *
 *     # a user's list: either spelling, # begins a comment, no number means one rank
 *     node-1 slots=8
 *     node-2:8
 *
 * Both launchers number ranks host by host. A rank runs neighbouring shards, and machines that take neighbouring ranks
 * add most of their gradients inside, so a table that deals ranks out in turn is refused rather than numbered anew.
 */

import { isIP } from "node:net";

import { DataError, DistributedError, errorCode, isOfThePath } from "../core/error.js";
import { quoted } from "../formats/plain-name.js";
import { linesOf, plainText } from "../formats/plain-text.js";
import { readWhole } from "../formats/read-file.js";
import { isHost, isOn, type Machine, thisMachine } from "./host-name.js";
import type { RankTable } from "./rank-table.js";

export interface HostSlots {
  readonly host: string;
  /** Ranks that it takes, one after the other. */
  readonly slots: number;
}

/** Where ranks run, the first rank first. */
export interface Placement {
  readonly ranks: number;
  /** Absent where all run on this machine, for which no launcher needs a file. */
  readonly hosts?: readonly HostSlots[];
}

/**
 * Where the ranks of a table run. Of a table with one server this is that server, whatever it is called there: nothing
 * could be started on it from elsewhere that is not started here.
 *
 * @throws DistributedError where a server's ranks are not neighbours.
 */
export function placementOfTable(
  { servers, size }: RankTable,
  where: string,
  machine: Machine = thisMachine(),
): Placement {
  if (servers.length === 1) return { ranks: size };
  const hosts = servers.map(({ id, devices }) => ({ host: id, slots: devices.length }));
  const placement = placementOf(hosts, machine);
  if (placement.hosts === undefined) return placement;
  for (const { id, devices } of servers) {
    const ranks = devices.map(({ rank }) => rank);
    const at = ranks.findIndex((rank, i) => i > 0 && rank !== (ranks[i - 1] as number) + 1);
    if (at < 0) continue;
    throw new DistributedError({
      what: `the ranks of server ${quoted(id)} are not neighbours`,
      where,
      expected: `rank ${(ranks[at - 1] as number) + 1} behind rank ${ranks[at - 1]}, since MPI numbers ranks host by host`,
      found: `rank ${ranks[at]}`,
      safe: SAFE,
      hint: "Number the ranks server by server",
    });
  }
  return placement;
}

/** Where the ranks of a list run. */
export function placementOf(hosts: readonly HostSlots[], machine: Machine = thisMachine()): Placement {
  const ranks = hosts.reduce((sum, { slots }) => sum + slots, 0);
  return hosts.every(({ host }) => isOn(machine, host)) ? { ranks } : { ranks, hosts };
}

/** A user's list of hosts. @throws DistributedError with file, line, what was expected and what was found. */
export async function readHostList(path: string): Promise<HostSlots[]> {
  try {
    return parseHostList(await readWhole(path, MAX_BYTES), path);
  } catch (error) {
    if (error instanceof DataError) throw new DistributedError({ ...error.problem, safe: SAFE }, error);
    if (!isOfThePath(error)) throw error;
    const what = `the list of hosts cannot be read: ${errorCode(error)}`;
    throw new DistributedError({ what, where: path, safe: SAFE }, error);
  }
}

/** @throws DistributedError */
export function parseHostList(bytes: Uint8Array, where: string): HostSlots[] {
  const refuse = (what: string, at: string, expected: string, found: string): never => {
    throw new DistributedError({ what, where: at, expected, found, safe: SAFE });
  };
  const text = plainText(bytes);
  if (text === undefined) return refuse("the list of hosts is no text", where, "UTF-8 text", "other bytes");
  const hosts = new Map<string, number>();
  let last = "";
  for (const [i, line] of linesOf(text).entries()) {
    const at = `${where}, line ${i + 1}`;
    const entry = line.replace(/#.*/, "").trim();
    if (entry === "") continue;
    const { host, slots } = parseEntry(entry) ?? refuse("this is no host", at, FORMS, quoted(entry));
    if (hosts.has(host) && host !== last) {
      refuse(
        "a host is named again behind others",
        at,
        `all ranks of ${host} on neighbouring lines`,
        quoted(entry),
      );
    }
    hosts.set(host, (hosts.get(host) ?? 0) + slots);
    last = host;
  }
  if (hosts.size === 0) refuse("the list of hosts names none", where, FORMS, "nothing");
  return [...hosts].map(([host, slots]) => ({ host, slots }));
}

/** `HOST`, `HOST slots=N` or `HOST:N`; an address of IPv6 before a colon and a number stands in square brackets. */
function parseEntry(entry: string): HostSlots | undefined {
  const [, name = "", spelled] = /^(\S+)\s+slots\s*=\s*([1-9]\d{0,5})$/.exec(entry) ?? [];
  const [, bracketed, short = "", colon] = /^(?:\[(.+)\]|([^:\s]+))(?::([1-9]\d{0,5}))?$/.exec(entry) ?? [];
  const host = spelled !== undefined ? name : (bracketed ?? (short === "" ? entry : short));
  if (!isHost(host) || (bracketed !== undefined && isIP(bracketed) !== 6)) return undefined;
  return { host, slots: Number(spelled ?? colon ?? 1) };
}

/** A file for `mpirun --hostfile` of Open MPI. */
export function openMpiHostfile(hosts: readonly HostSlots[]): string {
  return hosts.map(({ host, slots }) => `${host} slots=${slots}\n`).join("");
}

/** A file for `mpiexec -f` of MPICH. @throws DistributedError for what it cannot say. */
export function mpichMachinefile(hosts: readonly HostSlots[]): string {
  const other = hosts.find(({ host }) => host.includes(":"));
  if (other !== undefined) {
    throw new DistributedError({
      what: "MPICH's list of hosts ends a name at its first colon",
      where: `host ${other.host}`,
      expected: "a host name or an IPv4 address",
      found: "an IPv6 address",
      safe: SAFE,
      hint: "Name the machine, or use Open MPI",
    });
  }
  return hosts.map(({ host, slots }) => `${host}:${slots}\n`).join("");
}

/** 10,000 machines take 200 KB. */
const MAX_BYTES = 16 * 2 ** 20;
const SAFE = "Nothing was started or written";
const FORMS = "HOST, HOST slots=8 or HOST:8";
