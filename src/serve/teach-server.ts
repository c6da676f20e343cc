/**
 * The page to teach with (examples/teach/) over HTTP, with the modules that train in the browser: `riffle serve --teach`.
 *
 * It hands out a fixed list of files that are the same for everybody, and takes nothing: pictures, runs and weights stay in the
 * browser. So there is no token. The answers isolate the page from other origins, which is what browsers ask of a page that
 * wants memory that threads share.
 */

import { readdirSync, readFileSync } from "node:fs";
import { extname } from "node:path";

import { moduleFiles } from "./module-files.js";
import { type Listening, READ, type Route, RouteServer, type RunningServer } from "./route-server.js";

export interface TeachOptions extends Omit<Listening, "token"> {
  /** Hears of failures that are not the client's. */
  readonly onFailure?: (error: unknown) => void;
}

/** Answers until closed. @throws ResourceError when it cannot listen there; its cause is the system's error. */
export async function startTeachServer(options: TeachOptions): Promise<RunningServer> {
  const server = new RouteServer({
    ...options,
    token: undefined,
    routes: routes(),
    headers: { ...ISOLATED, "Content-Security-Policy": policy("'self'") },
    maxConnections: 64,
    timeout: 10_000,
  });
  await server.listen();
  return server;
}

const ROOT = new URL("../../../", import.meta.url);
const PAGE = new URL("examples/teach/", ROOT);
const ENTRY = "dist/src/browser/index.js";

/** Beside Cross-Origin-Opener-Policy, which every server here sends. */
const ISOLATED = {
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
} as const;

function policy(scripts: string): string {
  return (
    `default-src 'none'; script-src ${scripts}; style-src 'self'; connect-src 'self'; worker-src 'self'; ` +
    "img-src 'self' blob: data:; media-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
  );
}

/** The page compiles no WebAssembly; workers do, whose policy is that of their own address. */
const WORKERS = { "Content-Security-Policy": policy("'self' 'wasm-unsafe-eval'") };

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".wasm": "application/wasm",
};

function routes(): Map<string, Route> {
  const routes = new Map<string, Route>();
  for (const name of readdirSync(PAGE)) {
    if (!/\.(html|css|js)$/.test(name)) continue;
    routes.set(name === "index.html" ? "/" : `/${name}`, file(name, readFileSync(new URL(name, PAGE))));
  }
  // Where a bundler would find the package by its name.
  routes.set("/riffle.js", file("riffle.js", Buffer.from(`export * from "./riffle/${ENTRY}";\n`)));
  for (const [path, bytes] of moduleFiles(ROOT, ENTRY)) {
    routes.set(`/riffle/${path}`, file(path, bytes, WORKERS));
  }
  return routes;
}

function file(name: string, body: Buffer, headers: Readonly<Record<string, string>> = {}): Route {
  const type = TYPES[extname(name)] ?? "application/octet-stream";
  return { methods: READ, open: true, answer: () => ({ status: 200, type, body, headers }) };
}
