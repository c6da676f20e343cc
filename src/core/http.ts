/**
 * Asking another machine for something over HTTP: the one place from which a connection to one is opened.
 *
 * It goes through the proxy of the environment, no silence lasts longer than is said, and a redirect is followed only where
 * it leads to HTTP again, never from an encrypted connection to a plain one. What is done with an answer, and whether any of
 * it is believed, is its caller's to decide.
 */

import type { Dispatcher } from "undici";

import { errorCode, RiffleError } from "./error.js";
import { proxyFor } from "./proxy.js";

export interface Connection {
  /** What it goes through. */
  readonly proxy: URL | undefined;
  /** The answer of one GET, behind the redirects. @throws HttpFailure; the signal's reason when it aborts */
  get(url: string, headers: Readonly<Record<string, string>>): Promise<Dispatcher.ResponseData>;
  close(): Promise<void>;
}

export interface ConnectionOptions {
  /** Milliseconds: while connecting, before the answer, between its bytes. */
  readonly silence: number;
  readonly signal?: AbortSignal | undefined;
}

/** Why no more came, in a few words. */
export class HttpFailure extends Error {
  constructor(
    message: string,
    /** Whether another connection may do better. */
    readonly isPassing: boolean,
    cause?: unknown,
  ) {
    super(message, { cause });
  }
}

/** Makes ready to ask for `url`; nothing is sent yet. @throws UsageError for a proxy of no use */
export async function connectionFor(
  url: string,
  { silence, signal }: ConnectionOptions,
): Promise<Connection> {
  const proxy = proxyFor(url);
  // Loaded for those only who fetch.
  const { Agent, ProxyAgent, request } = await import("undici");
  const times = { headersTimeout: silence, bodyTimeout: silence, connect: { timeout: silence } };
  const dispatcher = proxy === undefined ? new Agent(times) : new ProxyAgent({ ...times, uri: proxy.href });
  const ask: Ask = (to, headers) =>
    request(to, { dispatcher, headers, ...(signal === undefined ? {} : { signal }) });
  return {
    proxy,
    get: (to, headers) => answerOf(ask, to, headers),
    close: () => dispatcher.destroy().catch(() => undefined),
  };
}

/** The bytes of an answer as they come. @throws HttpFailure where they end before their time */
export async function* bytesOf(body: AsyncIterable<unknown>): AsyncGenerator<Uint8Array, void> {
  const pieces = body[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  for (;;) {
    const next = await overNetwork(() => pieces.next());
    if (next.done === true) return;
    yield next.value;
  }
}

export function headerOf(headers: Dispatcher.ResponseData["headers"], name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

type Ask = (url: string, headers: Readonly<Record<string, string>>) => Promise<Dispatcher.ResponseData>;

async function answerOf(
  ask: Ask,
  address: string,
  headers: Readonly<Record<string, string>>,
): Promise<Dispatcher.ResponseData> {
  let url = address;
  for (let followed = 0; ; followed++) {
    const answer = await overNetwork(() => ask(url, headers));
    // It may break off before anybody reads it, which the first read tells then.
    answer.body.on("error", () => undefined);
    const to = headerOf(answer.headers, "location");
    if (![301, 302, 303, 307, 308].includes(answer.statusCode) || to === undefined) return answer;
    answer.body.destroy();
    const next = URL.canParse(to, url) ? new URL(to, url) : undefined;
    const isAllowed =
      next !== undefined &&
      (next.protocol === "https:" || (next.protocol === "http:" && url.startsWith("http:")));
    if (!isAllowed) throw new HttpFailure(`the server sent on to ${to}, which is not followed`, false);
    if (followed === MOST_REDIRECTS)
      throw new HttpFailure(`the server sent on more than ${MOST_REDIRECTS} times, last to ${to}`, false);
    url = next.href;
  }
}

const MOST_REDIRECTS = 5;

/** What the network refuses becomes an HttpFailure; all else is passed on. */
async function overNetwork<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof RiffleError) throw error;
    // Of several addresses that were tried the first one's error says most.
    const [first] = error instanceof AggregateError ? (error.errors as unknown[]) : [error];
    const code = errorCode(first) ?? errorCode(error) ?? "";
    const words = first instanceof Error && first.message !== "" ? first.message : code;
    throw new HttpFailure(silences.has(code) ? "the server fell silent" : words, passing.has(code), error);
  }
}

const silences: ReadonlySet<string> = new Set([
  "UND_ERR_CONNECT_TIMEOUT",
  "UND_ERR_HEADERS_TIMEOUT",
  "UND_ERR_BODY_TIMEOUT",
  "ETIMEDOUT",
]);

const passing: ReadonlySet<string> = new Set([
  ...silences,
  "UND_ERR_SOCKET",
  "UND_ERR_RES_CONTENT_LENGTH_MISMATCH",
  "ECONNRESET",
  "EPIPE",
]);
