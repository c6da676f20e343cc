/** Where a command listens, and who may ask it: the options of every command that is a server. */

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { networkInterfaces } from "node:os";

import { statIfThere } from "../core/durable.js";
import { UsageError } from "../core/error.js";
import { inUrl, isLoopback } from "../serve/guard.js";
import type { Listening } from "../serve/route-server.js";
import { type Invocation, type OwnOptions, wrongValue } from "./command.js";
import type { Terminal } from "./terminal.js";

const HOST = "127.0.0.1";

/** @param sends what goes over the network as it is: "sends pictures unencrypted" */
export function listeningOptions(port: number, sends: string): OwnOptions[string] {
  return {
    host: {
      value: "<address>",
      help: `address to listen on; any but this machine's own opens the server to the network, asks every client for a token, and ${sends}`,
      default: HOST,
    },
    port: { value: "<n>", help: "0 for any that is free", default: String(port) },
    allow_host: {
      value: "<names>",
      help: "further names, with commas between, under which clients ask for it: those of a proxy before it",
    },
    token_file: {
      value: "<file>",
      help: "a file with the token that clients have to send; without it, one is made up where the network is listened to",
    },
  };
}

/** @throws UsageError */
export function readListening(invocation: Invocation, port: number): Listening {
  const { own } = invocation;
  const host = textOf(own.get("host")) ?? HOST;
  if (isIP(host) === 0 && host !== "localhost") {
    throw wrongValue("host", host, "an address of this machine, or localhost");
  }
  const names = (textOf(own.get("allow_host")) ?? "").split(",").filter((name) => name !== "");
  for (const name of names) {
    if (!/^[\w.-]+(:\d{1,5})?$/.test(name)) {
      throw wrongValue("allow_host", name, "names with commas between, such as photos.example.org");
    }
  }
  const tokenFile = textOf(own.get("token_file"));
  return {
    host,
    port: upTo(invocation, "port", port, 65_535),
    names,
    token: tokenFile !== undefined ? readToken(tokenFile) : isLoopback(host) ? undefined : madeUpToken(),
  };
}

/** The server's address, and its page's, which takes the token from the end of it. */
export function addressOf({ host, token }: Listening, port: number): { url: string; page: string } {
  const url = `http://${inUrl(reachable(host))}:${port}/`;
  return { url, page: token === undefined ? url : `${url}#token=${token}` };
}

/** What to know of a server that others reach; nothing of one that they do not. */
export function warnOpen({ host }: Listening, readable: string, terminal: Terminal): void {
  if (isLoopback(host)) return;
  terminal.warn(
    "the server is open to the network: whoever reaches this address and knows the token can use it.",
  );
  terminal.note(`  HTTP is not encrypted: ${readable} can be read on their way.`);
  terminal.note(
    "  For more than a network that you trust, leave --host out and put a proxy with TLS before it (--allow_host NAME).",
  );
}

export function isAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** A whole number from 0. @throws UsageError */
export function upTo({ own }: Invocation, name: string, fallback: number, most: number): number {
  const given = own.get(name);
  if (given === undefined) return fallback;
  if (given !== true && /^\d{1,5}$/.test(given) && Number(given) <= most) return Number(given);
  throw wrongValue(name, given, `a whole number from 0 to ${most}`);
}

/** An address under which others reach a server that listens on all of them. */
function reachable(host: string): string {
  if (host !== "0.0.0.0" && host !== "::") return host;
  const outside = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ internal, family }) => !internal && family === "IPv4");
  return outside?.address ?? "127.0.0.1";
}

function madeUpToken(): string {
  return randomBytes(16).toString("base64url");
}

/** A token is kept in a file, because a command line can be read by every user of a machine. */
function readToken(file: string): string {
  const problem = { where: file, expected: "one line of 16 to 200 letters, digits and -._~+/=" };
  const found = statIfThere(file);
  if (found?.isFile() !== true || found.size > 4096) {
    throw new UsageError({
      what: "the token cannot be read",
      ...problem,
      found: found === undefined ? "no such file" : found.isFile() ? `${found.size} bytes` : "no file",
      hint: `Make one: openssl rand -hex 16 > ${file}`,
    });
  }
  const token = readFileSync(file, "utf8").trim();
  if (/^[\w.~+/=-]{16,200}$/.test(token)) return token;
  throw new UsageError({ what: "the token is not one that can be sent", ...problem });
}

function textOf(value: string | true | undefined): string | undefined {
  return value === true ? undefined : value;
}
