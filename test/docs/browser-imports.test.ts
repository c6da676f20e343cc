import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";

import { repository } from "../support/paths.js";

/** What a page loads, and what its workers do. */
const entries = ["index", "worker", "thread"];

interface Import {
  readonly file: string;
  readonly specifier: string;
}

/** All that the compiled files import, types left out, from the entries on. */
function closure(): { readonly files: readonly string[]; readonly imports: readonly Import[] } {
  const files = new Set<string>();
  const imports: Import[] = [];
  const visit = (path: string): void => {
    const file = relative(repository, path);
    if (files.has(file)) return;
    files.add(file);
    const text = readFileSync(path, "utf8");
    const found = text.matchAll(
      /^(?:import|export)\s[^"';]*?\bfrom\s+["']([^"']+)["']|\bimport\s*\(?\s*["']([^"']+)["']/gm,
    );
    for (const [, named, plain] of found) {
      const specifier = (named ?? plain) as string;
      imports.push({ file, specifier });
      if (specifier.startsWith(".")) visit(resolve(dirname(path), specifier));
    }
  };
  for (const entry of entries) visit(join(repository, "dist", "src", "browser", `${entry}.js`));
  return { files: [...files], imports };
}

const { files, imports } = closure();

test("what a page imports needs neither Node nor a package: a worker finds no names of packages", () => {
  assert.ok(files.length > 80, `only ${files.length} files: has the compiler's form of imports changed?`);
  assert.deepEqual(
    imports.filter(({ specifier }) => !specifier.startsWith(".")),
    [],
  );
});

test("it uses nothing that only Node has", () => {
  const using = files.filter((file) => {
    const code = readFileSync(join(repository, file), "utf8").replace(/\/\*[^]*?\*\/|\/\/.*$/gm, "");
    return /\bBuffer\s*[.(]|\bprocess\s*\.|\brequire\s*\(/.test(code);
  });
  assert.deepEqual(using, []);
});
