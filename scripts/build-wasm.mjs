/**
 * Builds the engine for WebAssembly, native/wasm/riffle.wasm, which is part of the repository: nobody needs this who does not
 * change its C++. The compiler is Zig's C++ (Clang and its libraries in one package), and the file is the same, byte for byte, for
 * the same sources and the same version of it:
 *
 *     pip install ziglang==0.17.1
 *     node scripts/build-wasm.mjs            writes the file and what it was made of (riffle.json)
 *     node scripts/build-wasm.mjs --check    builds it elsewhere and compares; exit code 1 where they differ
 */

import { execFile, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { commonFlags, kernelDefines, unitsIn } from "./native-flags.mjs";
import { wasmSources } from "./wasm-sources.mjs";

/** What built the file in the repository; another version may give other bytes. */
const ZIG = "0.17.1";
const MEBIBYTE = 2 ** 20;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const native = join(root, "native");
const run = promisify(execFile);

const target = [
  ...["-target", "wasm32-wasi"],
  "-mcpu=generic+simd128+bulk_memory+atomics+mutable_globals+nontrapping_fptoint+sign_ext",
  "-mexec-model=reactor",
];
const flags = [
  ...target,
  ...commonFlags,
  ...["-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-fvisibility=hidden", "-g0"],
  ...["-ffunction-sections", "-fdata-sections", "-DRIFFLE_F32_ONLY"],
];
/** One set of kernels, for 128-bit vectors. */
const kernels = {
  source: "kernels/table.cc",
  object: "kernels.o",
  flags: ["-Os", ...kernelDefines({ name: "wasm", lanes: 4, table: "KernelsBaseline" })],
};
/** What records reading and decoding by libuv's threads, of which there are none. */
const leftOut = new Set(["runtime/picture_jobs.cc"]);
const units = [
  kernels,
  ...unitsIn(native, ["runtime", "wasm"])
    .filter(({ source }) => !leftOut.has(source))
    .map((unit) => ({ ...unit, flags: ["-Os"] })),
  // -Os leaves its loops over pixels scalar: a picture takes 1.0 ms then, and 0.3 so.
  {
    source: "decode/resize.cc",
    object: "decode-resize.o",
    flags: ["-O2", "-fno-unroll-loops", "-mllvm", "-inline-threshold=8"],
  },
  { source: "decode/crc32c.cc", object: "decode-crc32c.o", flags: ["-Os"] },
];

const zig = findZig();
const built = mkdtempSync(join(tmpdir(), "riffle-wasm-"));
try {
  const wasm = await build(built);
  const made = {
    sha256: sha256(readFileSync(wasm)),
    compiler: `Zig ${zig.version}`,
    sources: wasmSources(root),
  };
  const committed = join(native, "wasm", "riffle.wasm");
  if (process.argv.includes("--check")) {
    const isSame = made.sha256 === sha256(readFileSync(committed));
    console.log(
      isSame
        ? `riffle: native/wasm/riffle.wasm is what its sources give with ${made.compiler}`
        : `riffle: native/wasm/riffle.wasm differs from what its sources give with ${made.compiler}: node scripts/build-wasm.mjs`,
    );
    process.exitCode = isSame ? 0 : 1;
  } else {
    copyFileSync(wasm, committed);
    // The linker makes it a program, of a mode that differs from a clone's, and the package with it.
    chmodSync(committed, 0o644);
    writeFileSync(join(native, "wasm", "riffle.json"), `${JSON.stringify(made, null, 2)}\n`);
    console.log(`riffle: native/wasm/riffle.wasm built with ${made.compiler}`);
  }
} finally {
  rmSync(built, { recursive: true });
}

async function build(folder) {
  const queue = [...units];
  await Promise.all(
    Array.from({ length: availableParallelism() }, async () => {
      for (let unit = queue.shift(); unit; unit = queue.shift()) {
        await compile([...flags, ...unit.flags, "-c", unit.source, "-o", join(folder, unit.object)]);
      }
    }),
  );
  const wasm = join(folder, "riffle.wasm");
  await compile([
    ...target,
    ...["-O3", "-s", "-o", wasm, ...units.map(({ object }) => join(folder, object))],
    // The memory is JavaScript's, shared with workers; what it may grow to is all that 32 bits can name but the last page.
    ...["--import-memory", "--shared-memory", `--max-memory=${4096 * MEBIBYTE - 65536}`, "--gc-sections"].map(
      linked,
    ),
    ...["--export=__stack_pointer", "-z,stack-size=1048576"].map(linked),
  ]);
  return wasm;
}

function linked(option) {
  return `-Wl,${option}`;
}

async function compile(options) {
  try {
    const { stderr } = await run(zig.command, [...zig.before, "c++", ...options], {
      cwd: native,
      maxBuffer: 1 << 26,
    });
    if (stderr.trim()) console.error(stderr);
  } catch (error) {
    console.error(error.stderr || error.message);
    process.exit(1);
  }
}

/** Zig of PyPI's package, or one that is installed. */
function findZig() {
  const ways = [
    ...(process.env["PYTHON"] ? [[process.env["PYTHON"], "-m", "ziglang"]] : []),
    ["python3", "-m", "ziglang"],
    ["python", "-m", "ziglang"],
    ["zig"],
  ];
  for (const [command, ...before] of ways) {
    try {
      const version = execFileSync(command, [...before, "version"], {
        encoding: "utf8",
        stdio: "pipe",
      }).trim();
      if (version !== ZIG) console.error(`riffle: Zig ${version} is not ${ZIG}; its bytes may be others`);
      return { command, before, version };
    } catch {
      // Not here: try the next.
    }
  }
  console.error(`riffle: no Zig found; install it with: pip install ziglang==${ZIG}`);
  process.exit(1);
}

function sha256(bytes) {
  return createHash("sha256").update(bytes).digest("hex");
}
