/**
 * Runs the compiled tests, `dist/**\/*.test.js`, each file in a process of its own.
 *
 *     node scripts/test.mjs              every test
 *     node scripts/test.mjs golden npy   only files whose path contains "golden" or "npy"
 *
 * A file with the line `// Needs the native engine.` is left out where that is not built, named, and counted as skipped.
 *
 * Ends with one plain line of the runner's own counts, `N passed, N failed, N skipped`; exits with 1 when
 * anything failed, when nothing was found or when `dist/` is missing.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");
if (!existsSync(dist)) fail("there is no dist/: run `npm run build` first");

const filters = process.argv.slice(2);
const isBuilt = existsSync(join(root, "build", "riffle.node"));
const leftOut = [];
const files = readdirSync(dist, { recursive: true })
  .filter((path) => path.endsWith(".test.js"))
  // What was compiled of a source that has moved since is no test any more.
  .filter((path) => existsSync(join(root, path.replace(/js$/, "ts"))))
  .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
  .filter((path) => {
    const source = readFileSync(join(root, path.replace(/js$/, "ts")), "utf8");
    if (isBuilt || !/^\/\/ Needs the native engine\.$/m.test(source)) return true;
    leftOut.push(path);
    return false;
  })
  .map((path) => join(dist, path))
  .sort();
for (const path of leftOut.sort())
  console.log(`skipped: ${path.replace(/js$/, "ts")} needs the native engine, which is not built`);
if (files.length === 0 && leftOut.length === 0)
  fail(`no test file${filters.length > 0 ? ` matches ${filters.join(" or ")}` : ""} in dist/`);

process.chdir(root);
// Stack traces point at the TypeScript source, in the files' own processes too.
process.env["NODE_OPTIONS"] = `${process.env["NODE_OPTIONS"] ?? ""} --enable-source-maps`.trim();

const counts = { pass: 0, fail: 0, cancelled: 0, skipped: 0, todo: 0 };
const events = run({ files, concurrency: availableParallelism(), timeout: 15 * 60_000 });
events.on("test:diagnostic", ({ message, nesting }) => {
  const [, name, count] = /^(\w+) (\d+)$/.exec(message) ?? [];
  if (nesting === 0 && name !== undefined && name in counts) counts[name] = Number(count);
});
events.compose(new spec()).pipe(process.stdout);
events.on("end", () => {
  process.on("exit", () => {
    const failed = counts.fail + counts.cancelled;
    console.log(
      `${counts.pass} passed, ${failed} failed, ${counts.skipped + counts.todo + leftOut.length} skipped`,
    );
    if (failed > 0 || (counts.pass === 0 && leftOut.length === 0)) process.exitCode = 1;
  });
});

function fail(message) {
  console.error(message);
  process.exit(1);
}
