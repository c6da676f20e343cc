/** The worker behind a page: it is asked by messages (wire.ts), and answers each. Whatever takes long is done here. */

import { RiffleError } from "../core/error.js";
import type { BrowserEvent } from "./events.js";
import { workerScope } from "./scope.js";
import { type Answer, type CallName, type Calls, failureOf, type Request } from "./wire.js";
import { Desk } from "./desk.js";

const desk = new Desk();
const aborts = new Map<number, AbortController>();

workerScope.onmessage = ({ data }: { readonly data: Request }) => {
  if ("abort" in data) aborts.get(data.id)?.abort();
  else void answer(data);
};

async function answer({ id, call, asked }: Extract<Request, { call: CallName }>): Promise<void> {
  const controller = new AbortController();
  aborts.set(id, controller);
  const post = (message: Answer): void => workerScope.postMessage(message);
  try {
    const work = desk[call].bind(desk) as (
      asked: Calls[CallName]["asked"],
      told: (event: BrowserEvent) => void,
      signal: AbortSignal,
    ) => Promise<unknown>;
    const told = (event: BrowserEvent): void => post({ id, event });
    post({ id, answer: await work(asked as never, told, controller.signal) });
  } catch (error) {
    if (!(error instanceof RiffleError)) console.error(error);
    post({ id, failure: failureOf(error) });
  } finally {
    aborts.delete(id);
  }
}
