/**
 * RANK_TABLE_FILE: which rank runs on which device of which machine, in the two forms that clusters write.
 *
 *     {"status": "completed", "version": "1.0", "server_count": "1", "server_list": [
 *       {"server_id": "10.0.0.1", "device": [{"device_id": "0", "device_ip": "192.168.1.8", "rank_id": "0"}]}]}
 *
 *     {"status": "completed", "group_count": "1", "group_list": [
 *       {"group_name": "worker", "device_count": "1", "instance_count": "1", "instance_list": [
 *         {"pod_name": "worker-0", "server_id": "10.0.0.1", "devices": [{"device_id": "0", "device_ip": "192.168.1.8"}]}]}]}
 *
 * Every value is a string. In the second form, the older one, ranks are numbered in the order of the devices, and several
 * instances (pods) may be on one server. What is counted must be there; members that name something of an NPU's network
 * alone, such as host_nic_ip, are not looked at, and neither is whether two devices share an address.
 */

import { isIP } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

import { DataError, DistributedError, errorCode, isOfThePath } from "../core/error.js";
import { quoted } from "../formats/plain-name.js";
import { readWhole } from "../formats/read-file.js";
import { type Json, parseStrictJson } from "../formats/strict-json.js";
import { isHost } from "./host-name.js";

export interface RankTable {
  /** In the order of their first ranks. */
  readonly servers: readonly Server[];
  /** Number of ranks, which are 0 .. size - 1. */
  readonly size: number;
}

export interface Server {
  /** A host name or an IP address, of this server alone. */
  readonly id: string;
  /** In the order of their ranks. */
  readonly devices: readonly Device[];
}

export interface Device {
  readonly id: number;
  readonly ip: string;
  readonly rank: number;
}

interface ReadOptions {
  /** Seconds for which a table that says "initializing" is waited for; 120, what HCCL_CONNECT_TIMEOUT is unless set. */
  readonly wait?: number;
  readonly signal?: AbortSignal;
}

/**
 * Reads a table; while its status is "initializing", again every second.
 *
 * @throws DistributedError with file, place, what was expected and what was found; the signal's reason.
 */
export async function readRankTable(
  path: string,
  { wait = 120, signal }: ReadOptions = {},
): Promise<RankTable> {
  const begun = performance.now();
  for (let again = false; ; again = true) {
    const late = performance.now() - begun >= 1000 * wait;
    try {
      const table = parseRankTable(await readWhole(path, MAX_BYTES), path);
      if (table !== "initializing") return table;
      if (late) throw stillInitialising(path, wait);
    } catch (error) {
      // A table that is being written may be met half written, but only a table that was whole is being written.
      if (!again || late) throw ofTheTable(path, error);
    }
    await sleep(Math.min(1000, 1000 * wait), undefined, { signal }).catch(() => signal?.throwIfAborted());
  }
}

/** @throws DistributedError, DataError where it is no JSON. */
export function parseRankTable(bytes: Uint8Array, where: string): RankTable | "initializing" {
  const table = new Value(parseStrictJson(bytes, where), "", where);
  const status = table.member("status").text();
  if (status === "initializing") return status;
  if (status !== "completed") table.member("status").refuse(`"completed" or "initializing"`);
  const form = table.oneOf(["server_list", "group_list"]);
  return inRankOrder(form === "server_list" ? serverList(table) : groupList(table));
}

/** A device with what its table calls it, so that what is wrong about it has a place. */
interface Found extends Device {
  readonly server: string;
  readonly place: Value;
}

/** Version "1.0". */
function serverList(table: Value): Found[] {
  const version = table.member("version");
  if (version.text() !== "1.0") version.refuse(`"1.0"`);
  const servers = table.member("server_list").list();
  table.member("server_count").counts(servers.length, "server_list");
  const seen = new Map<string, Value>();
  const devices = servers.flatMap((server) => {
    const place = server.member("server_id");
    const id = place.host();
    const other = seen.get(id);
    if (other !== undefined)
      place.refuse("a server_id of its own for each server", `${quoted(id)}, as in ${other.path}`);
    seen.set(id, place);
    return server
      .member("device")
      .list()
      .map((device) => {
        const rank = device.member("rank_id");
        return { server: id, rank: rank.wholeNumber(), place: rank, ...identity(device) };
      });
  });
  refuseGaps(devices);
  return devices;
}

function groupList(table: Value): Found[] {
  const groups = table.member("group_list").list();
  table.member("group_count").counts(groups.length, "group_list");
  let rank = 0;
  return groups.flatMap((group) => {
    const instances = group.member("instance_list").list();
    group.member("instance_count").counts(instances.length, "instance_list");
    const devices = instances.flatMap((instance) => {
      const server = instance.member("server_id").host();
      const list = instance.member("devices").list();
      return list.map((device) => ({ server, rank: rank++, place: device, ...identity(device) }));
    });
    group.member("device_count").counts(devices.length, "devices of its instances");
    return devices;
  });
}

function identity(device: Value): Pick<Device, "id" | "ip"> {
  return { id: device.member("device_id").wholeNumber(), ip: device.member("device_ip").address() };
}

