/** Where tests find things: this file runs as dist/test/support/paths.js, and every other path is counted from here. */

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

/** The checkout. */
export const repository = join(here, "..", "..", "..");

/** The compiled command, `riffle`. */
export const program = join(here, "..", "..", "src", "cli", "main.js");

/** A process that trains through the API and reports on its IPC channel. */
export const trainChild = join(here, "train-child.js");
