/**
 * Request bodies in memory: each within a limit, all together within another, so that neither one huge upload nor many
 * slow ones take more than was meant for them.
 */

import type { IncomingMessage } from "node:http";

import { ClientGone, Refusal } from "./refusal.js";

/** Bytes of bodies that are in memory. */
export class HeldBytes {
  /** Now. */
  bytes = 0;

  constructor(private readonly limit: number) {}

  /** @throws Refusal when there are too many. */
  add(bytes: number): void {
    if (this.bytes + bytes > this.limit) throw Refusal.later("too many pictures are being sent at once");
    this.bytes += bytes;
  }

  giveBack(bytes: number): void {
    this.bytes -= bytes;
  }
}

export interface UploadBounds {
  /** Bytes of one body. */
  readonly limit: number;
  readonly held: HeldBytes;
  /** Ends reading; its reason is what the caller gets. */
  readonly signal: AbortSignal;
}

/** A body that is held until it is let go. */
export interface Body {
  readonly bytes: Buffer;
  readonly release: () => void;
}

/**
 * The whole body.
 *
 * @throws Refusal when it is too large, ClientGone when it ends early, the signal's reason.
 */
export async function readBody(
  request: IncomingMessage,
  { limit, held, signal }: UploadBounds,
): Promise<Body> {
  if (Number(request.headers["content-length"] ?? 0) > limit) throw tooLarge(limit);
  const chunks: Buffer[] = [];
  let length = 0;
  const release = (): void => held.giveBack(length);
  try {
    await new Promise<void>((resolve, reject) => {
      request.on("data", (chunk: Buffer) => {
        try {
          if (length + chunk.length > limit) throw tooLarge(limit);
          held.add(chunk.length);
          length += chunk.length;
          chunks.push(chunk);
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
      request.once("end", resolve);
      request.on("error", () => reject(new ClientGone()));
      request.once("close", () => reject(new ClientGone()));
      signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
      if (signal.aborted) reject(signal.reason as Error);
    });
    return { bytes: Buffer.concat(chunks), release };
  } catch (error) {
    release();
    throw error;
  } finally {
    request.removeAllListeners("data");
    chunks.length = 0;
  }
}

/** Whether a request has a body at all. */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}

function tooLarge(limit: number): Refusal {
  return new Refusal(413, {
    what: "the picture's file is too large",
    expected: `at most ${limit} bytes`,
    hint: "Send it smaller, or start the server with a larger --max_body",
  });
}
