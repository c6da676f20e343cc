/**
 * Predictions over HTTP: a picture as the body of POST /predict, its likeliest classes as JSON.
 *
 * What comes in is bounded before it is taken, besides what every server bounds: bytes of a body and of all bodies, pixels,
 * and pictures that wait.
 *
 * Sizes are in bytes and pixels, times in milliseconds.
 */

import type { IncomingMessage } from "node:http";

import { DataError } from "../core/error.js";
import { imageInfo, isReadFormat } from "../data/pictures/image-info.js";
import type { Predictor } from "../inference/predict.js";
import { css, dropPage, script } from "../web/drop-page.js";
import { askingClassifier } from "./asking-classifier.js";
import type { Metrics } from "./metrics.js";
import { Refusal } from "./refusal.js";
import {
  type Exchange,
  fixed,
  inTime,
  json,
  type Listening,
  READ,
  type Reply,
  type Route,
  type Routes,
  RouteServer,
  type RunningServer,
} from "./route-server.js";
import { HeldBytes, readBody } from "./upload.js";

export type { RunningServer };

export interface ServeOptions extends Listening {
  /** Classes in an answer, where the request does not say how many. */
  readonly top: number;
  /** Bytes of a picture's file. */
  readonly maxBody: number;
  /** What all bodies in memory may take together, at least `maxBody`: 256 MiB. */
  readonly maxHeld?: number;
  readonly maxPixels: number;
  /** From a request's headers to its answer. */
  readonly timeout: number;
  /** Pictures that were taken in and are not answered; one more is refused. */
  readonly maxQueue: number;
  readonly metrics: Metrics;
  /** Hears of failures that are not the client's. */
  readonly onFailure?: (error: unknown) => void;
}

/** Answers until closed. @throws ResourceError when it cannot listen there. */
export async function startServer(predictor: Predictor, options: ServeOptions): Promise<RunningServer> {
  const { server } = new Serving(predictor, options);
  await server.listen();
  return server;
}

const MAX_CONNECTIONS = 512;

const html = dropPage({
  where: "They go to this server and nowhere else.",
  waiting: "Asking the server about its network.",
  noscript: "This page needs JavaScript; a program can POST pictures to /predict without it.",
});

/** The page shows pictures that it was given, and looks through the camera. */
const HEADERS = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; " +
    "media-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
} as const;

class Serving {
  readonly server: RouteServer;
  readonly #predictor: Predictor;
  readonly #options: ServeOptions;
  readonly #held: HeldBytes;
  #uploads = 0;

  constructor(predictor: Predictor, options: ServeOptions) {
    this.#predictor = predictor;
    this.#options = options;
    this.#held = new HeldBytes(Math.max(options.maxHeld ?? 256 * 2 ** 20, options.maxBody));
    const { metrics } = options;
    this.server = new RouteServer({
      ...options,
      routes: this.#routes,
      headers: HEADERS,
      maxConnections: MAX_CONNECTIONS,
      onRequest: (route, status) => metrics.request(route, status),
      onDrop: () => metrics.dropped(),
    });
  }

