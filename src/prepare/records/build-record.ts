/**
 * One picture as one tf.train.Example, under the original's keys: `image`, `label` and, where boxes were asked for,
 * `xmin ymin xmax ymax`.
 *
 * A colour JPEG goes in byte for byte. A grayscale one is decoded and written again as colour, as the original did
 * with Pillow: quality 75, chroma at half the resolution. Its bytes differ from Pillow's, its pixels hardly.
 *
 * Source: create_tfrecords.py of TropComplique/shufflenet-v2-tensorflow @ 22e5615.
 */

import { examplePieces, type Feature } from "../../formats/tf-example.js";
import { judge, pictureKind } from "./jpeg-kind.js";

/** A row of the metadata, ready to be written. */
export interface PictureRow {
  readonly path: string;
  readonly label: number;
  /** xmin, ymin, xmax, ymax of each object, as shares of the picture; undefined for records without these keys. */
  readonly boxes: Float32Array | undefined;
}

export type Built = BuiltRecord | SkippedPicture;

export interface BuiltRecord {
  /** The message in pieces; the picture is one of them. */
  readonly example: readonly Uint8Array[];
  /** Whether it was grayscale. */
  readonly reencoded: boolean;
}

export interface SkippedPicture {
  readonly skip: string;
}

/** The record of a picture whose file holds `bytes`; `verify` decodes it too, and skips what does not decode. */
export async function buildRecord(bytes: Uint8Array, row: PictureRow, verify: boolean): Promise<Built> {
  const verdict = judge(pictureKind(bytes));
  if (typeof verdict === "object") return verdict;
  if (verify) {
    const { decodingProblem } = await import("../../data/pictures/decoding-problem.js");
    const problem = await decodingProblem({ kind: "encoded", bytes }, row.path);
    if (problem !== undefined) return { skip: problem };
  }
  if (verdict === "keep") return { example: exampleOf(bytes, row), reencoded: false };
  const colour = await asColour(bytes);
  return "skip" in colour ? colour : { example: exampleOf(colour.bytes, row), reencoded: true };
}

/** The record of a picture that is taken as it is; undefined for one that needs {@link buildRecord}. */
export function buildPlainRecord(bytes: Uint8Array, row: PictureRow): Built | undefined {
  const verdict = judge(pictureKind(bytes));
  if (typeof verdict === "object") return verdict;
  return verdict === "keep" ? { example: exampleOf(bytes, row), reencoded: false } : undefined;
}

function exampleOf(image: Uint8Array, { label, boxes }: PictureRow): Uint8Array[] {
  const features: [string, Feature][] = [
    ["image", { kind: "bytes", values: [image] }],
    ["label", { kind: "ints", values: [BigInt(label)] }],
  ];
  if (boxes !== undefined) {
    SIDES.forEach((side, column) => {
      const values = new Float32Array(boxes.length / SIDES.length);
      for (let object = 0; object < values.length; object++) {
        values[object] = boxes[object * SIDES.length + column] as number;
      }
      features.push([side, { kind: "floats", values }]);
    });
  }
  return examplePieces(features);
}

/** The columns of a box, in the order of boxes.npy. */
const SIDES = ["xmin", "ymin", "xmax", "ymax"] as const;

/** Three equal channels and no profile, as Pillow makes them; a damaged picture cannot be made colour. */
async function asColour(bytes: Uint8Array): Promise<{ readonly bytes: Uint8Array } | SkippedPicture> {
  // Loaded here, because few pictures need it and every worker would wait for it.
  const { default: sharp } = await import("sharp");
  try {
    const jpeg = sharp(bytes, { failOn: "warning", ignoreIcc: true })
      .toColourspace("srgb")
      // PIL.Image.save's defaults.
      .jpeg({ quality: 75, chromaSubsampling: "4:2:0", optimiseCoding: false });
    return { bytes: await jpeg.toBuffer() };
  } catch (error) {
    const reason = error instanceof Error ? error.message.replaceAll("\n", "; ") : String(error);
    return { skip: `a grayscale JPEG that does not decode: ${reason}` };
  }
}
