/** Who of the ranks does what: the first one writes, the others wait for it and learn what came of it. */

import { RiffleError, type Problem } from "../core/error.js";
import type { Ranks } from "./ranks.js";

type Gathering = Pick<Ranks, "rank" | "size" | "gather">;

/** What only the first rank does; its result, which JSON can carry, is every rank's. Where it fails, the first rank ends and with it all. */
export async function onFirst<T>(ranks: Gathering, what: string, work: () => Promise<T>): Promise<T> {
  if (ranks.size === 1) return work();
  const own = ranks.rank === 0 ? JSON.stringify({ result: await work() }) : "";
  const [first] = await ranks.gather(what, Buffer.from(own), { patient: true });
  return (JSON.parse(Buffer.from(first as Uint8Array).toString()) as { result: T }).result;
}

/** What every rank does, the first before the others: they find what it leaves behind, an index or a cache. */
export async function firstAhead<T>(ranks: Gathering, what: string, work: () => Promise<T>): Promise<T> {
  const first = ranks.rank === 0 ? [await work()] : [];
  await ranks.gather(what, new Uint8Array(0), { patient: true });
  const [done] = first;
  return first.length === 1 ? (done as T) : work();
}

/** Every rank's value, which JSON can carry, in their order. */
export async function everybodys<T>(ranks: Gathering, what: string, own: T): Promise<T[]> {
  const all = await ranks.gather(what, Buffer.from(JSON.stringify([own])));
  return all.map((bytes) => (JSON.parse(Buffer.from(bytes).toString()) as [T])[0]);
}

/** Whether any rank says so. */
export async function anybody(ranks: Gathering, what: string, own: boolean): Promise<boolean> {
  return ranks.size === 1 ? own : (await everybodys(ranks, what, own)).some((each) => each);
}

/** Another rank cannot go on, and has yet to say why. */
export class FailedElsewhere extends Error {}

/** When all know that one of them cannot go on: the same failure on all of them, that of the first rank which has one. */
export async function firstFailure(ranks: Gathering, own: unknown): Promise<unknown> {
  if (ranks.size === 1) return own;
  const said =
    own instanceof FailedElsewhere
      ? null
      : own instanceof RiffleError
        ? { code: own.exitCode, problem: own.problem }
        : { code: 1, problem: { what: String(own) } satisfies Problem };
  const all = await everybodys(ranks, "failure", said);
  const rank = all.findIndex((each) => each !== null);
  const failure = all[rank];
  if (rank === ranks.rank || failure === undefined || failure === null) return own;
  const { code, problem } = failure;
  return new RiffleError(code, {
    ...problem,
    where: `rank ${rank}${problem.where === undefined ? "" : `: ${problem.where}`}`,
  });
}
