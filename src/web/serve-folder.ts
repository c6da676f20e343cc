/**
 * Shows the page in this folder on this machine, and to no other:
 *
 *     node serve.mjs [PORT]
 */

import { createReadStream, existsSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";

const folder = new URL(".", import.meta.url);
const types: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  json: "application/json; charset=utf-8",
  wasm: "application/wasm",
};

/** Addresses are names of this list, and nothing else is ever opened. */
const files = new Set(
  readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) => name.replaceAll("\\", "/")),
);

const server = createServer((request, response) => {
  const name = (request.url ?? "/").split("?")[0]?.slice(1) || "index.html";
  const file = new URL(name, folder);
  const type = types[name.slice(name.lastIndexOf(".") + 1)] ?? "application/octet-stream";
  if (!files.has(name) || !name.includes(".") || !existsSync(file)) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, { "Content-Type": type, "Cache-Control": "no-cache" });
  createReadStream(file).pipe(response);
});
server.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EADDRINUSE") throw error;
  // Another program has it; any that is free.
  server.listen(0, "127.0.0.1");
});
server.on("listening", () => {
  const { port } = server.address() as AddressInfo;
  console.log(
    `Open http://127.0.0.1:${port}/ in a browser (Ctrl-C stops). The folder is ${fileURLToPath(folder)}`,
  );
});
server.listen(Number(process.argv[2] ?? 8000), "127.0.0.1");
