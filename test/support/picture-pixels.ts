/** All pixels of a picture as the loader's decoder gives them, at full size and unchanged. */

import type { Size } from "../../src/data/pictures/augment.js";
import { imageInfo } from "../../src/data/pictures/image-info.js";
import { type Decoder, type Pixels, renderInto } from "../../src/data/pictures/render.js";

/** Rendered in squares beside each other, because that is what it makes. */
export async function pixelsOf(
  bytes: Uint8Array,
  name: string,
  decoder?: Decoder,
  upright = false,
): Promise<Pixels> {
  const { width: storedWidth, height: storedHeight } = imageInfo(bytes, name);
  const edge = Math.min(storedWidth, storedHeight);
  let seen: Size = { width: 0, height: 0 };
  const squares: { left: number; top: number; data: Uint8Array }[] = [];
  for (let from = 0, last = false; !last; from += edge) {
    const data = new Uint8Array(edge ** 2 * 3);
    const plan = ({ width, height }: Size) => {
      seen = { width, height };
      const box = {
        x: Math.min(from, width - edge),
        y: Math.min(from, height - edge),
        width: edge,
        height: edge,
      };
      squares.push({ left: box.x, top: box.y, data });
      last = from + edge >= Math.max(width, height);
      return {
        ...{ box, resized: { width: edge, height: edge }, window: { x: 0, y: 0 }, size: edge },
        ...({ filter: "pillow", flip: false, shift: [0, 0, 0], grayscale: false } as const),
        decoding: { fastDct: false, scaled: false },
      };
    };
    await renderInto({ kind: "encoded", bytes, upright }, name, plan, data, 0, decoder);
  }
  const { width, height } = seen;
  const all = Buffer.alloc(width * height * 3);
  for (const { left, top, data } of squares) {
    for (let row = 0; row < edge; row++) {
      all.set(data.subarray(row * edge * 3, (row + 1) * edge * 3), ((top + row) * width + left) * 3);
    }
  }
  return { kind: "pixels", width, height, channels: 3, data: all };
}
