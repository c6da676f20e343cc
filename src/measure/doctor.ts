/**
 * What was found on this machine, and whether it is good enough: the first questions of any report about speed
 * or a failed install.
 */

import { availableParallelism } from "node:os";

import { type KeptTuning, keptTunings } from "../backends/autotune.js";
import type { Machine } from "../backends/backend.js";
import { nativeBackend } from "../backends/native/index.js";
import { nodeWasmBackend } from "../backends/wasm/node.js";
import { RiffleError, UsageError } from "../core/error.js";
import { crc32c } from "../formats/crc32c.js";
import { decodingThreads, jpegDecoder } from "../data/pictures/render.js";
import { howToBuild, isBuilt, rebuild, whyNotBuilt } from "../core/addon.js";
import { availableMemory } from "../core/available-memory.js";
import { loadSharp } from "../core/sharp.js";

export interface Finding {
  readonly name: "engine" | "instruction set" | "threads" | "JPEG decoder" | "records" | "memory" | "Node";
  /** In words, numbers with their unit. */
  readonly found: string;
  /** "slow" works, but see `advice`; "missing" keeps everything from working. */
  readonly verdict: "good" | "slow" | "missing";
  /** What follows from it, or what to do; empty where all is well. */
  readonly advice: string;
}

export interface DoctorReport {
  /** Whether nothing is missing. */
  readonly ok: boolean;
  readonly findings: readonly Finding[];
  /** What `--autotune` has kept, as the engine sees it that runs where none is named; empty without one. */
  readonly tunings: readonly KeptTuning[];
}

/** Looks at engine, instruction sets, threads, decoders, memory, Node and kept tunings. It never throws for what is missing. */
export function doctor(): DoctorReport {
  const findings = [...engine(), records(), memory(), node()];
  return { ok: findings.every((finding) => finding.verdict !== "missing"), findings, tunings: tunings() };
}

function tunings(): KeptTuning[] {
  try {
    return keptTunings(isBuilt() ? nativeBackend : nodeWasmBackend());
  } catch (error) {
    // No engine, or none as RIFFLE_ISA wants it, which the findings say.
    if (error instanceof RiffleError) return [];
    throw error;
  }
}

/** What runs where no native engine was built: all of it computes the same bits as that does by SSE2. */
function withoutAddon(): Finding[] {
  const reason = whyNotBuilt();
  const threads = availableParallelism();
  return [
    {
      name: "engine",
      found: `WebAssembly, for the native one is not built${reason === undefined ? "" : `: ${reason}`}`,
      verdict: "slow",
      advice: `The native one is up to three times as fast, and mixed precision and several ranks need it. ${howToBuild}`,
    },
    { name: "threads", found: `${threads}`, verdict: threads > 1 ? "good" : "slow", advice: "" },
    sharpAsDecoder(""),
  ];
}

/** What decodes JPEGs where libjpeg-turbo does not. */
function sharpAsDecoder(advice: string): Finding {
  const name = "JPEG decoder";
  try {
    return { name, found: `sharp ${loadSharp().versions.sharp ?? ""}`.trim(), verdict: "slow", advice };
  } catch (error) {
    if (!(error instanceof RiffleError)) throw error;
    return { name, found: "none", verdict: "missing", advice: error.message };
  }
}

/** The native engine and what it says of the machine. */
function engine(): Finding[] {
  if (!isBuilt()) return withoutAddon();
  let found: Machine;
  try {
    found = nativeBackend.machine();
  } catch (error) {
    if (!(error instanceof RiffleError)) throw error;
    const missing = { verdict: "missing", advice: error.message } as const;
    // The only usage that can be wrong here is RIFFLE_ISA's.
    return error instanceof UsageError
      ? [{ name: "instruction set", found: "not the one that RIFFLE_ISA names", ...missing }]
      : [{ name: "engine", found: "built, but does not load", ...missing }];
  }
  const narrowed = found.isa !== found.available.at(-1);
  const plain = found.isa === "sse2";
  return [
    { name: "engine", found: `built by ${found.compiler}`, verdict: "good", advice: "" },
    {
      name: "instruction set",
      found:
        `${found.isa}${found.forced ? ", forced by RIFFLE_ISA" : ""} ` +
        `(this machine runs ${found.available.join(", ")})`,
      verdict: narrowed || plain ? "slow" : "good",
      advice: narrowed
        ? "Leave RIFFLE_ISA unset to use the widest"
        : plain
          ? "Without AVX2 the engine runs at a fraction of its speed"
          : "",
    },
    {
      name: "threads",
      found: `${found.threads}`,
      verdict: found.threads > 1 ? "good" : "slow",
      advice: found.threads > 1 ? "" : "Decoding and training share one core",
    },
    jpegDecoder() === "libjpeg-turbo"
      ? {
          name: "JPEG decoder",
          found: `libjpeg-turbo, on ${decodingThreads()} threads`,
          verdict: decodingThreads() < found.threads ? "slow" : "good",
          advice:
            decodingThreads() < found.threads
              ? `UV_THREADPOOL_SIZE=${found.threads} in the environment lets that many threads decode`
              : "",
        }
      : sharpAsDecoder(
          `Install libjpeg-turbo's headers (Debian: libjpeg62-turbo-dev, Ubuntu: libjpeg-turbo8-dev, Fedora: libjpeg-turbo-devel, macOS: brew install jpeg-turbo) and pkg-config, then ${rebuild}`,
        ),
  ];
}

/** Below this, checking every byte of records takes a share of a core that training notices. */
const ENOUGH_CRC = 1e9;

/** Every byte of a record passes its checksum: is it right, and fast enough? */
function records(): Finding {
  const right = crc32c(Buffer.from("123456789")) === 0xe3069283; // the check value of CRC-32C (RFC 3720)
  const bytes = new Uint8Array(2 ** 22).fill(1);
  let rate = 0;
  // The best of a few: something else may run meanwhile.
  for (let i = 0; i < 5; i++) {
    const started = performance.now();
    crc32c(bytes);
    rate = Math.max(rate, (1000 * bytes.length) / (performance.now() - started));
  }
  return {
    name: "records",
    found: right
      ? `checked by CRC-32C at ${(rate / 1e9).toFixed(1)} GB/s`
      : "a CRC-32C that computes wrongly",
    verdict: !right ? "missing" : rate >= ENOUGH_CRC ? "good" : "slow",
    advice: !right ? `Build the engine again: ${rebuild}` : "",
  };
}

/** Below this the default batch of the paper's network does not fit. */
const ENOUGH_MEMORY = 2e9;

/** What this process may still take: containers and ulimit limit it below what the machine has. */
function memory(): Finding {
  const limit = availableMemory();
  const enough = limit.bytes >= ENOUGH_MEMORY;
  return {
    name: "memory",
    found: `${(limit.bytes / 1e9).toFixed(1)} GB (${limit.source})`,
    verdict: enough ? "good" : "slow",
    advice: enough
      ? ""
      : "Train with a smaller --image_size, or a smaller --batch_size and an --lr smaller in proportion",
  };
}

function node(): Finding {
  return { name: "Node", found: process.version, verdict: "good", advice: "" };
}
