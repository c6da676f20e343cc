/**
 * Weights in several files with an index, as Hugging Face's libraries save large ones:
 *
 *     model.safetensors.index.json   {"metadata": {...}, "weight_map": {tensor's name: "model-00001-of-00002.safetensors"}}
 *
 * A file that the index names lies in the index's folder, or the index is refused: no path out of it is followed.
 */

import { CheckpointError } from "../core/error.js";
import { isPlainName, quoted } from "../formats/plain-name.js";
import { readWhole } from "../formats/read-file.js";
import { utf8Of } from "../formats/utf8.js";

/** Names of tensors, and the file that each lies in. */
export type WeightMap = ReadonlyMap<string, string>;

const MAX_INDEX_BYTES = 16 * 2 ** 20;

/** @throws CheckpointError, FormatError */
export async function readWeightMap(path: string): Promise<WeightMap> {
  const map = weightMapOf(utf8Of(await readWhole(path, MAX_INDEX_BYTES)));
  const refuse = (what: string, found?: string): CheckpointError =>
    new CheckpointError({ what, where: path, expected: 'an object "weight_map" of names of files', found });
  if (map === undefined) throw refuse("is no index of weights in several files");
  for (const [name, file] of map) {
    if (!isPlainName(name)) throw refuse("a tensor's name is empty, too long or not printable", quoted(name));
    if (typeof file !== "string" || !isPlainName(file) || /[/\\]|^\.\.?$/.test(file)) {
      throw refuse(`the tensor ${quoted(name)} lies in no file of this folder`, quoted(String(file)));
    }
  }
  return map as WeightMap;
}

function weightMapOf(text: string | undefined): ReadonlyMap<string, unknown> | undefined {
  try {
    const { weight_map: map } = JSON.parse(text ?? "") as { weight_map?: unknown };
    return map !== null && typeof map === "object" ? new Map(Object.entries(map)) : undefined;
  } catch {
    return undefined;
  }
}
