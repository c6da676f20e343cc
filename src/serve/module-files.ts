/**
 * The files that a page needs to import a module of ours: the module, what it imports, the workers that it starts and the
 * WebAssembly that they load, found by reading what is built. A server hands out these and no other.
 *
 * What is found lies below one folder and is read once, so a page never sees half of an update.
 */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** By path below the folder, with slashes: "dist/src/core/error.js". */
export type ModuleFiles = ReadonlyMap<string, Buffer>;

/**
 * @param folder URL with a slash at its end
 * @param entry path of a module below it
 * @throws Error for an import of a package or from outside of the folder: such a module is not for pages
 */
export function moduleFiles(folder: URL, entry: string): ModuleFiles {
  const files = new Map<string, Buffer>();
  const waiting = [entry];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (files.has(path)) continue;
    const url = new URL(path, folder);
    const bytes = readFileSync(fileURLToPath(url));
    files.set(path, bytes);
    if (!path.endsWith(".js")) continue;
    for (const specifier of specifiersIn(bytes.toString("utf8"))) {
      const { href } = new URL(specifier, url);
      if (!specifier.startsWith(".") || !href.startsWith(folder.href)) {
        throw new Error(`${path} imports ${specifier}, which a page cannot have`);
      }
      waiting.push(href.slice(folder.href.length));
    }
  }
  return files;
}

/** What a compiled module names: `from "x"`, `import "x"`, `import("x")`, `new URL("x", import.meta.url)`. */
function specifiersIn(source: string): string[] {
  const code = source.replace(/\/\*[^]*?\*\/|^\s*\/\/.*$/gm, "");
  const imports = code.matchAll(
    /^(?:import|export)\b[^;'"]*?\bfrom\s*"([^"]+)"|\bimport\s*\(?\s*"([^"]+)"/gm,
  );
  const places = code.matchAll(/\bnew URL\(\s*"([^"]+)",\s*import\.meta\.url\s*\)/g);
  return [...imports, ...places].map(([, first, second]) => first ?? second ?? "");
}
