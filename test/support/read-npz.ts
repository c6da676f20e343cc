/** All arrays of a small `.npz` file, or those in `names`. */

import type { NpyArray } from "../../src/formats/npy.js";
import { openNpz } from "../../src/formats/npz.js";

export async function readNpz(path: string, names?: readonly string[]): Promise<Map<string, NpyArray>> {
  const npz = await openNpz(path);
  const arrays = new Map<string, NpyArray>();
  for (const name of names ?? npz.names) arrays.set(name, await npz.read(name));
  return arrays;
}
