// How the engine's C++ is compiled: the same flags and sources for the addon and for its tests.

import { readdirSync } from "node:fs";
import { join } from "node:path";

export const commonFlags = [
  "-std=c++20",
  // Kernels may fuse multiply and add; nothing else may change a result.
  "-ffp-contract=fast",
  "-fno-math-errno",
  "-fno-trapping-math",
  "-Wall",
  "-Wextra",
  "-Wno-psabi",
  // GCC 12 says it of its own AVX-512 header (gcc bug 105593). Clang does not know it, and GCC does not know the second.
  "-Wno-maybe-uninitialized",
  "-Wno-unknown-warning-option",
];

/**
 * The kernels' variants for a processor family (`process.arch`'s names). Intel's and AMD's first AVX-512 servers
 * have f, bw, dq and vl together.
 */
export function instructionSets(arch) {
  if (arch === "arm64") {
    return [
      { name: "neon", lanes: 4, table: "KernelsBaseline", flags: [] },
      // Only what multiplies bf16, an option from Armv8.2 on.
      {
        name: "neondot",
        lanes: 4,
        dotTable: "DotKernelsNeon",
        flags: ["-march=armv8.2-a+bf16"],
        macro: "RIFFLE_HAVE_NEONDOT",
      },
    ];
  }
  if (arch !== "x64") return [{ name: "plain", lanes: 4, table: "KernelsBaseline", flags: [] }];
  const avx2 = ["-mavx2", "-mfma", "-mtune=haswell"];
  const avx512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"];
  return [
    { name: "sse2", lanes: 4, table: "KernelsBaseline", flags: [] },
    { name: "avx2", lanes: 8, table: "KernelsAvx2", flags: avx2, macro: "RIFFLE_HAVE_AVX2" },
    {
      name: "avx512",
      lanes: 16,
      table: "KernelsAvx512",
      flags: [...avx512, "-mprefer-vector-width=512"],
      macro: "RIFFLE_HAVE_AVX512",
    },
    // Only what multiplies bf16; GCC 12 wants the feature's flag, not a processor's name.
    {
      name: "avx512dot",
      lanes: 16,
      dotTable: "DotKernelsAvx512",
      flags: [...avx512, "-mavx512bf16", "-mprefer-vector-width=512"],
      macro: "RIFFLE_HAVE_AVX512DOT",
    },
    // The AVX-512 shapes on narrower hardware, for tests.
    { name: "wide", lanes: 16, table: "KernelsWide", flags: avx2, macro: "RIFFLE_HAVE_WIDE" },
  ];
}

/** What defines a variant to the sources: its namespace, width and place in the table. */
export function kernelDefines(set) {
  return [
    `-DRIFFLE_ISA=${set.name}`,
    `-DRIFFLE_LANES=${set.lanes}`,
    set.table ? `-DRIFFLE_TABLE=${set.table}` : `-DRIFFLE_DOT_TABLE=${set.dotTable}`,
    `-DRIFFLE_NAME="${set.name}"`,
  ];
}

/** Every C++ file of these folders of `native` and of folders in them: its path there, and a name for its object. */
export function unitsIn(native, folders) {
  return folders.flatMap((folder) =>
    readdirSync(join(native, folder), { recursive: true })
      .filter((file) => file.endsWith(".cc"))
      .sort()
      .map((file) => ({
        source: `${folder}/${file}`,
        object: `${folder}/${file}`.replaceAll("/", "-").replace(/\.cc$/, ".o"),
      })),
  );
}
