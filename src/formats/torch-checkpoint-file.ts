/** PyTorch's checkpoints on a disk (torch-checkpoint.ts): a file, or the folder that unpacking one leaves. */

import { readdir } from "node:fs/promises";
import { join } from "node:path";

import { exists } from "../core/durable.js";
import { readWhole } from "./read-file.js";
import { parseMembers, parseTorchCheckpoint, PICKLE } from "./torch-checkpoint.js";
import type { TorchCheckpoint } from "./torch-tensors.js";

const MAX_FILE_BYTES = 2 ** 31;

/** @throws FormatError */
export async function openTorchCheckpoint(path: string): Promise<TorchCheckpoint> {
  return parseTorchCheckpoint(await readWhole(path, MAX_FILE_BYTES), path);
}

/** Whether a folder is what unpacking a zip of PyTorch's leaves. */
export async function isUnzippedCheckpoint(folder: string): Promise<boolean> {
  return (await exists(join(folder, PICKLE))) && (await exists(join(folder, "version")));
}

/** @throws FormatError */
export async function openUnzippedCheckpoint(folder: string): Promise<TorchCheckpoint> {
  const members = new Map<string, Uint8Array>();
  let left = MAX_FILE_BYTES;
  const read = async (name: string): Promise<void> => {
    const content = await readWhole(join(folder, name), left);
    members.set(name, content);
    left -= content.length;
  };
  const storages = (await exists(join(folder, "data"))) ? await readdir(join(folder, "data")) : [];
  const names = [PICKLE, "byteorder", ...storages.sort().map((name) => `data/${name}`)];
  for (const name of names) if (await exists(join(folder, name))) await read(name);
  return parseMembers({ name: "unzipped", content: (name) => members.get(name), begin: () => 0 }, folder, {
    bytes: MAX_FILE_BYTES - left,
    trailing: 0,
  });
}
