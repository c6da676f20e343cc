/** Renaming over what stands there. */

import { rename } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";

import { errorCode } from "./error.js";

/** Windows refuses it for moments, while another program reads or scans what stands there: then it is tried again, for a second. */
export async function renameOver(from: string, to: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return await rename(from, to);
    } catch (error) {
      const isPassing = ["EPERM", "EACCES", "EBUSY"].includes(errorCode(error) ?? "");
      if (process.platform !== "win32" || !isPassing || tries === 10) throw error;
      await setTimeout(20 * tries);
    }
  }
}
