/** All pixels of a picture as a batch takes them: by the loader's decoder, at full size. */

import { imageInfo } from "../../src/data/pictures/image-info.js";
import type { Transform } from "../../src/data/pictures/augment.js";
import { type Decoder, type Picture, renderInto } from "../../src/data/pictures/render.js";

/** RGB, row by row. The network's inputs are squares, so squares beside each other are put together. */
export async function picturePixels(source: Picture, name: string, decoder?: Decoder): Promise<Buffer> {
  const { width, height } = source.kind === "pixels" ? source : imageInfo(source.bytes, name);
  const edge = Math.min(width, height);
  const all = Buffer.alloc(width * height * 3);
  const square = new Uint8Array(edge * edge * 3);
  for (let at = 0; at < Math.max(width, height); at += edge) {
    const box = { x: Math.min(at, width - edge), y: Math.min(at, height - edge), width: edge, height: edge };
    const transform: Transform = {
      ...{ box, resized: { width: edge, height: edge }, window: { x: 0, y: 0 }, size: edge },
      ...{ filter: "pillow", flip: false, shift: [0, 0, 0], grayscale: false },
      decoding: { fastDct: false, scaled: false },
    };
    await renderInto(source, name, () => transform, square, 0, decoder);
    for (let y = 0; y < edge; y++) {
      all.set(square.subarray(y * edge * 3, (y + 1) * edge * 3), ((box.y + y) * width + box.x) * 3);
    }
  }
  return all;
}
