/** `riffle serve`: a run behind HTTP, until it is told to stop. */

import { CommanderError } from "commander";

import { closing } from "../core/closing.js";
import { UsageError } from "../core/error.js";
import { openPredictor, type Predictor } from "../inference/predict.js";
import { isLoopback } from "../serve/guard.js";
import { Metrics } from "../serve/metrics.js";
import { startServer } from "../serve/server.js";
import { startTeachServer } from "../serve/teach-server.js";
import { settingsOf } from "../settings/settings.js";
import { type CliCommand, type Invocation, parserFailure, wholeNumber, wrongValue } from "./command.js";
import { count } from "./format.js";
import { addressOf, isAborted, listeningOptions, readListening, upTo, warnOpen } from "./listening.js";
import { startProgress } from "./progress.js";
import { failureOf } from "./report-error.js";
import { tellPredictor, whileOpening } from "./opened-weights.js";
import { titled } from "./report-run.js";
import { listenForStop } from "./stop.js";
import type { Terminal } from "./terminal.js";

const DEFAULTS = {
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
  arguments: "[run]",
  purpose:
    "Serves a run, or a file of weights, over HTTP: a picture in, its classes out; and a page to try it. Or a page on which a browser learns.",
  examples: [
    "npx riffle-vision serve runs/a",
    "npx riffle-vision serve runs/a --host 0.0.0.0 --token_file token.txt",
    "npx riffle-vision serve --teach",
  ],
  // A picture that does not decode is refused by itself, so none is counted.
  settings: settingsOf("predict").filter((name) => name !== "max_bad_images"),
  defaults: { eval_batch_size: DEFAULTS.batch },
  aliases: { batch_size: "eval_batch_size", max_batch: "eval_batch_size" },
  options: {
    Page: {
      teach: {
        help: "a page to teach with, in the place of a run: pictures, training and weights stay in the browser; goes with --host, --port and --allow_host",
      },
    },
    Server: listeningOptions(DEFAULTS.port, "sends pictures unencrypted"),
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
  if (invocation.own.has("teach")) return teach(invocation, terminal);
  if (invocation.arguments.length === 0) {
    const missing = "error: missing required argument 'run'";
    throw parserFailure(new CommanderError(1, "commander.missingArgument", missing), serveCommand) as Error;
  }
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
    await isAborted(stop.signal);
    await server.close();
    await predictor.close();
    terminal.emit({ event: "stopped" });
    terminal.note("Stopped; everything that was accepted was answered.");
    return 0;
  });
}

/** What `--teach` obeys. */
const TEACH_OPTIONS: ReadonlySet<string> = new Set(["teach", "host", "port", "allow_host", "json", "debug"]);

async function teach(invocation: Invocation, terminal: Terminal): Promise<number> {
  const { own, settings } = invocation;
  const others = [...own.keys(), ...Object.keys(settings)].filter((name) => !TEACH_OPTIONS.has(name));
  const found = [...invocation.arguments, ...others.map((name) => `--${name}`)];
  if (found.length > 0) {
    throw new UsageError({
      what: "the page to teach with has no run behind it",
      expected: "--teach alone, or with --host, --port and --allow_host",
      found: found.join(" "),
      safe: "Nothing was read or written",
      hint: "Leave the rest out, or --teach; weights to begin with are dropped on the page",
    });
  }
  const listening = readListening(invocation, DEFAULTS.port);
  return closing(async (atEnd) => {
    const server = await startTeachServer({
      ...listening,
      onFailure: (error) => terminal.note(`failed: ${failureOf(error).lines.join("; ")}`),
    });
    atEnd(() => server.close());
    const stop = listenForStop(terminal, () => "Stopping; what the browser keeps stays there.");
    atEnd(() => stop.release());
    const { url } = addressOf({ ...listening, token: undefined }, server.port);
    terminal.emit({ event: "serving", url, token: null });
    if (!isLoopback(listening.host)) {
      terminal.warn("browsers train and use the camera on pages from their own machine or over HTTPS only.");
      terminal.note("  For others put a proxy with TLS before it, and name it: --allow_host NAME.");
    }
    terminal.print(titled("Teaching", `${url} (a page to teach with, all in the browser; Ctrl-C stops)`));
    await isAborted(stop.signal);
    await server.close();
    terminal.emit({ event: "stopped" });
    return 0;
  });
}

function readOptions(invocation: Invocation) {
  return {
    ...readListening(invocation, DEFAULTS.port),
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
  const { token, timeout, maxBody, maxPixels, maxQueue } = options;
  const { url, page } = addressOf(options, port);
  terminal.emit({ event: "serving", url, token: token ?? null });
  terminal.note(
    titled(
      "Limits",
      `${maxBody / 2 ** 20} MiB and ${maxPixels / 1e6} megapixels a picture, ${timeout / 1000} s a request, ` +
        `${count(maxQueue)} pictures waiting`,
    ),
  );
  warnOpen(options, "the token and the pictures", terminal);
  terminal.print(titled("Serving", `${page} (a page to try it; Ctrl-C stops)`));
  const header = token === undefined ? "" : `-H "Authorization: Bearer ${token}" `;
  terminal.print(titled("Next", `curl ${header}--data-binary @photo.jpg ${url}predict`));
}

/** A whole number from 1 up to `most`. */
function from1(invocation: Invocation, name: string, fallback: number, most: number): number {
  const value = wholeNumber(invocation, name, fallback);
  if (value <= most) return value;
  throw wrongValue(name, String(value), `at most ${most}`);
}
