/**
 * One file over HTTP whose SHA-256 is known before: fetched whole, or gone on with where an earlier command stopped.
 *
 * Nothing that a server says is believed: not its length, nor that it goes on where it was asked to. What counts is the
 * checksum of all the bytes; until that is right the file has no name of its own, and bytes that end in another are thrown away.
 *
 * A connection that breaks off, falls silent or meets a server in trouble is tried again, with pauses between, and then
 * told; a refusal, a name that does not resolve or a certificate that does not hold are told at once.
 */

import { setTimeout } from "node:timers/promises";

import type { Dispatcher } from "undici";

import { CheckpointError, errorCode, type Problem, ResourceError, RiffleError } from "../core/error.js";
import { shellWord } from "../core/printable.js";
import { PartialFile, type PartialNote } from "./partial-file.js";
import { proxyFor, withoutPassword } from "./proxy.js";

export interface Wanted {
  readonly url: string;
  /** Where it is kept; its folder is made. */
  readonly path: string;
  /** First digits of its SHA-256, in hexadecimal. */
  readonly sha256: string;
  /** About how long it is; more than twice as much is not taken. */
  readonly bytes: number;
}

export interface Downloaded {
  readonly bytes: number;
  /** In full. */
  readonly sha256: string;
}

/** How long a server is waited for. */
export interface Patience {
  /** Milliseconds of silence: while connecting, before the answer, between its bytes. */
  readonly silence: number;
  /** Connections in all. */
  readonly tries: number;
  /** Milliseconds before the second connection; twice as many before each that follows. */
  readonly pause: number;
}

const USUAL: Patience = { silence: 20_000, tries: 5, pause: 500 };

/**
 * @param watch is told how many bytes are there, and of how many
 * @param signal when it aborts, its reason is thrown and what has come is kept
 * @throws ResourceError where it cannot be had, CheckpointError where other bytes came, UsageError for a proxy of no use
 */
export async function download(
  wanted: Wanted,
  watch: (done: number, total: number) => void,
  signal?: AbortSignal,
  patience: Patience = USUAL,
): Promise<Downloaded> {
  const proxy = proxyFor(wanted.url);
  // Loaded for those only who fetch.
  const { Agent, ProxyAgent, request } = await import("undici");
  const { silence } = patience;
  const times = { headersTimeout: silence, bodyTimeout: silence, connect: { timeout: silence } };
  const dispatcher = proxy === undefined ? new Agent(times) : new ProxyAgent({ ...times, uri: proxy.href });
  const partial = await PartialFile.begin(wanted.path);
  const ask: Ask = (url, headers) =>
    request(url, { dispatcher, headers, ...(signal === undefined ? {} : { signal }) });
  try {
    // Bytes of two commands that make no whole may be the first one's fault, so the second is not judged by them.
    let isMixed = partial.bytes > 0;
    for (;;) {
      await fetchRest(partial, wanted, ask, watch, signal, patience);
      const sha256 = await partial.sha256();
      if (sha256.startsWith(wanted.sha256)) {
        const { bytes } = partial;
        await partial.commit();
        return { bytes, sha256 };
      }
      if (!isMixed) throw otherBytes(wanted, sha256, partial.bytes);
      await partial.restart();
      isMixed = false;
    }
  } catch (error) {
    if (error instanceof CheckpointError) await partial.discard();
    else await partial.keep();
    if (error instanceof Failure) throw unfetched(wanted, error, partial.bytes, proxy);
    throw error;
  } finally {
    await dispatcher.destroy().catch(() => undefined);
  }
}

type Ask = (url: string, headers: Readonly<Record<string, string>>) => Promise<Dispatcher.ResponseData>;

/** Why no more came. */
class Failure extends Error {
  constructor(
    message: string,
    /** Whether another connection may do better. */
    readonly isPassing: boolean,
    cause?: unknown,
  ) {
    super(message, { cause });
  }
}

/** Connects until all is there, or as often as is tried. */
async function fetchRest(
  partial: PartialFile,
  wanted: Wanted,
  ask: Ask,
  watch: (done: number, total: number) => void,
  signal: AbortSignal | undefined,
  { tries, pause }: Patience,
): Promise<void> {
  for (let tried = 1; ; tried++) {
    try {
      signal?.throwIfAborted();
      await fetchOnce(partial, wanted, ask, watch);
      return;
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof Failure) || !error.isPassing || tried >= tries) throw error;
      await setTimeout(pause * 2 ** (tried - 1), undefined, signal === undefined ? {} : { signal }).catch(
        () => undefined,
      );
    }
  }
}