  readonly #routes: Routes = new Map<string, Route>([
    ["/", fixed("text/html", html)],
    ["/page.css", fixed("text/css", css)],
    ["/page.js", fixed("text/javascript", script)],
    ["/classifier.js", fixed("text/javascript", askingClassifier)],
    ["/health", { methods: READ, open: true, answer: () => this.#health() }],
    ["/model", { methods: READ, open: false, answer: () => this.#model() }],
    ["/metrics", { methods: READ, open: false, answer: () => this.#metrics() }],
    [
      "/predict",
      {
        methods: ["POST"],
        open: false,
        parameters: ["top"],
        answer: (exchange: Exchange) => this.#predict(exchange),
      },
    ],
  ]);

  async #predict({ request, query, began, signal, invite, uploaded }: Exchange): Promise<Reply> {
    if (this.server.isClosing) throw Refusal.later("the server is stopping", 5);
    const top = this.#topOf(query);
    refuseWrapped(request);
    this.#checkQueue();
    if (Number(request.headers["content-length"] ?? 0) <= this.#options.maxBody) invite();
    this.#uploads++;
    const body = await readBody(request, { limit: this.#options.maxBody, held: this.#held, signal }).finally(
      () => {
        this.#uploads--;
      },
    );
    uploaded();
    try {
      this.#checkPicture(body.bytes);
      this.#checkQueue();
    } catch (error) {
      body.release();
      throw error;
    }
    // It is held until the predictor is done with it, though nobody may wait for that any more.
    const answer = this.#predictor.predictOne(body.bytes, { top, signal }).finally(body.release);
    const result = await inTime(answer, signal);
    if ("error" in result) throw new Refusal(422, { what: result.error });
    this.#options.metrics.picture((performance.now() - began) / 1000);
    return json(200, { top: result.top });
  }

  #topOf(query: URLSearchParams): number {
    const given = query.get("top");
    if (given === null) return this.#options.top;
    if (/^[1-9]\d{0,5}$/.test(given)) return Number(given);
    throw new Refusal(400, { what: "top is no number of classes", expected: "a whole number from 1" });
  }

  /** @throws Refusal while as many pictures wait as may. */
  #checkQueue(): void {
    if (this.#predictor.pending >= this.#options.maxQueue) {
      throw Refusal.later("as many pictures wait as the server takes");
    }
  }

  /** @throws Refusal for what is not read, or has too many pixels. */
  #checkPicture(bytes: Uint8Array): void {
    if (bytes.length === 0) {
      throw new Refusal(400, { what: "the body is empty", expected: "the bytes of a picture's file" });
    }
    let info;
    try {
      info = imageInfo(bytes, "the picture");
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      // What curl sends where the @ before a file's name is forgotten.
      const isName = bytes.length < 1024 && /\.\w{1,5}\s*$/.test(Buffer.from(bytes).toString("latin1"));
      const hint = isName ? `With curl, @ stands before a file's name: ${CURL}` : error.problem.hint;
      throw new Refusal(isReadFormat(bytes) ? 422 : 415, { ...error.problem, hint });
    }
    const pixels = info.width * info.height;
    if (pixels > this.#options.maxPixels) {
      throw new Refusal(422, {
        what: "the picture has too many pixels",
        expected: `at most ${this.#options.maxPixels}`,
        found: `${info.width} x ${info.height} = ${pixels}`,
        hint: "Send it smaller, or start the server with a larger --max_megapixels",
      });
    }
  }

  #health(): Reply {
    return this.server.isClosing ? json(503, { status: "stopping" }) : json(200, { status: "ok" });
  }

  #model(): Reply {
    const { model } = this.#predictor;
    const { maxBody, maxPixels, top } = this.#options;
    const classes = Array.from({ length: model.classes }, (_, i) => model.class_names[i] ?? `output ${i}`);
    return json(200, {
      classes,
      image_size: model.image_size,
      top,
      max_body: maxBody,
      max_pixels: maxPixels,
    });
  }

  #metrics(): Reply {
    const now = { queue: this.#predictor.pending, uploads: this.#uploads, heldBytes: this.#held.bytes };
    const type = "text/plain; version=0.0.4; charset=utf-8";
    return { status: 200, type, body: this.#options.metrics.text(now) };
  }
}

const CURL = "curl --data-binary @photo.jpg";

/** @throws Refusal for a body that holds the picture in something else. */
function refuseWrapped({ headers }: IncomingMessage): void {
  const coding = headers["content-encoding"];
  if (coding !== undefined && coding !== "identity") {
    throw new Refusal(415, {
      what: `a body in ${coding} is not read`,
      hint: "Send the picture's file as it is",
    });
  }
  const type = (headers["content-type"] ?? "").toLowerCase();
  if (!type.startsWith("multipart/") && !type.startsWith("application/json")) return;
  throw new Refusal(415, {
    what: "the body is to be the picture's file itself, not a form or JSON that holds it",
    hint: `${CURL}, or fetch with the file as body`,
  });
}
