/**
 * A picture at an address, for whoever asked for that in words: the bytes of one GET, in memory.
 *
 * Nothing that a server says is believed. What it sends is taken up to a length and for a time, whatever it announced; that it is
 * a picture, the decoder finds out. Text and other kinds that cannot be one are refused before they are read.
 */

import { DataError } from "../core/error.js";
import { bytesOf, connectionFor, headerOf, HttpFailure } from "../core/http.js";
import { withoutPassword } from "../core/proxy.js";

export interface FetchLimits {
  /** Longest picture, in bytes. */
  readonly bytes: number;
  /** Milliseconds of silence: while connecting, before the answer, between its bytes. */
  readonly silence: number;
  /** Milliseconds in all. */
  readonly time: number;
}

export const usualFetch: FetchLimits = { bytes: 64 * 2 ** 20, silence: 20_000, time: 60_000 };

/** Whether a path is an address on the web. */
export function isAddress(path: string): boolean {
  return /^https?:\/\//i.test(path);
}

/**
 * @throws DataError with the reason why there is no picture to be had; UsageError for a proxy of no use
 */
export async function fetchPicture(address: string, limits: FetchLimits = usualFetch): Promise<Uint8Array> {
  const { bytes: most, silence, time } = limits;
  const fail = (what: string, cause?: unknown): DataError =>
    new DataError({ what, where: withoutPassword(address) }, cause);
  if (!URL.canParse(address)) throw fail("the address is none");
  const signal = AbortSignal.timeout(time);
  const connection = await connectionFor(address, { silence, signal });
  try {
    const { statusCode, headers, body } = await connection.get(address, {
      accept: "image/*",
      "accept-encoding": "identity",
    });
    try {
      if (statusCode !== 200) throw new HttpFailure(`the server answered ${statusCode}`, false);
      const type = headerOf(headers, "content-type")?.split(";", 1)[0]?.trim().toLowerCase() ?? "";
      if (!mayBePicture(type)) throw new HttpFailure(`the server sent ${type}, no picture`, false);
      const encoding = headerOf(headers, "content-encoding") ?? "identity";
      if (encoding !== "identity")
        throw new HttpFailure(`the server sent it in the encoding ${encoding}`, false);
      const total = Number(headerOf(headers, "content-length") ?? NaN);
      const tooLong = (found: string): HttpFailure =>
        new HttpFailure(`the server sends ${found}, and at most ${most} bytes are taken`, false);
      if (total > most) throw tooLong(`${total} bytes`);
      const pieces: Uint8Array[] = [];
      let length = 0;
      for await (const piece of bytesOf(body)) {
        length += piece.length;
        if (length > most) throw tooLong("more");
        pieces.push(piece);
      }
      if (length < total)
        throw new HttpFailure(`the connection ended after ${length} of ${total} bytes`, true);
      return Buffer.concat(pieces);
    } finally {
      body.destroy();
    }
  } catch (error) {
    if (signal.aborted) throw fail(`the server had not sent all of it after ${time / 1000} s`, error);
    if (error instanceof HttpFailure) throw fail(error.message, error);
    throw error;
  } finally {
    await connection.close();
  }
}

/** An image, or bytes of which the server does not know what they are. */
function mayBePicture(type: string): boolean {
  return (
    type === "" ||
    type.startsWith("image/") ||
    ["application/octet-stream", "binary/octet-stream"].includes(type)
  );
}
