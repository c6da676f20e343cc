/**
 * Builds and runs the engine's own tests, native/test: no Node in the program, so sanitizers and emulators can run it.
 *
 *     node scripts/native-test.mjs            compiled as the addon is
 *     node scripts/native-test.mjs address    under AddressSanitizer and UndefinedBehaviorSanitizer
 *     node scripts/native-test.mjs thread     the thread pool and programs under ThreadSanitizer
 *
 * `--build-only` prints the program's path instead of running it; `--static` and `--arch arm64` are for
 * emulators (scripts/emulate-*.sh). CXX chooses the compiler. Objects are kept in build/native-test.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { commonFlags, instructionSets, kernelDefines, unitsIn } from "./native-flags.mjs";

/** Light, and multiply and add still one operation, as in the addon: some results are compared to the bit. */
const light = ["-O1", "-fexpensive-optimizations", "-g"];
const modes = {
  plain: { flags: ["-O3"], run: [] },
  address: { flags: [...light, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"], run: [] },
  thread: { flags: [...light, "-fsanitize=thread"], run: ["threads"] },
};

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    arch: { type: "string", default: process.arch },
    static: { type: "boolean", default: false },
    "build-only": { type: "boolean", default: false },
  },
});
const name = positionals[0] ?? "plain";
const mode = modes[name];
if (mode === undefined || positionals.length > 1) {
  console.error(`one of ${Object.keys(modes).join(", ")} is expected, not ${positionals.join(" ")}`);
  process.exit(2);
}

const root = fileURLToPath(new URL("..", import.meta.url));
const native = join(root, "native");
const folder = join(
  root,
  "build",
  "native-test",
  `${name}-${options.arch}${options.static ? "-static" : ""}`,
);
const compiler = process.env["CXX"] ?? "c++";
const version = execFileSync(compiler, ["--version"], { encoding: "utf8" });
const program = join(folder, "kernel-tests");

mkdirSync(folder, { recursive: true });
const objects = await buildObjects();
const link = [...mode.flags, ...objects, "-o", program, "-pthread", ...(options.static ? ["-static"] : [])];
const linked = spawnSync(compiler, link, { stdio: ["ignore", "inherit", "inherit"] });
if (linked.status !== 0) process.exit(1);
if (options["build-only"]) {
  console.log(program);
} else {
  process.exit(await runTests());
}

/** Runs the program, everything shared by as many processes as there are cores; prints the sum of what they count. */
async function runTests() {
  const sharers = mode.run.length > 0 ? 1 : availableParallelism();
  const shares = Array.from({ length: sharers }, (_, i) =>
    mode.run.length > 0 ? mode.run : ["share", `${i}`, `${sharers}`],
  );
  const counts = [0, 0, 0];
  const statuses = await Promise.all(
    shares.map(async (words) => {
      const child = spawn(program, words, { stdio: ["ignore", "pipe", "inherit"] });
      // A test's line comes behind what explains it: both together, whatever the others print.
      let block = [];
      for await (const line of createInterface({ input: child.stdout })) {
        const counted = /^(\d+) passed, (\d+) failed, (\d+) skipped$/.exec(line);
        if (counted !== null) counts.forEach((count, i) => (counts[i] = count + Number(counted[i + 1])));
        else block.push(line);
        if (!/^(ok|FAIL|skip) /.test(line)) continue;
        console.log(block.join("\n"));
        block = [];
      }
      if (block.length > 0) console.log(block.join("\n"));
      if (child.exitCode === null && child.signalCode === null) await once(child, "close");
      if (child.signalCode !== null) console.error(`${program} was ended by ${child.signalCode}`);
      return child.exitCode ?? 1;
    }),
  );
  console.log(`${counts[0]} passed, ${counts[1]} failed, ${counts[2]} skipped`);
  return counts[0] === 0 ? 1 : Math.max(...statuses);
}

/** Compiles what has changed; returns every object's path. */
async function buildObjects() {
  const sets = instructionSets(options.arch);
  const common = [
    ...commonFlags,
    ...mode.flags,
    ...sets.flatMap((set) => (set.macro ? [`-D${set.macro}`] : [])),
  ];
  const units = [
    ...sets.map((set) => ({
      source: "kernels/table.cc",
      object: `kernels-${set.name}.o`,
      flags: [...set.flags, ...kernelDefines(set)],
    })),
    // Neither Node-API nor libjpeg is linked: jpeg.cc is then empty.
    ...unitsIn(native, ["runtime", "decode", "test"]).map((unit) => ({ ...unit, flags: [] })),
  ];
  // Whatever a source may include: headers, and the kernels that table.cc gathers.
  const included = readdirSync(native, { recursive: true })
    .filter((file) => file.endsWith(".h") || (file.startsWith("kernels") && file.endsWith(".cc")))
    .sort()
    .map((file) => readFileSync(join(native, file), "utf8"));
  const queue = units.map((unit) => {
    const object = join(folder, unit.object);
    const command = [...common, ...unit.flags, "-c", join(native, unit.source), "-o", object];
    const source = readFileSync(join(native, unit.source), "utf8");
    const stamp = createHash("sha256")
      .update(JSON.stringify([version, command, source, included]))
      .digest("hex");
    return { object, command, stamp };
  });
  const stale = queue.filter(
    ({ object, stamp }) =>
      !existsSync(`${object}.stamp`) || readFileSync(`${object}.stamp`, "utf8") !== stamp,
  );
  const compileNext = async () => {
    for (let unit = stale.shift(); unit; unit = stale.shift()) {
      const status = await new Promise((resolve) => {
        spawn(compiler, unit.command, { stdio: ["ignore", "inherit", "inherit"] }).on("close", resolve);
      });
      if (status !== 0) process.exit(1);
      writeFileSync(`${unit.object}.stamp`, unit.stamp);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, compileNext));
  return queue.map(({ object }) => object);
}
