/** Why a request is not answered as it wishes: a status of HTTP, and the parts of a message that a client needs. */

import type { Problem } from "../core/error.js";

export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly problem: Pick<Problem, "what" | "expected" | "found" | "hint">,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(problem.what);
  }

  /** For a server that could answer later: 503, and in how many seconds to ask again. */
  static later(what: string, seconds = 1): Refusal {
    return new Refusal(503, { what, hint: "Send it again later" }, { "Retry-After": String(seconds) });
  }
}

/** The client went away: nobody is left to be answered. */
export class ClientGone extends Error {}
