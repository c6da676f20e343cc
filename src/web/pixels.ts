/** A picture's file to the pixels that a network was shown, in a browser: decoded by it, and turned by the network's own rule. */

import { decode } from "./decode.js";
import type { DecodedPicture, Preprocessing } from "./preprocess.js";
import { storedPicture, upright } from "./upright.js";

/** What preprocessing.json holds. */
export interface PagePreprocessing extends Preprocessing {
  /** "apply": pictures are first turned as their EXIF says that the camera was held. */
  readonly exif_orientation: "apply" | "ignore";
}

/** @throws Error in words for people */
export async function pixelsOf(
  picture: Blob,
  { exif_orientation }: Pick<PagePreprocessing, "exif_orientation">,
): Promise<DecodedPicture> {
  const { file, orientation } = storedPicture(new Uint8Array(await picture.arrayBuffer()));
  const pixels = await decode(file);
  const turned = exif_orientation === "apply" ? upright(pixels, orientation) : pixels;
  return { ...turned, channels: 4 };
}
