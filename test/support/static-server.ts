/** A folder behind a web server that knows nothing of it, on loopback: what a page of files has to work with. */

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { after } from "node:test";

/** What plain servers agree on; the rest is bytes to them, WebAssembly included. */
const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".css": "text/css",
  ".js": "text/javascript",
  ".json": "application/json",
};

/** Serves the folder below `prefix`, "/" or "/a/b/", and nothing else; returns the address. Ends with the test that asked. */
export async function serveFolder(
  folder: string,
  prefix = "/",
  headers: Readonly<Record<string, string>> = {},
): Promise<string> {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "/", "http://localhost");
    const name = pathname.startsWith(prefix)
      ? normalize(decodeURIComponent(pathname.slice(prefix.length)))
      : "..";
    const file = join(folder, name.endsWith("/") || name === "." ? join(name, "index.html") : name);
    if (name.startsWith("..") || statSync(file, { throwIfNoEntry: false })?.isFile() !== true) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      ...headers,
      "Content-Type": TYPES[extname(file)] ?? "application/octet-stream",
    });
    createReadStream(file).pipe(response);
  });
  after(() => {
    server.close();
    server.closeAllConnections();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}${prefix}`;
}

/** With them a page may share memory with its workers. */
export const ISOLATED = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
} as const;
