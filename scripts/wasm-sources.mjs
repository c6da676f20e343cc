// What native/wasm/riffle.wasm is made of, as one number: a test compares it with that of the file (riffle.json), so that no source
// changes without it.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const FOLDERS = ["native/kernels", "native/simd", "native/runtime", "native/decode", "native/wasm"];
const SCRIPTS = ["scripts/build-wasm.mjs", "scripts/native-flags.mjs"];

/** SHA-256 over the sources' names and bytes, and those of what compiles them. */
export function wasmSources(root) {
  const files = FOLDERS.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true })
      .filter((file) => /\.(cc|h)$/.test(file))
      .map((file) => `${folder}/${file.replaceAll("\\", "/")}`),
  );
  const hash = createHash("sha256");
  for (const file of [...files, ...SCRIPTS].sort())
    hash
      .update(`${file}\0`)
      .update(readFileSync(join(root, file)))
      .update("\0");
  return hash.digest("hex");
}
