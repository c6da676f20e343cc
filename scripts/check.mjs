/**
 * `npm run check`: types, lint and format, all at once; each prints when it has ended. Exits with 1 where one failed.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";

const checks = [
  "tsc -p tsconfig.json --noEmit",
  "tsc -p examples/teach/tsconfig.json",
  "eslint .",
  "prettier --check .",
];

const statuses = await Promise.all(
  checks.map(async (command) => {
    const [name, ...words] = command.split(" ");
    const child = spawn("npx", ["--no-install", name, ...words], { stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text) => (said += text));
    const [status] = await once(child, "close");
    console.log(`${command}: ${status === 0 ? "good" : `exit code ${status}`}\n${said}`.trimEnd());
    return status ?? 1;
  }),
);
process.exit(Math.max(...statuses) === 0 ? 0 : 1);
