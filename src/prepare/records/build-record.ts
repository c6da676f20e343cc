/**
 * One picture as one tf.train.Example, under the original's keys: `image`, `label` and, where boxes were asked for,
 * `xmin ymin xmax ymax`.
 *
 * A colour JPEG goes in byte for byte. A grayscale one is decoded and written again as colour, as the original did
 * with Pillow: quality 75, chroma at half the resolution. Its bytes differ from Pillow's, its pixels hardly.
 * Other formats go in byte for byte, so that records train to the bits of the same files; with `formats: "jpeg"` they are
 * left out, as the original leaves them out.
 *
 * Source: create_tfrecords.py of TropComplique/shufflenet-v2-tensorflow @ 22e5615.
 */

import { examplePieces, type Feature } from "../../formats/tf-example.js";
import { DataError } from "../../core/error.js";
import { imageInfo, kindOf } from "../../data/pictures/image-info.js";

/** A row of the metadata, ready to be written. */
export interface PictureRow {
  readonly path: string;
  readonly label: number;
  /** xmin, ymin, xmax, ymax of each object, as shares of the picture; undefined for records without these keys. */
  readonly boxes: Float32Array | undefined;
}

/** Which pictures become records: all that training reads, or JPEGs alone. */
export const recordFormats = ["all", "jpeg"] as const;
export type RecordFormats = (typeof recordFormats)[number];

/** How a picture is judged. */
export interface BuildSettings {
  readonly formats: RecordFormats;
  /** Decode it too, and leave out what does not decode. */
  readonly verify: boolean;
}

export type Built = BuiltRecord | SkippedPicture;

interface BuiltRecord {
  /** The message in pieces; the picture is one of them. */
  readonly example: readonly Uint8Array[];
  /** Whether it was grayscale. */
  readonly reencoded: boolean;
}

interface SkippedPicture {
  readonly skip: string;
}

/** The record of a picture whose file holds `bytes`. */
export async function buildRecord(
  bytes: Uint8Array,
  row: PictureRow,
  { formats, verify }: BuildSettings,
): Promise<Built> {
  const verdict = judge(bytes, row.path, formats);
  if (typeof verdict === "object") return verdict;
  if (verify || verdict === "grayscale") {
    // Loaded here, as sharp below: few pictures need them, and every worker would wait for them.
    const { decodingProblem } = await import("../../data/pictures/decoding-problem.js");
    const problem = await decodingProblem({ kind: "encoded", bytes }, row.path);
    if (problem !== undefined) return { skip: problem };
  }
  if (verdict === "keep") return { example: exampleOf(bytes, row), reencoded: false };
  const colour = await asColour(bytes, row.path);
  return "skip" in colour ? colour : { example: exampleOf(colour, row), reencoded: true };
}

/** The record of a picture that is taken as it is; undefined for one that needs {@link buildRecord}. */
export function buildPlainRecord(
  bytes: Uint8Array,
  row: PictureRow,
  formats: RecordFormats,
): Built | undefined {
  const verdict = judge(bytes, row.path, formats);
  if (typeof verdict === "object") return verdict;
  return verdict === "keep" ? { example: exampleOf(bytes, row), reencoded: false } : undefined;
}

/**
 * What becomes of a picture: its bytes as they are, made RGB first, or left out for a reason. What training would
 * refuse is left out; of JPEGs so is what the original leaves out, which keeps what Pillow opens as one of mode RGB, and L
 * after making it RGB. Only headers are read, as there: a picture damaged further in is kept unless `verify` decodes it.
 */
export function judge(
  bytes: Uint8Array,
  where: string,
  formats: RecordFormats,
): "keep" | "grayscale" | SkippedPicture {
  const kind = kindOf(bytes);
  if (kind !== "a JPEG" && formats === "jpeg")
    return { skip: /picture$|bytes$/.test(kind) ? kind : `${kind}, not a JPEG` };
  try {
    const { grayscale, cmyk } = imageInfo(bytes, where);
    if (cmyk) return { skip: "a CMYK JPEG" };
    return grayscale ? "grayscale" : "keep";
  } catch (error) {
    if (error instanceof DataError) return { skip: error.problem.what };
    throw error;
  }
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

/** Three equal channels and no profile, as Pillow makes them. */
async function asColour(bytes: Uint8Array, where: string): Promise<Uint8Array | SkippedPicture> {
  const { sharpProblem, withSharp } = await import("../../data/pictures/render.js");
  try {
    return await withSharp(bytes)
      .toColourspace("srgb")
      // PIL.Image.save's defaults.
      .jpeg({ quality: 75, chromaSubsampling: "4:2:0", optimiseCoding: false })
      .toBuffer();
  } catch (error) {
    const problem = sharpProblem(error, where);
    if (problem instanceof DataError) return { skip: problem.problem.what };
    throw problem;
  }
}
