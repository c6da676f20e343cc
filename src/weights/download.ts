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

import { CheckpointError, type Problem, ResourceError } from "../core/error.js";
import { bytesOf, type Connection, connectionFor, headerOf, HttpFailure } from "../core/http.js";
import { shellWord } from "../core/printable.js";
import { withoutPassword } from "../core/proxy.js";
import { PartialFile, type PartialNote } from "./partial-file.js";

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
  const connection = await connectionFor(wanted.url, { silence: patience.silence, signal });
  const partial = await PartialFile.begin(wanted.path);
  try {
    // Bytes of two commands that make no whole may be the first one's fault, so the second is not judged by them.
    let isMixed = partial.bytes > 0;
    for (;;) {
      await fetchRest(partial, wanted, connection, watch, signal, patience);
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
    if (error instanceof HttpFailure) throw unfetched(wanted, error, partial.bytes, connection.proxy);
    throw error;
  } finally {
    await connection.close();
  }
}

/** Connects until all is there, or as often as is tried. */
async function fetchRest(
  partial: PartialFile,
  wanted: Wanted,
  connection: Connection,
  watch: (done: number, total: number) => void,
  signal: AbortSignal | undefined,
  { tries, pause }: Patience,
): Promise<void> {
  for (let tried = 1; ; tried++) {
    try {
      signal?.throwIfAborted();
      await fetchOnce(partial, wanted, connection, watch);
      return;
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof HttpFailure) || !error.isPassing || tried >= tries) throw error;
      await setTimeout(pause * 2 ** (tried - 1), undefined, signal === undefined ? {} : { signal }).catch(
        () => undefined,
      );
    }
  }
}

async function fetchOnce(
  partial: PartialFile,
  wanted: Wanted,
  connection: Connection,
  watch: (done: number, total: number) => void,
): Promise<void> {
  const { note } = partial;
  const goesOn = partial.bytes > 0 && note?.url === wanted.url && note.validator !== undefined;
  if (goesOn && partial.bytes === note.total) return;
  const { statusCode, headers, body } = await connection.get(wanted.url, {
    // Compressed bytes would have another length and no beginning to go on with.
    "accept-encoding": "identity",
    ...(goesOn ? { range: `bytes=${partial.bytes}-`, "if-range": note.validator as string } : {}),
  });
  try {
    if (statusCode === 206 && goesOn) {
      const found = headerOf(headers, "content-range");
      if (!continues(found, partial.bytes, note)) {
        await partial.restart();
        throw new HttpFailure(
          `the server went on elsewhere than asked: ${found ?? "no Content-Range"}`,
          true,
        );
      }
    } else if (statusCode === 200) {
      await partial.restart(noteOf(headers, wanted.url));
    } else {
      // A beginning that the server has no end to is of no use.
      if (statusCode === 416) await partial.restart();
      throw new HttpFailure(`the server answered ${statusCode}`, isPassingStatus(statusCode));
    }
    const { total } = partial.note ?? {};
    if (total !== undefined && total > 2 * wanted.bytes) throw tooLong(`${total} bytes`, wanted);
    const encoding = headerOf(headers, "content-encoding") ?? "identity";
    if (encoding !== "identity")
      throw new HttpFailure(`the server sent it in the encoding ${encoding}`, false);
    for await (const piece of bytesOf(body)) {
      if (partial.bytes + piece.length > 2 * wanted.bytes) throw tooLong("more", wanted);
      await partial.write(piece);
      watch(partial.bytes, total ?? Math.max(wanted.bytes, partial.bytes));
    }
    if (total !== undefined && partial.bytes < total)
      throw new HttpFailure(`the connection ended after ${partial.bytes} of ${total} bytes`, true);
  } finally {
    body.destroy();
  }
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

function tooLong(found: string, { bytes }: Wanted): HttpFailure {
  return new HttpFailure(`the server sends ${found}, where about ${Math.round(bytes)} bytes belong`, false);
}

/** The checksum tells it: nothing of these bytes is kept. */
function otherBytes({ url, sha256, path }: Wanted, found: string, bytes: number): CheckpointError {
  return new CheckpointError({
    what: "what was fetched is not the published file",
    where: url,
    expected: `a SHA-256 that begins with ${sha256}`,
    found: `${found}, of ${bytes} bytes`,
    safe: "The bytes were thrown away, and nothing else was done",
    hint: `Something between here and there changes files, or the server has another one. Put the right one at ${shellWord(path)}`,
  });
}

function unfetched(
  { url, path, bytes }: Wanted,
  { message, cause }: HttpFailure,
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
        : "Nothing was kept, and nothing else was done",
    hint: `Try again later; give a file of weights that is here in its place (training takes it with --from FILE); or fetch it otherwise: ${byHand(url, path)}`,
  };
  return new ResourceError(problem, cause);
}

/** The command that puts the file where it is looked for. */
export function byHand(url: string, path: string): string {
  return `curl -L --create-dirs -o ${shellWord(path)} ${shellWord(url)}`;
}
