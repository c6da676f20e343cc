/** `riffle serve`: a run behind HTTP, until it is told to stop. */

import { randomBytes } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";
import { networkInterfaces } from "node:os";

import { closing } from "../core/closing.js";
import { UsageError } from "../core/error.js";
import { openPredictor, type Predictor } from "../inference/predict.js";
import { inUrl, isLoopback } from "../serve/guard.js";
import { Metrics } from "../serve/metrics.js";
import { startServer } from "../serve/server.js";
import { settingsOf } from "../settings/settings.js";
import { type CliCommand, type Invocation, wholeNumber, wrongValue } from "./command.js";
import { count } from "./format.js";
import { startProgress } from "./progress.js";
import { failureOf } from "./report-error.js";
import { tellPredictor, whileOpening } from "./opened-weights.js";
import { titled } from "./report-run.js";
import { listenForStop } from "./stop.js";
import type { Terminal } from "./terminal.js";

const DEFAULTS = {
  host: "127.0.0.1",
  port: 8080,
  top: 5,
  batch: 16,
  max_wait: 2,
  max_body: 20,
  max_megapixels: 100,
  timeout: 30,
  max_queue: 128,
} as const;

export const serveCommand: CliCommand = {
  name: "serve",
  arguments: "<run>",
  purpose:
    "Serves a run, or a file of weights, over HTTP: a picture in, its classes out; and a page to try it.",
  examples: [
    "npx riffle-vision serve runs/a",
    "npx riffle-vision serve runs/a --port 0 --json",
    "npx riffle-vision serve runs/a --host 0.0.0.0 --token_file token.txt",
  ],
  // A picture that does not decode is refused by itself, so none is counted.
  settings: settingsOf("predict").filter((name) => name !== "max_bad_images"),
  defaults: { eval_batch_size: DEFAULTS.batch },
  aliases: { batch_size: "eval_batch_size", max_batch: "eval_batch_size" },
  options: {
    Server: {
      host: {
        value: "<address>",
        help: "address to listen on; any but this machine's own opens the server to the network, asks every client for a token, and sends pictures unencrypted",
        default: DEFAULTS.host,
      },
      port: { value: "<n>", help: "0 for any that is free", default: String(DEFAULTS.port) },
      allow_host: {
        value: "<names>",
        help: "further names, with commas between, under which clients ask for it: those of a proxy before it",
      },
      token_file: {
        value: "<file>",
        help: "a file with the token that clients have to send; without it, one is made up where the network is listened to",
      },
    },
    Limits: {
      max_body: {
        value: "<MiB>",
        help: "size of a picture's file (413 beyond)",
        default: `${DEFAULTS.max_body} MiB`,
      },
      max_megapixels: {
        value: "<n>",
        help: "millions of pixels of a picture (422 beyond)",
        default: String(DEFAULTS.max_megapixels),
      },
      timeout: {
        value: "<s>",
        help: "from the head of a request to its answer (408 or 503 beyond)",
        default: `${DEFAULTS.timeout} s`,
      },
      max_queue: {
        value: "<n>",
        help: "pictures that may wait (503 beyond)",
        default: String(DEFAULTS.max_queue),
      },
      max_wait: {
        value: "<ms>",
        help: "how long a picture waits for others to share its batch",
        default: `${DEFAULTS.max_wait} ms`,
      },
    },
    Output: {
      top: { value: "<n>", help: "how many classes an answer names", default: String(DEFAULTS.top) },
    },
  },
  run: serve,
};

async function serve(invocation: Invocation, terminal: Terminal): Promise<number> {
  const options = readOptions(invocation);
  return closing(async (atEnd) => {
    const metrics = new Metrics();
    const predictor = await open(invocation, options.maxWait, metrics, terminal);
    atEnd(() => predictor.close());
    const server = await startServer(predictor, {
      ...options,
      metrics,
      onFailure: (error) => terminal.note(`failed: ${failureOf(error).lines.join("; ")}`),
    });
    atEnd(() => server.close());
    const stop = listenForStop(
      terminal,
      () => "Stopping when what was accepted is answered; press Ctrl-C again to quit at once.",
    );
    atEnd(() => stop.release());
    announce(server.port, options, terminal);
    await aborted(stop.signal);
    await server.close();
    await predictor.close();
    terminal.emit({ event: "stopped" });
    terminal.note("Stopped; everything that was accepted was answered.");
    return 0;
  });
}

