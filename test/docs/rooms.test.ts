import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join, posix, relative, sep } from "node:path";
import { test } from "node:test";
import { repository as root } from "../support/paths.js";

/** Rooms in the order data meets them: a room may import itself and the rooms before it (ARCHITECTURE.md). */
const rooms = [
  "core",
  "formats",
  "models",
  "program",
  "distributed",
  "backends",
  "data",
  "prepare",
  "settings",
  "run",
  "web",
  "weights",
  "inference",
  "report",
  "finetune",
  "train",
  "browser",
  "measure",
  "serve",
  "cli",
];

/** The rooms that are built. */
const folders = readdirSync(join(root, "src"), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name);

interface RoomImport {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** Every relative import, static or dynamic, of a file in one room of what lies in a room. */
function roomImports(source: string): RoomImport[] {
  return readdirSync(source, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => relative(source, join(entry.parentPath, entry.name)).split(sep).join("/"))
    .flatMap((file) => {
      const text = readFileSync(join(source, file), "utf8");
      const specifiers = [...text.matchAll(/(?:from|import)\s*\(?\s*["'](\.{1,2}\/[^"']+)["']/g)];
      return specifiers.map(([, specifier = ""]) => ({
        file,
        from: roomOf(file),
        to: roomOf(posix.join(posix.dirname(file), specifier)),
      }));
    })
    .filter(({ from, to }) => rooms.includes(from) && rooms.includes(to));
}

function roomOf(path: string): string {
  return path.split("/")[0] ?? "";
}

test("a room imports only itself and the rooms before it", () => {
  const imports = roomImports(join(root, "src"));
  assert.ok(
    imports.length > 20,
    `only ${imports.length} imports found: have the sources or the quotes moved?`,
  );
  const uphill = imports.filter(({ from, to }) => rooms.indexOf(to) > rooms.indexOf(from));
  assert.deepEqual(uphill, []);
});

test("every folder of src is a room", () => {
  assert.deepEqual(
    folders.filter((name) => !rooms.includes(name)),
    [],
  );
});

test("ARCHITECTURE.md has a row for every room, in this order, and for nothing else", () => {
  const page = readFileSync(join(root, "ARCHITECTURE.md"), "utf8");
  const rows = [...page.matchAll(/^\| `([a-z]+)` \|/gm)].map(([, room]) => room);
  assert.deepEqual(
    rows,
    rooms.filter((room) => folders.includes(room)),
  );
});
