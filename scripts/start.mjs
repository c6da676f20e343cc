// npm start: the demo; where something is not installed or built, what to do about it.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const main = join(root, "dist", "src", "cli", "main.js");
const steps = [
  ["node_modules", "nothing is installed yet", "npm ci installs and builds"],
  ["dist/src/cli/main.js", "the TypeScript is not compiled", "npm run build:ts compiles it"],
];
const missing = steps.find(([path]) => !existsSync(join(root, path)));
if (missing !== undefined) {
  const [, what, remedy] = missing;
  console.error(`riffle: ${what}.\n  ${remedy}; then npm start`);
  process.exitCode = 6;
} else {
  process.argv.splice(1, 1, main, "demo");
  await import(pathToFileURL(main).href);
}