function readOptions(invocation: Invocation) {
  const { own } = invocation;
  const host = textOf(own.get("host")) ?? DEFAULTS.host;
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
    port: upTo(invocation, "port", DEFAULTS.port, 65_535),
    names,
    token: tokenFile !== undefined ? readToken(tokenFile) : isLoopback(host) ? undefined : madeUpToken(),
    top: wholeNumber(invocation, "top", DEFAULTS.top),
    maxBody: from1(invocation, "max_body", DEFAULTS.max_body, 256) * 2 ** 20,
    maxPixels: from1(invocation, "max_megapixels", DEFAULTS.max_megapixels, 300) * 1_000_000,
    timeout: from1(invocation, "timeout", DEFAULTS.timeout, 3600) * 1000,
    maxQueue: from1(invocation, "max_queue", DEFAULTS.max_queue, 65_536),
    maxWait: upTo(invocation, "max_wait", DEFAULTS.max_wait, 60_000),
  };
}

type Options = ReturnType<typeof readOptions>;

async function open(
  invocation: Invocation,
  maxWait: number,
  metrics: Metrics,
  terminal: Terminal,
): Promise<Predictor> {
  const [run = ""] = invocation.arguments;
  const { eval_batch_size = DEFAULTS.batch } = invocation.settings;
  const progress = startProgress(terminal);
  const predictor = await openPredictor(
    run,
    { ...invocation.settings, eval_batch_size },
    whileOpening(progress, terminal),
    { max_wait: maxWait, onBatch: (pictures) => metrics.batch(pictures) },
  ).finally(() => progress.end());
  tellPredictor(predictor, terminal);
  return predictor;
}

function announce(port: number, options: Options, terminal: Terminal): void {
  const { host, token, timeout, maxBody, maxPixels, maxQueue } = options;
  const url = `http://${inUrl(reachable(host))}:${port}/`;
  terminal.emit({ event: "serving", url, token: token ?? null });
  terminal.note(
    titled(
      "Limits",
      `${maxBody / 2 ** 20} MiB and ${maxPixels / 1e6} megapixels a picture, ${timeout / 1000} s a request, ` +
        `${count(maxQueue)} pictures waiting`,
    ),
  );
  if (!isLoopback(host)) {
    terminal.warn(OPEN[0]);
    for (const line of OPEN.slice(1)) terminal.note(line);
  }
  const page = token === undefined ? url : `${url}#token=${token}`;
  terminal.print(titled("Serving", `${page} (a page to try it; Ctrl-C stops)`));
  const header = token === undefined ? "" : `-H "Authorization: Bearer ${token}" `;
  terminal.print(titled("Next", `curl ${header}--data-binary @photo.jpg ${url}predict`));
}

const OPEN = [
  "the server is open to the network: whoever reaches this address and knows the token can use it.",
  "  HTTP is not encrypted: the token and the pictures can be read on their way.",
  "  For more than a network that you trust, leave --host out and put a proxy with TLS before it (--allow_host NAME).",
] as const;

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
  const found = statSync(file, { throwIfNoEntry: false });
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

/** A whole number from 1 up to `most`. */
function from1(invocation: Invocation, name: string, fallback: number, most: number): number {
  const value = wholeNumber(invocation, name, fallback);
  if (value <= most) return value;
  throw wrongValue(name, String(value), `at most ${most}`);
}

/** A whole number from 0. */
function upTo({ own }: Invocation, name: string, fallback: number, most: number): number {
  const given = own.get(name);
  if (given === undefined) return fallback;
  if (given !== true && /^\d{1,5}$/.test(given) && Number(given) <= most) return Number(given);
  throw wrongValue(name, given, `a whole number from 0 to ${most}`);
}

function textOf(value: string | true | undefined): string | undefined {
  return value === true ? undefined : value;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
