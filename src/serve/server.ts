/**
 * Predictions over HTTP: a picture as the body of POST /predict, its likeliest classes as JSON.
 *
 * What comes in is bounded before it is taken: bytes of a body and of all bodies, pixels, pictures that wait, connections,
 * and the time of a request. Whoever is refused is told why and what to do, with a status that says whose turn it is: 4xx
 * the client's, 503 with Retry-After the server's. Routes are a table; no path ever reaches the file system.
 *
 * Sizes are in bytes and pixels, times in milliseconds.
 */

import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from "node:http";
import type { AddressInfo, Socket } from "node:net";

import { asRiffleError, DataError, errorCode, type Problem, ResourceError } from "../core/error.js";
import { imageInfo, isReadFormat } from "../data/pictures/image-info.js";
import type { Predictor } from "../inference/predict.js";
import { Guard, inUrl } from "./guard.js";
import type { Metrics } from "./metrics.js";
import { css, html, script } from "./page.js";
import { ClientGone, Refusal } from "./refusal.js";
import { hasBody, HeldBytes, readBody } from "./upload.js";

export interface ServeOptions {
  readonly host: string;
  /** 0 for any that is free. */
  readonly port: number;
  /** Further names under which the server may be asked for. */
  readonly names: readonly string[];
  /** Whoever asks for more than the page or /health has to show it; undefined for nobody. */
  readonly token: string | undefined;
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

export interface RunningServer {
  /** Of the page: `http://127.0.0.1:8080/`. */
  readonly url: string;
  readonly port: number;
  /** Takes no more connections and requests; resolves when those that were taken are answered. */
  close(): Promise<void>;
}

/** Answers until closed. @throws ResourceError when it cannot listen there. */
export async function startServer(predictor: Predictor, options: ServeOptions): Promise<RunningServer> {
  const serving = new Serving(predictor, options);
  await serving.listen();
  return serving;
}

const MAX_CONNECTIONS = 512;

/** A client that was refused may go on sending for so long, unheard, so that it reads why. */
const LINGER = 1000;

interface Reply {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Route {
  readonly methods: readonly string[];
  /** Whether it answers without the token: what holds nothing of the network or its use. */
  readonly open: boolean;
  /** Query parameters that it knows. */
  readonly parameters?: readonly string[];
  answer(exchange: Exchange): Reply | Promise<Reply>;
}

/** A request on its way to an answer. */
interface Exchange {
  readonly request: IncomingMessage;
  readonly query: URLSearchParams;
  /** When its headers came, by `performance.now()`. */
  readonly began: number;
  /** Aborts when the client goes away, or when the time is over: then with a Refusal. */
  readonly signal: AbortSignal;
  /** Asks a client that waits for leave to send its body. */
  readonly invite: () => void;
  /** The body is here whole. */
  readonly uploaded: () => void;
}

class Serving implements RunningServer {
  readonly #predictor: Predictor;
  readonly #options: ServeOptions;
  readonly #server: Server;
  readonly #held: HeldBytes;
  /** Every connection, with the requests on it that are not answered. */
  readonly #connections = new Map<Socket, number>();
  #guard: Guard | undefined;
  #port = 0;
  #uploads = 0;
  #closing = false;

  constructor(predictor: Predictor, options: ServeOptions) {
    this.#predictor = predictor;
    this.#options = options;
    this.#held = new HeldBytes(Math.max(options.maxHeld ?? 256 * 2 ** 20, options.maxBody));
    const server = createServer({
      headersTimeout: Math.min(10_000, options.timeout),
      // Bodies have a clock of their own; this one ends what it should have ended.
      requestTimeout: options.timeout + 10_000,
      connectionsCheckingInterval: Math.min(1000, options.timeout),
      keepAliveTimeout: 5000,
      maxHeaderSize: 16 * 1024,
      // The guard says it in our words.
      requireHostHeader: false,
    });
    server.maxConnections = MAX_CONNECTIONS;
    // Whoever does not read an answer does not keep its connection.
    server.timeout = 2 * options.timeout;
    server.on("request", (request, response) => void this.#serve(request, response, () => undefined));
    server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => {
      void this.#serve(request, response, () => response.writeContinue());
    });
    server.on("connection", (socket) => {
      this.#connections.set(socket, 0);
      socket.once("close", () => this.#connections.delete(socket));
    });
    server.on("drop", () => options.metrics.dropped());
    server.on("clientError", (error, socket) => this.#refuseUnread(error, socket as Socket));
    this.#server = server;
  }

  async listen(): Promise<void> {
    const { host, port, names, token } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (error) => reject(listenError(error, host, port)));
      this.#server.listen(port, host, resolve);
    });
    this.#server.removeAllListeners("error");
    this.#server.on("error", (error) => this.#options.onFailure?.(error));
    this.#port = (this.#server.address() as AddressInfo).port;
    this.#guard = new Guard({ host, port: this.#port, names, token });
  }

