// Builds the engine's addon, build/riffle.node, with nothing but a C++ compiler (docs/adr/0002).
//
// One kernel source is compiled once per instruction set; the rest once. Objects whose sources, headers and
// command have not changed are kept. CXX chooses the compiler; RIFFLE_CXXFLAGS is added to every command.

import { execFile, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { commonFlags, instructionSets, kernelDefines, unitsIn } from "./native-flags.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const native = join(root, "native");
const build = join(root, "build");
const run = promisify(execFile);

const compiler = findCompiler();
const jpeg = findLibjpeg();
const sets = instructionSets(process.arch).filter((set) => compiler.accepts(set.flags));

const extra = (process.env["RIFFLE_CXXFLAGS"] ?? "").split(" ").filter(Boolean);
const common = [...commonFlags, "-O3", "-fPIC", "-fvisibility=hidden", ...extra];
// What tests look into runs with; an installed package does not have it.
const inspect = { source: "../test/support/inspect.cc", object: "inspect.o" };
const inspected = existsSync(join(native, inspect.source));
const units = [
  ...sets.map((set) => ({
    source: "kernels/table.cc",
    object: `kernels-${set.name}.o`,
    flags: [...set.flags, ...kernelDefines(set)],
  })),
  ...[...unitsIn(native, ["runtime", "ranks", "binding", "decode"]), ...(inspected ? [inspect] : [])].map(
    (unit) => ({
      ...unit,
      flags: [
        ...(/^(runtime|ranks)\//.test(unit.source) ? [] : [`-I${headers()}`, ...jpeg.compile]),
        ...sets.flatMap((set) => (set.macro ? [`-D${set.macro}`] : [])),
        "-DNODE_GYP_MODULE_NAME=riffle",
        ...(inspected ? ["-DRIFFLE_INSPECT"] : []),
      ],
    }),
  ),
];

mkdirSync(join(build, "objects"), { recursive: true });
const headerHash = createHash("sha256");
for (const file of sources().sort()) headerHash.update(readFileSync(join(native, file)));
const everything = headerHash.digest("hex");

let compiled = 0;
await eachOf(units, Math.max(1, availableParallelism()), async (unit) => {
  const object = join(build, "objects", unit.object);
  const command = [...common, ...unit.flags, "-c", join(native, unit.source), "-o", object];
  const stamp = createHash("sha256")
    .update(
      JSON.stringify([compiler, command]) + everything + readFileSync(join(native, unit.source), "utf8"),
    )
    .digest("hex");
  if (existsSync(object) && readOr(`${object}.stamp`) === stamp) return;
  await compile(command, unit.source);
  writeFileSync(`${object}.stamp`, stamp);
  compiled++;
});
const addon = join(build, "riffle.node");
if (compiled > 0 || !existsSync(addon)) {
  const fresh = join(build, `riffle-${process.pid}.node`);
  const shared =
    process.platform === "darwin"
      ? ["-bundle", "-undefined", "dynamic_lookup"]
      : ["-shared", "-Wl,--gc-sections"];
  await compile(
    [
      ...shared,
      ...extra,
      ...units.map((unit) => join(build, "objects", unit.object)),
      "-o",
      fresh,
      ...jpeg.link,
      "-pthread",
      // In its own library before glibc 2.34.
      ...(process.platform === "linux" ? ["-ldl"] : []),
    ],
    "the addon",
  );
  renameSync(fresh, addon);
}
console.log(
  `riffle: engine built with ${compiler.command} ${compiler.version} for ${sets.map((set) => set.name).join(", ")}; ` +
    (jpeg.found ? "JPEG through libjpeg-turbo" : "no libjpeg found, so JPEG through sharp (slower)"),
);

/** The first compiler that answers; without one, two lines that say what to install. */
function findCompiler() {
  const candidates = process.env["CXX"] ? [process.env["CXX"]] : ["c++", "g++", "clang++"];
  for (const command of candidates) {
    try {
      const version = execFileSync(command, ["-dumpfullversion", "-dumpversion"], {
        encoding: "utf8",
        stdio: "pipe",
      });
      const accepts = (flags) => {
        try {
          execFileSync(command, [...flags, "-std=c++20", "-x", "c++", "-fsyntax-only", "-"], {
            input: "",
            stdio: "pipe",
          });
          return true;
        } catch {
          return false;
        }
      };
      if (accepts([])) return { command, version: version.trim(), accepts };
    } catch {
      // Not here: try the next.
    }
  }
  console.error(
    `riffle: no C++20 compiler found (tried ${candidates.join(", ")}); the engine cannot be built.`,
  );
  console.error(
    process.platform === "darwin"
      ? "  Install one with: xcode-select --install"
      : "  Install one with: sudo apt-get install g++  (or: sudo dnf install gcc-c++)",
  );
  console.error("  Then give npm the same command again.");
  process.exit(1);
}

/** libjpeg-turbo through pkg-config: partial decoding needs its jpeg_crop_scanline, which plain libjpeg lacks. */
function findLibjpeg() {
  try {
    const ask = (...flags) =>
      execFileSync("pkg-config", [...flags, "libjpeg"], { encoding: "utf8", stdio: "pipe" })
        .trim()
        .split(/\s+/)
        .filter(Boolean);
    const compile = ask("--cflags");
    const link = ask("--libs");
    const probe =
      "#include <cstdio>\n#include <jpeglib.h>\nint main(){ return &jpeg_crop_scanline != nullptr ? 0 : 1; }\n";
    execFileSync(compiler.command, [...compile, "-std=c++20", "-x", "c++", "-fsyntax-only", "-"], {
      input: probe,
      stdio: "pipe",
    });
    return { found: true, compile: [...compile, "-DRIFFLE_HAVE_LIBJPEG"], link };
  } catch {
    return { found: false, compile: [], link: [] };
  }
}

/** Node-API's headers: the running Node's own, else the node-api-headers package. */
function headers() {
  const own = join(dirname(dirname(process.execPath)), "include", "node");
  if (existsSync(join(own, "node_api.h"))) return own;
  return createRequire(import.meta.url)("node-api-headers").include_dir;
}

function sources() {
  return readdirSync(native, { recursive: true }).filter(
    (file) => file.endsWith(".h") || (file.startsWith("kernels") && file.endsWith(".cc")),
  );
}

async function compile(command, what) {
  try {
    const { stderr } = await run(compiler.command, command, { maxBuffer: 1 << 26 });
    if (stderr.trim()) console.error(stderr);
  } catch (error) {
    console.error(
      `riffle: ${relative(root, join(native, what))} does not compile with ${compiler.command} ${compiler.version}:`,
    );
    console.error(error.stderr ?? error.message);
    process.exit(1);
  }
}

async function eachOf(items, width, work) {
  const queue = [...items];
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let item = queue.shift(); item; item = queue.shift()) await work(item);
    }),
  );
}

function readOr(file) {
  return existsSync(file) ? readFileSync(file, "utf8") : undefined;
}
