/** Pictures of a set as small JPEGs inside a page, each a data URI: few, and of a few kilobytes, whatever the set holds. */

import { DataError } from "../core/error.js";
import { type Dataset, upright } from "../data/dataset.js";
import { sharpPixels } from "../data/pictures/render.js";
import { shrunk } from "../data/pictures/shrink.js";
import { seenSize } from "../prepare/sheet-tile.js";
import type { ModelDescription } from "../run/checkpoint-state.js";

/** The longer side, in pixels. */
const SIDE = 160;
/** Of all pictures of a page, before base64 makes four of three. */
export const MOST_BYTES = 2 ** 20;

/**
 * "data:image/jpeg;base64,..." of each sample that can be shown, upright where the model saw it so. One that no longer
 * decodes is left out, and so are those with which {@link MOST_BYTES} would be passed.
 */
export async function thumbnails(
  set: Dataset,
  model: ModelDescription,
  samples: readonly number[],
  signal?: AbortSignal,
): Promise<ReadonlyMap<number, string>> {
  const seen = model.exif_orientation === "apply" ? upright(set) : set;
  const uris = new Map<number, string>();
  let bytes = 0;
  for (const sample of new Set(samples)) {
    signal?.throwIfAborted();
    const jpeg = await thumbnail(seen, sample);
    if (jpeg === undefined || bytes + jpeg.length > MOST_BYTES) continue;
    bytes += jpeg.length;
    uris.set(sample, `data:image/jpeg;base64,${jpeg.toString("base64")}`);
  }
  return uris;
}

async function thumbnail(set: Dataset, sample: number): Promise<Buffer | undefined> {
  const name = set.name(sample);
  try {
    const source = await set.read(sample);
    const size = fitted(seenSize(source, name));
    const kernel = size.isEnlarged ? "nearest" : "lanczos3";
    const image =
      source.kind === "pixels"
        ? sharpPixels(source).resize(size.width, size.height, { fit: "fill", kernel }).toColourspace("srgb")
        : await shrunk(source, name, size, kernel);
    return await image.jpeg({ quality: 80 }).toBuffer();
  } catch (error) {
    if (error instanceof DataError) return undefined;
    throw error;
  }
}

/** As large as goes into the side; small pictures by whole multiples, so that their pixels are seen. */
function fitted({ width, height }: { readonly width: number; readonly height: number }) {
  const longer = Math.max(width, height);
  const scale = longer > SIDE ? SIDE / longer : Math.floor(SIDE / longer);
  const side = (length: number): number => Math.max(1, Math.round(length * scale));
  return { width: side(width), height: side(height), isEnlarged: scale > 1 };
}
