/**
 * Requests over HTTP, answered by a table of routes: what every server here has in common.
 *
 * What comes in is bounded before it is taken: connections, headers, and the time of a request. Whoever is refused is told
 * why and what to do, with a status that says whose turn it is: 4xx the client's, 503 with Retry-After the server's. No path
 * ever reaches the file system. Every answer forbids the browser what the server's page does not need.
 *
 * Times are in milliseconds.
 */

import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from "node:http";
import type { AddressInfo, Socket } from "node:net";

import { asRiffleError, errorCode, type Problem, ResourceError } from "../core/error.js";
import { type Door, Guard, inUrl } from "./guard.js";
import { ClientGone, Refusal } from "./refusal.js";
import { hasBody } from "./upload.js";

export interface Reply {
  readonly status: number;
  /** Of its body; without it there is none. */
  readonly type?: string;
  readonly body: string | Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Route {
  readonly methods: readonly string[];
  /** Whether it answers without the token: what tells nothing that is somebody's. */
  readonly open: boolean;
  /** Query parameters that it knows. */
  readonly parameters?: readonly string[];
  answer(exchange: Exchange): Reply | Promise<Reply>;
}

/** By path. */
export type Routes = ReadonlyMap<string, Route>;

/** A request on its way to an answer. */
export interface Exchange {
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

/** Where a server listens; port 0 is any that is free. */
export type Listening = Door;

export interface RouteServerOptions extends Listening {
  readonly routes: Routes;
  /** Of every answer, besides those that all have: among them what the page may load. */
  readonly headers: Readonly<Record<"Content-Security-Policy", string>> & Readonly<Record<string, string>>;
  readonly maxConnections: number;
  /** From a request's headers to its answer. */
  readonly timeout: number;
  /** A request has ended: at one of the routes or "other", with HTTP's status. */
  readonly onRequest?: (route: string, status: number | "aborted") => void;
  /** A connection was turned away, for there are too many. */
  readonly onDrop?: () => void;
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

/** A client that was refused may go on sending for so long, unheard, so that it reads why. */
const LINGER = 1000;

export const READ = ["GET", "HEAD"] as const;

export class RouteServer implements RunningServer {
  readonly #options: RouteServerOptions;
  readonly #server: Server;
  /** Every connection, with the requests on it that are not answered. */
  readonly #connections = new Map<Socket, number>();
  #guard: Guard | undefined;
  #port = 0;
  #closing = false;

  constructor(options: RouteServerOptions) {
    this.#options = options;
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
    server.maxConnections = options.maxConnections;
    // Whoever does not read an answer does not keep its connection. Behind the latest check of headers, which is twice the
    // timeout after the first byte, so that slow ones are told why.
    server.timeout = 2 * options.timeout + LINGER;
    server.on("request", (request, response) => void this.#serve(request, response, () => undefined));
    server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => {
      void this.#serve(request, response, () => response.writeContinue());
    });
    server.on("connection", (socket) => {
      this.#connections.set(socket, 0);
      socket.once("close", () => this.#connections.delete(socket));
    });
    server.on("drop", () => options.onDrop?.());
    server.on("clientError", (error, socket) => this.#refuseUnread(error, socket as Socket));
    this.#server = server;
  }

  /** @throws ResourceError when it cannot listen there; its cause is the system's error. */
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

  get isClosing(): boolean {
    return this.#closing;
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

  /** Answers a request, whatever comes of it; never throws. */
  async #serve(request: IncomingMessage, response: ServerResponse, invite: () => void): Promise<void> {
    const began = performance.now();
    const { socket } = request;
    this.#connections.set(socket, (this.#connections.get(socket) ?? 0) + 1);
    const [path = "", ...queries] = (request.url ?? "").split("?");
    const route = this.#options.routes.get(path);
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
    this.#options.onRequest?.(
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
        expected: [...this.#options.routes.keys()].filter((path) => !/\.\w+$/.test(path)).join(", "),
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
      ...this.#options.headers,
      ...headers,
      ...(type === undefined ? {} : { "Content-Type": type, "Content-Length": Buffer.byteLength(body) }),
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
    this.#options.onRequest?.("other", status);
    socket.write(
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`,
    );
    socket.destroySoon();
  }
}

/** The page may use what this server gives it, and be used by none. */
const SAFE_HEADERS = {
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
  "Cache-Control": "no-store",
} as const;

/** A text that is the same whenever it is asked for. */
export function fixed(type: string, body: string): Route {
  return { methods: READ, open: true, answer: () => text(type, body) };
}

export function text(type: string, body: string): Reply {
  return { status: 200, type: `${type}; charset=utf-8`, body };
}

export function json(status: number, value: object): Reply {
  return { status, type: "application/json; charset=utf-8", body: `${JSON.stringify(value)}\n` };
}

/** The result, or what the signal says where that comes first. */
export function inTime<T>(result: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const over = (): void => reject(signal.reason as Error);
    signal.addEventListener("abort", over, { once: true });
    if (signal.aborted) over();
    void result.then(resolve, reject).finally(() => signal.removeEventListener("abort", over));
  });
}

/** The same parts in every error, `null` where one does not apply. */
function problemOf({ what, expected = null, found = null, hint = null }: Nullable<Problem>): object {
  return { what, expected, found, hint };
}

type Nullable<T> = { readonly [K in keyof T]?: T[K] | null };

function tooSlow(): Refusal {
  return new Refusal(408, { what: "the request took longer to arrive than it is given" });
}

function listenError(error: Error, host: string, port: number): Error {
  const where = `${inUrl(host)}:${port}`;
  switch (errorCode(error) ?? "") {
    case "EADDRINUSE":
      return new ResourceError(
        {
          what: "the port is taken by another program",
          where,
          hint: "Name another, or let the system choose a free one: --port 0",
        },
        error,
      );
    case "EACCES":
      return new ResourceError(
        {
          what: "this user may not listen on the port",
          where,
          hint: "Name one from 1024: --port 8080",
        },
        error,
      );
    case "EADDRNOTAVAIL":
      return new ResourceError(
        {
          what: "this machine does not have the address",
          where,
          hint: "Name one that it has, or leave --host out",
        },
        error,
      );
    default:
      return error;
  }
}
