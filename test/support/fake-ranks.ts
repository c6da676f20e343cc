/** Ranks in the memory of one process, for tests of what they exchange. */

import { DistributedError } from "../../src/core/error.js";
import type { Ranks } from "../../src/distributed/ranks.js";

/** One exchange; a rank that is ahead of the others waits in it. */
interface Round {
  readonly tags: string[];
  readonly shares: Uint8Array[];
  readonly waiting: { resolve(shares: Uint8Array[]): void; reject(error: Error): void }[];
}

/** `size` of them; `log` receives the tag of every exchange and how many bytes all ranks gave. */
export function fakeRanks(size: number, log: { tag: string; bytes: number }[] = []): Ranks[] {
  const rounds: Round[] = [];
  return Array.from({ length: size }, (_, rank) => {
    let own = 0;
    const gather = (tag: string, bytes: Uint8Array): Promise<Uint8Array[]> =>
      new Promise((resolve, reject) => {
        const { tags, shares, waiting } = (rounds[own++] ??= { tags: [], shares: [], waiting: [] });
        tags.push(tag);
        shares[rank] = new Uint8Array(bytes);
        waiting.push({ resolve, reject });
        if (waiting.length < size) return;
        log.push({ tag, bytes: shares.reduce((sum, share) => sum + share.length, 0) });
        const agree = new Set(tags).size === 1;
        for (const each of waiting) {
          if (agree) each.resolve(shares);
          else each.reject(new DistributedError({ what: `ranks gather ${tags.join(", ")}` }));
        }
      });
    return { rank, size, machines: 1, library: "memory", gather };
  });
}
