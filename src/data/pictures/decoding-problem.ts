/**
 * Whether a picture decodes to its last coefficient, by the decoder that training uses, so that what passes here
 * is not refused there.
 *
 * Decoded at 1/8 of the size where that is possible: all of the coded data is read and checked, and only the
 * arithmetic that turns it into pixels is spared.
 */

import { DataError } from "../../core/error.js";
import { type Size, wholePicture } from "./augment.js";
import { type Picture, renderInto } from "./render.js";

/** Why the picture does not decode; undefined when it does. */
export async function decodingProblem(source: Picture, where: string): Promise<string | undefined> {
  try {
    // Every pixel counts: Pillow's filter leaves no row out.
    const plan = (size: Size) => wholePicture(size, SIDE, "pillow", { fastDct: true, scaled: true });
    await renderInto(source, where, plan, new Uint8Array(SIDE * SIDE * 3), 0);
    return undefined;
  } catch (error) {
    if (error instanceof DataError) return error.problem.what;
    throw error;
  }
}

/** What the pictures are shrunk to, in pixels; the result is thrown away. */
const SIDE = 8;
