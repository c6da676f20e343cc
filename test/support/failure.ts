/** A failure in the lines that people see of it. */

import { failureOf } from "../../src/cli/report-error.js";

export function describeFailure(error: unknown): string {
  return failureOf(error).lines.join("\n");
}
