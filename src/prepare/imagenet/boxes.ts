/**
 * `boxes.npy`: the objects in the training pictures, by picture.
 *
 * A pickled dict, as the original's numpy.save leaves it: the picture's name without extension -> f32 [k, 4] as xmin,
 * ymin, xmax, ymax, shares of the picture's width and height in [0, 1].
 */

import { DataError } from "../../core/error.js";
import { encodeNpyDict, type NumpyValue, readNpyObject } from "../../formats/npy-object.js";

/**
 * The boxes by picture: rows of xmin, ymin, xmax, ymax.
 *
 * @throws DataError when the file is no such dict, or a box is not inside its picture.
 */
export async function readBoxes(path: string): Promise<Map<string, Float32Array>> {
  const { shape, items } = await readNpyObject(path);
  const [dict] = items;
  if (shape.length > 0 || !(dict instanceof Map)) {
    throw DataError.at(path, "no dict of boxes", { expected: "picture's name -> [k, 4]" });
  }
  const boxes = new Map<string, Float32Array>();
  for (const [name, array] of dict as ReadonlyMap<NumpyValue, NumpyValue>) {
    if (typeof name !== "string") {
      throw DataError.at(path, "a key of the dict is no text", { expected: "a picture's name" });
    }
    boxes.set(name, rowsOf(array, name, path));
  }
  return boxes;
}

/** The bytes of such a file, in pieces. */
export function encodeBoxes(boxes: Iterable<readonly [string, Float32Array]>): Uint8Array[] {
  return encodeNpyDict(boxes, 4);
}

function rowsOf(array: NumpyValue, name: string, path: string): Float32Array {
  const refuse = (what: string, found: string) =>
    DataError.at(`${path}, ${JSON.stringify(name)}`, what, {
      expected: "float32 rows of xmin < xmax, ymin < ymax in [0, 1]",
      found,
    });
  if (array === null || typeof array !== "object" || !("dtype" in array) || array.dtype !== "f4") {
    throw refuse("no array of boxes", "something else");
  }
  if (array.shape.length !== 2 || array.shape[1] !== 4) {
    throw refuse("no rows of four numbers", `shape [${array.shape.join(", ")}]`);
  }
  const rows = Float32Array.from(array.data);
  for (let i = 0; i < rows.length; i += 4) {
    const [xmin, ymin, xmax, ymax] = rows.subarray(i, i + 4) as unknown as [number, number, number, number];
    // Written so that NaN fails as well.
    if (!(xmin >= 0 && xmin < xmax && xmax <= 1 && ymin >= 0 && ymin < ymax && ymax <= 1)) {
      throw refuse(`row ${i / 4} is no box`, [xmin, ymin, xmax, ymax].join(" "));
    }
  }
  return rows;
}
