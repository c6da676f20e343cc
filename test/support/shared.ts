/**
 * Finds test material that is too large, or not ours, to keep in the repository: the folder `shared/data`
 * beside it, or RIFFLE_SHARED.
 *
 * A test that needs it is skipped where it is absent, and says so.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";

import { repository } from "./paths.js";

const root = process.env["RIFFLE_SHARED"] ?? join(repository, "..", "shared", "data");

/** A path under the shared folder, e.g. sharedPath("tf-reference", "ops.npz"). */
export function sharedPath(...parts: string[]): string {
  return join(root, ...parts);
}

/** Options for node:test: `skip` holds the reason when the file is not there. */
export function needs(...parts: string[]): { skip: false | string } {
  const path = sharedPath(...parts);
  return {
    skip: existsSync(path) ? false : `no ${parts.join("/")} (set RIFFLE_SHARED to the test material)`,
  };
}

/** A file kept in the repository's test folder, wherever the compiled test runs. */
export function storedPath(...parts: string[]): string {
  return join(repository, "test", ...parts);
}
