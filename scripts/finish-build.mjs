/**
 * After tsc, in `npm run build:ts`: makes the program executable, and removes what was compiled of sources that are gone, which
 * `npm pack` would put into the package and `npm test` would run.
 */

import { chmodSync, existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");
for (const folder of ["src", "test"]) {
  for (const name of readdirSync(join(dist, folder), { recursive: true, encoding: "utf8" })) {
    const [, stem] = /^(.*?)(?:\.d\.ts|\.js|\.js\.map)$/.exec(name) ?? [];
    if (stem === undefined || existsSync(join(root, folder, `${stem}.ts`))) continue;
    rmSync(join(dist, folder, name));
  }
}
chmodSync(join(dist, "src", "cli", "main.js"), 0o755);