/** Every rank from 0 to one below the number of devices, once. */
function refuseGaps(devices: readonly Found[]): void {
  const places = new Map<number, Value>();
  for (const { rank, place } of devices) {
    const other = places.get(rank);
    if (other !== undefined)
      place.refuse("a rank of its own for each device", `"${rank}", as in ${other.path}`);
    places.set(rank, place);
  }
  for (const { rank, place } of devices) {
    if (rank < devices.length) continue;
    const missing = devices.findIndex((_, i) => !places.has(i));
    const expected = `ranks 0 .. ${devices.length - 1}, one for each of ${devices.length} devices`;
    place.refuse(expected, `"${rank}", and no rank ${missing}`);
  }
}

function inRankOrder(found: readonly Found[]): RankTable {
  const servers = new Map<string, Map<number, Found>>();
  for (const device of found.toSorted((a, b) => a.rank - b.rank)) {
    const devices = servers.get(device.server) ?? new Map<number, Found>();
    const other = devices.get(device.id);
    if (other !== undefined) {
      const twice = `device_id "${device.id}", as in ${other.place.path}`;
      device.place.refuse(`another device of server ${quoted(device.server)}`, twice);
    }
    devices.set(device.id, device);
    servers.set(device.server, devices);
  }
  return {
    servers: [...servers].map(([id, devices]) => ({
      id,
      devices: [...devices.values()].map(({ id, ip, rank }) => ({ id, ip, rank })),
    })),
    size: found.length,
  };
}

/** A value of the table and where in it: `server_list[1].device[0].rank_id`. */
class Value {
  readonly path: string;
  readonly #value: Json | undefined;
  readonly #where: string;

  constructor(value: Json | undefined, path: string, where: string) {
    this.#value = value;
    this.path = path;
    this.#where = where;
  }

  member(name: string): Value {
    if (!(this.#value instanceof Map)) return this.refuse("an object");
    const members = this.#value as ReadonlyMap<string, Json>;
    return new Value(members.get(name), this.path === "" ? name : `${this.path}.${name}`, this.#where);
  }

  /** Which of two members there is; not both. */
  oneOf(names: readonly [string, string]): string {
    const there = names.filter((name) => this.member(name).#value !== undefined);
    if (there.length !== 1) this.refuse(names.join(" or "), there.length === 2 ? "both" : "neither");
    return there[0] as string;
  }

  /** An array with something in it. */
  list(): Value[] {
    if (!Array.isArray(this.#value)) return this.refuse("an array");
    const values = this.#value as readonly Json[];
    if (values.length === 0) this.refuse("at least one element");
    return values.map((value, i) => new Value(value, `${this.path}[${i}]`, this.#where));
  }

  text(): string {
    return typeof this.#value === "string" ? this.#value : this.refuse("a string in quotes");
  }

  wholeNumber(): number {
    const expected = `a whole number in quotes, such as "0"`;
    const text = typeof this.#value === "string" ? this.#value : this.refuse(expected);
    return /^(?:0|[1-9]\d{0,8})$/.test(text) ? Number(text) : this.refuse(expected);
  }

  host(): string {
    return isHost(this.text()) ? this.text() : this.refuse("a host name or an IP address");
  }

  address(): string {
    return isIP(this.text()) !== 0 ? this.text() : this.refuse("an IP address");
  }

  /** Holds this number, which is how many there are of something. */
  counts(number: number, what: string): void {
    if (this.wholeNumber() !== number) this.refuse(`"${number}", the number of ${what}`);
  }

  refuse(expected: string, found = describe(this.#value)): never {
    throw new DistributedError({
      what: "the rank table is wrong",
      where: this.path === "" ? this.#where : `${this.#where}, ${this.path}`,
      expected,
      found,
      safe: SAFE,
    });
  }
}

function describe(value: Json | undefined): string {
  if (value === undefined) return "nothing";
  if (typeof value === "string") return quoted(value);
  if (value instanceof Map) return "an object";
  if (Array.isArray(value)) return value.length === 0 ? "an empty array" : "an array";
  return JSON.stringify(value);
}

function stillInitialising(path: string, seconds: number): DistributedError {
  return new DistributedError({
    what: `the rank table was not completed within ${seconds} s`,
    where: `${path}, status`,
    expected: `"completed"`,
    found: `"initializing"`,
    safe: SAFE,
    hint: "Look at what writes the table: it waits for a machine, or is not running",
  });
}

/** The failure to read a table, as one of ranks. */
function ofTheTable(path: string, error: unknown): unknown {
  if (error instanceof DataError) {
    const hint =
      error.problem.hint ?? "A rank table is JSON; both of its forms are shown in docs/clusters.md";
    return new DistributedError({ ...error.problem, safe: SAFE, hint }, error);
  }
  if (!isOfThePath(error)) return error;
  return new DistributedError(
    {
      what: `the rank table cannot be read: ${errorCode(error)}`,
      where: path,
      safe: SAFE,
      hint: "RANK_TABLE_FILE names it; without that variable there is no table",
    },
    error,
  );
}

/** 100,000 ranks take 10 MB. */
const MAX_BYTES = 64 * 2 ** 20;
const SAFE = "Nothing was started or written";