async function fetchOnce(
  partial: PartialFile,
  wanted: Wanted,
  ask: Ask,
  watch: (done: number, total: number) => void,
): Promise<void> {
  const { note } = partial;
  const goesOn = partial.bytes > 0 && note?.url === wanted.url && note.validator !== undefined;
  if (goesOn && partial.bytes === note.total) return;
  const { statusCode, headers, body } = await answerOf(ask, wanted.url, {
    // Compressed bytes would have another length and no beginning to go on with.
    "accept-encoding": "identity",
    ...(goesOn ? { range: `bytes=${partial.bytes}-`, "if-range": note.validator as string } : {}),
  });
  try {
    if (statusCode === 206 && goesOn) {
      const found = headerOf(headers, "content-range");
      if (!continues(found, partial.bytes, note)) {
        await partial.restart();
        throw new Failure(`the server went on elsewhere than asked: ${found ?? "no Content-Range"}`, true);
      }
    } else if (statusCode === 200) {
      await partial.restart(noteOf(headers, wanted.url));
    } else {
      // A beginning that the server has no end to is of no use.
      if (statusCode === 416) await partial.restart();
      throw new Failure(`the server answered ${statusCode}`, isPassingStatus(statusCode));
    }
    const { total } = partial.note ?? {};
    if (total !== undefined && total > 2 * wanted.bytes) throw tooLong(`${total} bytes`, wanted);
    const encoding = headerOf(headers, "content-encoding") ?? "identity";
    if (encoding !== "identity") throw new Failure(`the server sent it in the encoding ${encoding}`, false);
    const pieces = body[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
    for (;;) {
      const next = await overNetwork(() => pieces.next());
      if (next.done === true) break;
      if (partial.bytes + next.value.length > 2 * wanted.bytes) throw tooLong("more", wanted);
      await partial.write(next.value);
      watch(partial.bytes, total ?? Math.max(wanted.bytes, partial.bytes));
    }
    if (total !== undefined && partial.bytes < total)
      throw new Failure(`the connection ended after ${partial.bytes} of ${total} bytes`, true);
  } finally {
    body.destroy();
  }
}

/** Follows redirects, never from an encrypted connection to a plain one. */
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
    if (!isAllowed) throw new Failure(`the server sent on to ${to}, which is not followed`, false);
    if (followed === MOST_REDIRECTS)
      throw new Failure(`the server sent on more than ${MOST_REDIRECTS} times, last to ${to}`, false);
    url = next.href;
  }
}

const MOST_REDIRECTS = 5;

function headerOf(headers: Dispatcher.ResponseData["headers"], name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** A weak ETag is none to go on with (RFC 9110, 13.1.5). */
function noteOf(headers: Dispatcher.ResponseData["headers"], url: string): PartialNote {
  const etag = headerOf(headers, "etag");
  const validator = etag !== undefined && !etag.startsWith("W/") ? etag : headerOf(headers, "last-modified");
  const total = Number(headerOf(headers, "content-length") ?? NaN);
  return {
    url,
    ...(validator === undefined ? {} : { validator }),
    ...(Number.isSafeInteger(total) && total > 0 ? { total } : {}),
  };
}

/** Whether "bytes 500-999/1000" is what follows the bytes that are there. */
function continues(range: string | undefined, start: number, { total }: PartialNote): boolean {
  const [, first, , whole] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(range ?? "") ?? [];
  return Number(first) === start && (total === undefined || whole === "*" || Number(whole) === total);
}

function isPassingStatus(status: number): boolean {
  return status >= 500 || [408, 416, 425, 429].includes(status);
}

function tooLong(found: string, { bytes }: Wanted): Failure {
  return new Failure(`the server sends ${found}, where about ${Math.round(bytes)} bytes belong`, false);
}

/** What the network refuses becomes a Failure; all else is passed on. */
async function overNetwork<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof RiffleError) throw error;
    // Of several addresses that were tried the first one's error says most.
    const [first] = error instanceof AggregateError ? (error.errors as unknown[]) : [error];
    const code = errorCode(first) ?? errorCode(error) ?? "";
    const words = first instanceof Error && first.message !== "" ? first.message : code;
    throw new Failure(silences.has(code) ? "the server fell silent" : words, passing.has(code), error);
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

/** The checksum tells it: nothing of these bytes is kept. */
function otherBytes({ url, sha256, path }: Wanted, found: string, bytes: number): CheckpointError {
  return new CheckpointError({
    what: "what was fetched is not the published file",
    where: url,
    expected: `a SHA-256 that begins with ${sha256}`,
    found: `${found}, of ${bytes} bytes`,
    safe: "The bytes were thrown away, and nothing was trained",
    hint: `Something between here and there changes files, or the server has another one. Put the right one at ${shellWord(path)}`,
  });
}

function unfetched(
  { url, path, bytes }: Wanted,
  { message, cause }: Failure,
  kept: number,
  proxy: URL | undefined,
): ResourceError {
  const through = proxy === undefined ? "" : ` (through the proxy ${withoutPassword(proxy.origin)})`;
  const problem: Problem = {
    what: "the weights could not be fetched",
    where: url,
    expected: `a file of about ${(bytes / 1e6).toFixed(1)} MB`,
    found: `${message}${through}`,
    safe:
      kept > 0
        ? `${kept} bytes of it are kept, and the same command goes on behind them`
        : "Nothing was kept, and nothing was trained",
    hint: `Try again later; or fetch it otherwise: ${byHand(url, path)}`,
  };
  return new ResourceError(problem, cause);
}

/** The command that puts the file where it is looked for. */
export function byHand(url: string, path: string): string {
  return `curl -L --create-dirs -o ${shellWord(path)} ${shellWord(url)}`;
}
