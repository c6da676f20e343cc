/** One process as ranks are seen: what all know is what it knows, and nobody waits for it. */

import type { JoinedRanks } from "./ranks.js";

const nothing = (): void => undefined;

export const ALONE: JoinedRanks = {
  rank: 0,
  size: 1,
  machines: 1,
  library: "none",
  localSize: 1,
  threads: 0,
  gather: (_tag, bytes) => Promise.resolve([bytes]),
  place: nothing,
  watch: nothing,
  stopping: nothing,
  failing: nothing,
  close: () => Promise.resolve(),
};
