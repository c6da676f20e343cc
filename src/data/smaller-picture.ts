/** A picture at its cached size, for both caches: what is scaled, what is kept as it is, and what does not decode. */

import { DataError, RiffleError, UsageError } from "../core/error.js";
import type { Dataset } from "./dataset.js";
import type { Size } from "./pictures/augment.js";
import { decodingProblem } from "./pictures/decoding-problem.js";
import { imageInfo } from "./pictures/image-info.js";
import { type Orientation, turnObjects, turnSize } from "./pictures/orientation.js";
import { type Encoded, orientationOf, type Pixels, sharpProblem } from "./pictures/render.js";
import { shrunk } from "./pictures/shrink.js";

/** Of JPEG. */
export const QUALITY = 95;

/** The picture at its cached size, encoded; undefined where it cannot be read at all. */
export async function smaller(
  dataset: Dataset,
  sample: number,
  shorterSide: number,
): Promise<Encoded | undefined> {
  let source;
  try {
    source = await dataset.read(sample);
  } catch (error) {
    if (error instanceof DataError) return undefined;
    throw error;
  }
  if (source.kind === "pixels") {
    throw new UsageError({
      what: "these pictures are pixels in memory already; there is nothing to cache",
      where: "option --cache",
      expected: "files or records of encoded pictures",
      found: dataset.name(sample),
      safe: "Nothing was trained",
      hint: "Leave --cache out",
    });
  }
  const name = dataset.name(sample);
  try {
    const size = target(source, name, shorterSide);
    // Kept as it is, too, is what training would refuse: sharp, which shrinks while it decodes, misses damage at the end.
    if (size === undefined || (await decodingProblem(source, name)) !== undefined) return source;
    const small = await shrunk(source, name, size);
    const bytes = await small.jpeg({ quality: QUALITY }).toBuffer();
    return { ...source, bytes, ...boxesOf(source, orientationOf(source, imageInfo(source.bytes, name))) };
  } catch (error) {
    const problem = error instanceof RiffleError ? error : sharpProblem(error, name);
    if (problem instanceof DataError) return source; // does not decode: training says so
    throw problem;
  }
}

/** The picture at its cached size as pixels, or why there is none; one that is kept as it is encoded. */
export async function decoded(
  dataset: Dataset,
  sample: number,
  shorterSide: number,
): Promise<Pixels | Encoded | DataError> {
  const name = dataset.name(sample);
  try {
    const source = await dataset.read(sample);
    if (source.kind === "pixels") return source;
    const info = imageInfo(source.bytes, name);
    const orientation = orientationOf(source, info);
    const size = target(source, name, shorterSide) ?? turnSize(info, orientation);
    const problem = await decodingProblem(source, name);
    if (problem !== undefined) return DataError.at(name, problem);
    if (info.cmyk) return source;
    const small = await shrunk(source, name, size);
    const { data, info: made } = await small.raw().toBuffer({ resolveWithObject: true });
    const { width, height } = made;
    const channels = made.channels === 1 ? 1 : 3;
    return { kind: "pixels", data, width, height, channels, ...boxesOf(source, orientation) };
  } catch (error) {
    const problem = error instanceof RiffleError ? error : sharpProblem(error, name);
    if (problem instanceof DataError) return problem;
    throw problem;
  }
}

/** Where its objects are once it is turned. */
function boxesOf({ boxes }: Encoded, orientation: Orientation): Pick<Encoded, "boxes"> {
  const turned = turnObjects(boxes, orientation);
  return turned === undefined ? {} : { boxes: turned };
}

/** Its cached size, as it is seen; undefined for a picture that is kept as it is. */
function target(source: Encoded, name: string, shorterSide: number): Size | undefined {
  const info = imageInfo(source.bytes, name);
  const { cmyk } = info;
  const { width, height } = turnSize(info, orientationOf(source, info));
  const shorter = Math.min(width, height);
  // sharp has colours of its own for CMYK.
  if (shorter <= shorterSide || cmyk) return undefined;
  const side = (length: number): number => Math.round((length * shorterSide) / shorter);
  return { width: side(width), height: side(height) };
}
