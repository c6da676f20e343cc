/**
 * Writes docs/parameters.md and docs/zh-CN/parameters.md from the table of settings; needs `npm run build`.
 *
 *     node scripts/parameters-pages.mjs
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { parametersPage } from "../dist/src/cli/parameters-page.js";

const docs = fileURLToPath(new URL("../docs", import.meta.url));
for (const [language, page] of [
  ["en", join(docs, "parameters.md")],
  ["zh-CN", join(docs, "zh-CN", "parameters.md")],
]) {
  mkdirSync(dirname(page), { recursive: true });
  writeFileSync(page, parametersPage(language));
  console.log(page);
}
