/** What tests need that is there only where the engine was compiled: they are skipped elsewhere, and say so. */

import { addonOrUndefined } from "../../src/core/addon.js";

/** Options for node:test. @param also a further condition, or why it does not hold */
export function needsNative(also: true | string = true): { skip: false | string } {
  if (addonOrUndefined() === undefined) return { skip: "needs the native engine, which is not built here" };
  return { skip: also === true ? false : also };
}
