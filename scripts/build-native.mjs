// Builds the engine's addon, build/riffle.node, with nothing but a C++ compiler (docs/adr/0002).
//
// One kernel source is compiled once per instruction set; the rest once. Objects whose sources, headers and
// command have not changed are kept. CXX chooses the compiler; RIFFLE_CXXFLAGS is added to every command.
//
// With --install, as npm calls it, an engine that cannot be built is a notice and no failure: all but ranks works without it,
// only slower. `npm rebuild` asks for the engine, and fails. build/not-built.txt keeps the reason for `riffle doctor`.

import { execFile, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"; // prettier-ignore
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
/** As src/core/addon.ts says it. */
const compilers =
  "sudo apt-get install g++ (Debian, Ubuntu), sudo dnf install gcc-c++ (Fedora), apk add g++ (Alpine), xcode-select --install (macOS)";

/** Why the engine is not built: one line that says it, and what the compiler wrote. */
class NotBuilt extends Error {
  constructor(message, output = "") {
    super(message);
    this.output = output;
  }
}

const addon = join(build, "riffle.node");
/** The sources that the addon was made of. */
const madeOf = `${addon}.sources`;
const reasonFile = join(build, "not-built.txt");
const stopping = new AbortController();
let compiler;
try {
  await buildAddon();
} catch (error) {
  if (!(error instanceof NotBuilt)) throw error;
  stopping.abort();
  giveUp(error);
}

async function buildAddon() {
  if (process.platform === "win32") throw new NotBuilt("there is none for Windows yet");
  compiler = findCompiler();
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
    await compile(command, relative(root, join(native, unit.source)));
    writeFileSync(`${object}.stamp`, stamp);
    compiled++;
  });
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
  writeFileSync(madeOf, sourcesHash());
  rmSync(reasonFile, { force: true });
  console.log(
    `riffle: engine built with ${compiler.command} ${compiler.version} for ${sets.map((set) => set.name).join(", ")}; ` +
      (jpeg.found ? "JPEG through libjpeg-turbo" : "no libjpeg found, so JPEG through sharp (slower)"),
  );
}

/** The first compiler that answers. */
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
  throw new NotBuilt(`no C++20 compiler was found (tried ${candidates.join(", ")})`);
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
    const { stderr } = await run(compiler.command, command, { maxBuffer: 1 << 26, signal: stopping.signal });
    if (stderr.trim()) console.error(stderr);
  } catch (error) {
    const output = error.stderr?.trim() || error.message;
    const lines = output.split("\n");
    const first = lines.find((line) => /error/i.test(line)) ?? lines[0];
    throw new NotBuilt(
      `${what} does not compile with ${compiler.command} ${compiler.version}: ` +
        first.replaceAll(`${root}/`, "").trim(),
      output,
    );
  }
}

/** The notice of an installation, or the failure of a build that was asked for. */
function giveUp({ message, output }) {
  const isAsked = !process.argv.includes("--install") || process.env["npm_command"] === "rebuild";
  const isWindows = process.platform === "win32";
  if (isAsked) {
    if (output) console.error(output);
    console.error(`riffle: the native engine cannot be built: ${message}`);
    if (!isWindows) console.error(`  Install a C++20 compiler: ${compilers}`);
    process.exit(1);
  }
  // One made of other sources would compute something else than this version does.
  if (existsSync(addon) && readOr(madeOf) === sourcesHash()) {
    console.error(`riffle: the native engine stays as it was built before: ${message}`);
    return;
  }
  rmSync(addon, { force: true });
  mkdirSync(build, { recursive: true });
  writeFileSync(reasonFile, `${message}\n`);
  const again = /[\\/]node_modules[\\/]/.test(root) ? "npm rebuild riffle-vision" : "npm run build:native";
  console.error(`riffle: the native engine was not built: ${message}`);
  console.error(
    "  All but mixed precision and training with several ranks works without it; training and inference are slower.",
  );
  if (!isWindows)
    console.error(`  For the fast one install a C++20 compiler, then ${again}:\n  ${compilers}`);
}

/** Of everything that is compiled. */
function sourcesHash() {
  const hash = createHash("sha256");
  for (const file of readdirSync(native, { recursive: true }).sort())
    if (/\.(h|cc)$/.test(file) && !file.startsWith("test"))
      hash.update(file).update(readFileSync(join(native, file)));
  return hash.digest("hex");
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
