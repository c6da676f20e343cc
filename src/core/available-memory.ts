/**
 * What memory the process may still take, and who sets the limit. Sizes are in bytes.
 */

import { readFileSync } from "node:fs";
import { freemem } from "node:os";

/** What the process may still take, and who says so. */
export interface MemoryLimit {
  readonly bytes: number;
  readonly source: string;
}

/** The tightest of: free memory (control groups counted) and the limit on the address space. */
export function availableMemory(): MemoryLimit {
  const used = process.memoryUsage.rss();
  // Node 20.13 and later know the control group's limit.
  const free = typeof process.availableMemory === "function" ? process.availableMemory() : freemem();
  const limits: MemoryLimit[] = [{ bytes: free + used, source: "free memory" }];
  const addressSpace = addressSpaceLeft();
  if (addressSpace !== undefined) {
    limits.push({ bytes: addressSpace + used, source: "limit on the address space (ulimit -v)" });
  }
  return limits.reduce((tightest, limit) => (limit.bytes < tightest.bytes ? limit : tightest));
}

/** Linux only; undefined where there is no limit. */
function addressSpaceLeft(): number | undefined {
  try {
    const limits = readFileSync("/proc/self/limits", "utf8");
    const limit = /^Max address space\s+(\d+)/m.exec(limits)?.[1];
    if (limit === undefined) return undefined;
    const status = readFileSync("/proc/self/status", "utf8");
    const usedKilobytes = Number(/^VmSize:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
    return Math.max(0, Number(limit) - usedKilobytes * 1024);
  } catch {
    return undefined;
  }
}
