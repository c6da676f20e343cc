/**
 * Makes one rank of a launch fail, or differ from the others, without the product knowing of it: loaded by
 * `NODE_OPTIONS=--import .../rank-fault-hook.js` into every process, it works in the rank that the variable names.
 *
 * A fault comes where the product calls the addon, which is wrapped as it is loaded; a difference is made before the
 * program reads its command line.
 */

import fs from "node:fs";
import { isMainThread } from "node:worker_threads";

import { phases } from "../../src/distributed/ranks.js";

export interface RankFault {
  readonly rank: number;
  /** "load", "place saving", "gather handshake", or a function of the addon: "joinRanks", "trainSteps", "closeRanks". */
  readonly at: string;
  /** Only once the rank has come to this step. */
  readonly step?: number;
  readonly kind: FaultKind;
  /** Milliseconds that the fault comes later. */
  readonly after?: number;
  /** Milliseconds that the other ranks come to this place later, in the step named. */
  readonly othersWait?: number;
  /** A file that is written when the fault comes. */
  readonly hit: string;
}

/** "heap" fills the memory of JavaScript, "allocation" asks for more than there can be; "gather" gathers at this place instead. */
export type FaultKind =
  | "throw"
  | "reject"
  | "exit 0"
  | "exit 3"
  | "abort"
  | "heap"
  | "allocation"
  | "gather"
  | "SIGKILL"
  | "SIGSTOP";

export interface RankDifference {
  readonly rank: number;
  /** Added to its command line. */
  readonly argv?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly version?: string;
}

/** What the environment of a launch needs for one or the other. */
export function hookEnvironment(what: {
  readonly fault?: RankFault;
  readonly difference?: RankDifference;
}): Record<string, string> {
  return {
    NODE_OPTIONS: `--import ${new URL(import.meta.url).pathname} --max-old-space-size=192`,
    ...(what.fault === undefined ? {} : { RIFFLE_RANK_FAULT: JSON.stringify(what.fault) }),
    ...(what.difference === undefined ? {} : { RIFFLE_RANK_DIFFERENCE: JSON.stringify(what.difference) }),
  };
}

type Any = (...args: unknown[]) => unknown;
type Addon = Record<string, Any>;

const rank = Number(process.env["OMPI_COMM_WORLD_RANK"] ?? process.env["PMI_RANK"] ?? NaN);
const addonOf = (module: unknown): Addon => (module as { exports: Addon }).exports;

if (isMainThread && !Number.isNaN(rank)) {
  const { RIFFLE_RANK_FAULT: fault, RIFFLE_RANK_DIFFERENCE: difference } = process.env;
  if (fault !== undefined) arm(JSON.parse(fault) as RankFault);
  if (difference !== undefined) differ(JSON.parse(difference) as RankDifference);
}

function differ({ rank: whose, argv = [], env = {}, version }: RankDifference): void {
  if (whose !== rank) return;
  process.argv.push(...argv);
  Object.assign(process.env, env);
  if (version === undefined) return;
  // What it says of itself in the handshake: its own files are the others', too.
  onAddon((addon) => {
    const { gatherBytes } = addon as { gatherBytes: Any };
    addon["gatherBytes"] = (tag, bytes, ...more) => {
      const said = Buffer.from(bytes as Uint8Array).toString();
      const other = said.replace(/"version":"[^"]*"/, `"version":"${version}"`);
      return gatherBytes(tag, tag === "handshake" ? Buffer.from(other) : bytes, ...more);
    };
  });
}

/** Hands over the addon as soon as it is loaded. */
function onAddon(change: (addon: Addon) => void): void {
  const dlopen = process.dlopen.bind(process) as Any;
  process.dlopen = (...args: unknown[]) => {
    dlopen(...args);
    const addon = addonOf(args[0]);
    if (addon["joinRanks"] !== undefined) change(addon);
  };
}

function arm(fault: RankFault): void {
  let step = 0;
  let isOver = false;
  /** @returns what is done instead, if anything is */
  const here = (place: string): unknown => {
    if (isOver || place !== fault.at || step < (fault.step ?? 0)) return undefined;
    isOver = true;
    if (fault.rank !== rank) return pause(fault.othersWait ?? 0);
    if (fault.after === undefined) return fail(fault, gatherElsewhere);
    setTimeout(fail, fault.after, fault, gatherElsewhere);
    return undefined;
  };
  let gatherElsewhere: Any = () => undefined;
  here("load");
  onAddon((addon) => {
    for (const name of ["joinRanks", "trainSteps", "closeRanks"]) {
      const original = addon[name] as Any;
      addon[name] = (...given) => {
        return here(name) ?? original(...given);
      };
    }
    const { setPlace, gatherBytes } = addon as { setPlace: Any; gatherBytes: Any };
    addon["setPlace"] = (phase, at) => {
      step = at as number;
      here(`place ${phases[phase as number]}`);
      return setPlace(phase, at);
    };
    gatherElsewhere = () => gatherBytes("elsewhere", new Uint8Array(0), false);
    addon["gatherBytes"] = (tag, ...given) => here(`gather ${tag as string}`) ?? gatherBytes(tag, ...given);
  });
}

function pause(milliseconds: number): void {
  if (milliseconds > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

function fail({ kind, hit }: RankFault, gatherElsewhere: Any): unknown {
  fs.writeFileSync(hit, String(process.pid));
  switch (kind) {
    case "throw":
      throw new Error("made to fail");
    case "reject":
      return void Promise.reject(new Error("made to fail"));
    case "exit 0":
    case "exit 3":
      return process.exit(Number(kind.slice(5)));
    case "abort":
      return process.abort();
    case "heap":
      for (const all: unknown[] = []; ;) all.push(Array.from({ length: 1000 }, (_, i) => ({ i })));
    case "allocation":
      return void new ArrayBuffer(Number.MAX_SAFE_INTEGER);
    case "gather":
      return gatherElsewhere();
    case "SIGKILL":
    case "SIGSTOP":
      return void process.kill(process.pid, kind);
  }
}
