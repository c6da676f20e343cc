/**
 * A process that trains on made-up pictures until the one that forked it lets go: what a rank's neighbours do to the
 * memory and the cores that they share. rank-times.ts starts it, and hears of its first step.
 */

import { asRiffleError, RiffleError } from "../core/error.js";
import { compileNetwork, openWorkload, type ProgramSettings } from "./workload.js";

export interface BusyRankSettings {
  readonly network: ProgramSettings;
  readonly threads: number;
}

/** One of the two, once. */
export interface BusyRankReply {
  readonly busy?: true;
  /** Why it is not. */
  readonly failed?: string;
}

let goesOn = true;
process.on("disconnect", () => {
  goesOn = false;
});
const reply = (message: BusyRankReply): void => void process.send?.(message);

try {
  const { network, threads } = JSON.parse(process.argv[2] ?? "") as BusyRankSettings;
  const workload = await openWorkload(compileNetwork(network, "train"), { threads });
  await workload.step();
  reply({ busy: true });
  while (goesOn) await workload.step();
  workload.close();
} catch (error) {
  const known = asRiffleError(error);
  reply({ failed: known instanceof RiffleError ? known.message : String(error) });
  process.exitCode = 1;
}
