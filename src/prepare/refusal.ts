/** What cannot be prepared, said by place and sentence first, since that is all that most refusals need. */

import { DataError, type Problem } from "../core/error.js";

export function refusal(
  where: string,
  what: string,
  more: Omit<Problem, "where" | "what"> = {},
  cause?: unknown,
): DataError {
  return new DataError({ where, what, ...more }, cause);
}