  get port(): number {
    return this.#port;
  }

  get url(): string {
    return `http://${inUrl(this.#options.host)}:${this.port}/`;
  }

  async close(): Promise<void> {
    this.#closing = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const [socket, requests] of this.#connections) if (requests === 0) socket.destroy();
    // Each request ends within its time; who keeps a connection open beyond it has nothing to wait for.
    const atLast = setTimeout(() => this.#server.closeAllConnections(), this.#options.timeout + 2 * LINGER);
    await closed;
    clearTimeout(atLast);
  }

  readonly #routes: ReadonlyMap<string, Route> = new Map<string, Route>([
    ["/", { methods: READ, open: true, answer: () => text("text/html; charset=utf-8", html) }],
    ["/page.css", { methods: READ, open: true, answer: () => text("text/css; charset=utf-8", css) }],
    ["/page.js", { methods: READ, open: true, answer: () => text("text/javascript; charset=utf-8", script) }],
    ["/health", { methods: READ, open: true, answer: () => this.#health() }],
    ["/model", { methods: READ, open: false, answer: () => this.#model() }],
    ["/metrics", { methods: READ, open: false, answer: () => this.#metrics() }],
    [
      "/predict",
      {
        methods: ["POST"],
        open: false,
        parameters: ["top"],
        answer: (exchange) => this.#predict(exchange),
      },
    ],
  ]);

  /** Answers a request, whatever comes of it; never throws. */
  async #serve(request: IncomingMessage, response: ServerResponse, invite: () => void): Promise<void> {
    const began = performance.now();
    const { socket } = request;
    this.#connections.set(socket, (this.#connections.get(socket) ?? 0) + 1);
    const [path = "", ...queries] = (request.url ?? "").split("?");
    const route = this.#routes.get(path);
    const end = new AbortController();
    let isUploaded = false;
    const clock = setTimeout(() => {
      end.abort(isUploaded ? Refusal.later("the answer took longer than a request is given") : tooSlow());
    }, this.#options.timeout);
    let reply: Reply | undefined;
    // Every response closes; an error and its stack are made where somebody still works for it.
    response.once("close", () => {
      if (reply === undefined) end.abort(new ClientGone());
    });
    try {
      reply = await this.#answer(route, queries.length > 0 ? queries.join("?") : undefined, {
        request,
        query: new URLSearchParams(queries.join("?")),
        began,
        signal: end.signal,
        invite,
        uploaded: () => {
          isUploaded = true;
        },
      });
    } catch (error) {
      if (!(error instanceof ClientGone)) reply = this.#failure(error);
    }
    clearTimeout(clock);
    const isGone = reply === undefined || response.destroyed;
    this.#options.metrics.request(
      route === undefined ? "other" : path,
      isGone ? "aborted" : (reply as Reply).status,
    );
    const done = (): void => {
      const left = this.#connections.get(socket);
      if (left === undefined) return;
      this.#connections.set(socket, left - 1);
    };
    if (isGone) return done();
    response.once("close", done);
    this.#send(request, response, reply as Reply);
  }

  async #answer(route: Route | undefined, query: string | undefined, exchange: Exchange): Promise<Reply> {
    const { request } = exchange;
    this.#guard?.checkSource(request);
    if (route === undefined || (query !== undefined && route.parameters === undefined)) {
      throw new Refusal(404, {
        what: "there is nothing at this address",
        expected: [...this.#routes.keys()].filter((path) => !path.startsWith("/page")).join(", "),
      });
    }
    if (!route.methods.includes(request.method ?? "")) {
      throw new Refusal(
        405,
        { what: "this address answers to another method", expected: route.methods.join(", ") },
        { Allow: route.methods.join(", ") },
      );
    }
    if (!route.open) this.#guard?.checkToken(request);
    for (const name of exchange.query.keys()) {
      if (route.parameters?.includes(name) === true && exchange.query.getAll(name).length === 1) continue;
      throw new Refusal(400, {
        what: "the query is not one of this address",
        expected: `at most once each: ${(route.parameters ?? []).join(", ")}`,
      });
    }
    return route.answer(exchange);
  }

  async #predict({ request, query, began, signal, invite, uploaded }: Exchange): Promise<Reply> {
    if (this.#closing) throw Refusal.later("the server is stopping", 5);
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
      throw new Refusal(isReadFormat(bytes) ? 422 : 415, error.problem);
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
    return this.#closing ? json(503, { status: "stopping" }) : json(200, { status: "ok" });
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
    return text("text/plain; version=0.0.4; charset=utf-8", this.#options.metrics.text(now));
  }

  /** What a client is told of a failure. Of ours it learns no more than that; `onFailure` hears the rest. */
  #failure(thrown: unknown): Reply {
    if (thrown instanceof Refusal) {
      return { ...json(thrown.status, { error: problemOf(thrown.problem) }), headers: thrown.headers };
    }
    this.#options.onFailure?.(thrown);
    if (asRiffleError(thrown) instanceof ResourceError) {
      const { status, problem, headers } = Refusal.later("the machine has too little for this now", 5);
      return { ...json(status, { error: problemOf(problem) }), headers };
    }
    return json(500, { error: problemOf({ what: "the server failed; its log says why" }) });
  }

  #send(request: IncomingMessage, response: ServerResponse, { status, type, body, headers }: Reply): void {
    const isUnread = hasBody(request) && !request.complete;
    response.writeHead(status, {
      ...SAFE_HEADERS,
      ...headers,
      "Content-Type": type,
      "Content-Length": Buffer.byteLength(body),
      ...(isUnread || this.#closing ? { Connection: "close" } : {}),
    });
    const sent = request.method === "HEAD" ? "" : body;
    if (!isUnread) {
      response.end(sent);
      return;
    }
    // Closing at once would take the answer from a client that is still sending.
    response.write(sent);
    const end = (): void => {
      clearTimeout(linger);
      response.end();
    };
    const linger = setTimeout(end, LINGER);
    request.once("end", end);
    request.once("close", end);
    request.on("error", () => undefined);
    request.resume();
  }

  /** Answers what is no HTTP, or is too slow with its headers. */
  #refuseUnread(error: Error, socket: Socket): void {
    const code = errorCode(error);
    if (!socket.writable || code === "ECONNRESET" || code === "EPIPE") {
      socket.destroy();
      return;
    }
    const status = code === "ERR_HTTP_REQUEST_TIMEOUT" ? 408 : code === "HPE_HEADER_OVERFLOW" ? 431 : 400;
    this.#options.metrics.request("other", status);
    socket.write(
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`,
    );
    socket.destroySoon();
  }
}

const READ = ["GET", "HEAD"] as const;

/** The page may use what this server gives it, and be used by none. */
const SAFE_HEADERS = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; " +
    "media-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
  "Cache-Control": "no-store",
} as const;

function text(type: string, body: string): Reply {
  return { status: 200, type, body };
}

function json(status: number, value: object): Reply {
  return { status, type: "application/json; charset=utf-8", body: `${JSON.stringify(value)}\n` };
}

/** The same parts in every error, `null` where one does not apply. */
function problemOf({ what, expected = null, found = null, hint = null }: Nullable<Problem>): object {
  return { what, expected, found, hint };
}

type Nullable<T> = { readonly [K in keyof T]?: T[K] | null };

/** The result, or what the signal says where that comes first. */
function inTime<T>(result: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const over = (): void => reject(signal.reason as Error);
    signal.addEventListener("abort", over, { once: true });
    if (signal.aborted) over();
    void result.then(resolve, reject).finally(() => signal.removeEventListener("abort", over));
  });
}

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
    hint: "curl --data-binary @photo.jpg, or fetch with the file as body",
  });
}

function tooSlow(): Refusal {
  return new Refusal(408, { what: "the picture took longer to arrive than a request is given" });
}

function listenError(error: Error, host: string, port: number): Error {
  const where = `${inUrl(host)}:${port}`;
  switch (errorCode(error) ?? "") {
    case "EADDRINUSE":
      return new ResourceError({
        what: "the port is taken by another program",
        where,
        hint: "Name another, or let the system choose a free one: --port 0",
      });
    case "EACCES":
      return new ResourceError({
        what: "this user may not listen on the port",
        where,
        hint: "Name one from 1024: --port 8080",
      });
    case "EADDRNOTAVAIL":
      return new ResourceError({
        what: "this machine does not have the address",
        where,
        hint: "Name one that it has, or leave --host out",
      });
    default:
      return error;
  }
}
