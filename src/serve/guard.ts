/**
 * Who may ask: a page of another site that the user has open must not reach the server, nor may a name that was made to
 * point here (DNS rebinding), nor, where a token is asked for, anybody without it.
 *
 * A Host is compared whole, in lower case; addresses cannot be rebound, names can.
 */

import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { isIP, isIPv4 } from "node:net";

import { Refusal } from "./refusal.js";

export interface Door {
  /** The address that is listened on. */
  readonly host: string;
  readonly port: number;
  /** Further names, such as a proxy's, with a port or without. */
  readonly names: readonly string[];
  readonly token: string | undefined;
}

/** Whether only this machine reaches what listens there. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIPv4(host) && host.startsWith("127."));
}

/** A host as URLs and the Host header write it. */
export function inUrl(host: string): string {
  return isIP(host) === 6 ? `[${host}]` : host;
}

export class Guard {
  readonly #names: ReadonlySet<string>;
  readonly #secureNames: ReadonlySet<string>;
  readonly #anyAddress: RegExp | undefined;
  readonly #token: Buffer | undefined;

  constructor({ host, port, names, token }: Door) {
    const own = ["127.0.0.1", "localhost", "[::1]", inUrl(host).toLowerCase()];
    const withPort = (name: string): string[] => [`${name}:${port}`, ...(port === 80 ? [name] : [])];
    const further = names.map((name) => name.toLowerCase());
    this.#secureNames = new Set(further.flatMap((name) => [name, ...withPort(name)]));
    this.#names = new Set([...own.flatMap(withPort), ...this.#secureNames]);
    // Who listens on every address is asked for by any of them.
    this.#anyAddress =
      host === "0.0.0.0" || host === "::"
        ? new RegExp(`^(.+):${port}$${port === 80 ? "|^(.+)$" : ""}`)
        : undefined;
    this.#token = token === undefined ? undefined : digest(token);
  }

  /** @throws Refusal */
  checkSource({ url = "", headers, rawHeaders }: IncomingMessage): void {
    const hosts = rawHeaders.filter((name, i) => i % 2 === 0 && name.toLowerCase() === "host").length;
    const host = headers.host?.toLowerCase();
    if (hosts !== 1 || host === undefined || !this.#isOurs(host) || !url.startsWith("/")) {
      throw new Refusal(421, {
        what: "this server is not asked for under this name",
        hint: "Use the address that was printed, or start the server with --allow_host NAME",
      });
    }
    const { origin } = headers;
    if (origin !== undefined && !this.#isOurOrigin(origin.toLowerCase())) throw crossSite();
    const site = headers["sec-fetch-site"];
    if (site !== undefined && site !== "same-origin" && site !== "none") throw crossSite();
  }

  /** @throws Refusal */
  checkToken({ headers }: IncomingMessage): void {
    if (this.#token === undefined) return;
    const [, given] = /^Bearer ([^\s]+)$/i.exec(headers.authorization ?? "") ?? [];
    if (given !== undefined && timingSafeEqual(digest(given), this.#token)) return;
    throw new Refusal(
      401,
      {
        what: given === undefined ? "a token is needed" : "this is not the token",
        expected:
          "the header Authorization: Bearer TOKEN, with the token that was printed, or that of --token_file",
      },
      { "WWW-Authenticate": "Bearer" },
    );
  }

  #isOurs(host: string): boolean {
    if (this.#names.has(host)) return true;
    const [, withPort, alone] = this.#anyAddress?.exec(host) ?? [];
    return isIP((withPort ?? alone ?? "").replace(/^\[(.*)\]$/, "$1")) !== 0;
  }

  #isOurOrigin(origin: string): boolean {
    const [, scheme, host = ""] = /^(https?):\/\/(.*)$/.exec(origin) ?? [];
    if (scheme === "http") return this.#isOurs(host);
    return scheme === "https" && this.#secureNames.has(host);
  }
}

function crossSite(): Refusal {
  return new Refusal(403, {
    what: "a page of another site may not use this server",
    hint: "Open the server's own page, or ask from a program",
  });
}

/** Of one length, as the comparison in constant time wants it. */
function digest(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
