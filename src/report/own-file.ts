/**
 * Files that Riffle writes beside a run and a person may go on with: each ends with a sum of what stands above it, so one
 * that was changed by hand is known, and is that person's.
 */

import { createHash } from "node:crypto";

import { exists, replaceFile } from "../core/durable.js";
import { readWhole } from "../formats/read-file.js";

/** Longer than any file written here. */
const MOST_BYTES = 64 * 2 ** 20;

/**
 * Writes the text under that name, whole.
 *
 * @returns false where what stands there is not as it was written here; it is left as it is.
 * @throws ResourceError
 */
export async function replaceOwn(path: string, text: string): Promise<boolean> {
  if (!(await mayReplace(path))) return false;
  await replaceFile(path, [Buffer.from(text + lastLine(text))]);
  return true;
}

/** Whether there is no such file, or one as it was written here. */
export async function mayReplace(path: string): Promise<boolean> {
  return !(await exists(path)) || (await isOwn(path));
}

async function isOwn(path: string): Promise<boolean> {
  const found = await readWhole(path, MOST_BYTES).catch(() => undefined);
  if (found === undefined) return false;
  const text = Buffer.from(found).toString("utf8");
  const at = text.lastIndexOf(BEGIN);
  return at >= 0 && text.slice(at) === lastLine(text.slice(0, at));
}

const BEGIN = "<!-- Written by Riffle";

function lastLine(text: string): string {
  const sum = createHash("sha256").update(text).digest("hex");
  return `${BEGIN}, which writes over it as long as nobody changed it: sha256 ${sum} -->\n`;
}
