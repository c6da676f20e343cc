/**
 * Where a network looks in a picture, drawn: the picture in gray, and over it colours from dark to light where more speaks for
 * the class. The colours get lighter all the way, so they are in order for the colour-blind, too.
 */

/** Little to much, evenly spaced. Source: matplotlib's "inferno" (CC0), every eighth of it. */
const COLOURS = [
  [0x00, 0x00, 0x04],
  [0x21, 0x0c, 0x4a],
  [0x56, 0x10, 0x6e],
  [0x89, 0x22, 0x6a],
  [0xbb, 0x37, 0x54],
  [0xe3, 0x59, 0x32],
  [0xf9, 0x8c, 0x0a],
  [0xf9, 0xc9, 0x32],
  [0xfc, 0xff, 0xa4],
];
const OPACITY = 0.6;

/**
 * @param {HTMLCanvasElement} canvas
 * @param {import("riffle-vision/browser").Heat} look
 */
export function drawHeat(canvas, { pixels, heat, size }) {
  const out = new ImageData(size, size);
  for (let i = 0; i < heat.length; i++) {
    const [red = 0, green = 0, blue = 0] = pixels.subarray(4 * i, 4 * i + 3);
    const gray = 0.299 * red + 0.587 * green + 0.114 * blue;
    const place = (heat[i] ?? 0) * (COLOURS.length - 1);
    const from = Math.min(Math.floor(place), COLOURS.length - 2);
    for (let c = 0; c < 3; c++) {
      const [low, high] = [COLOURS[from]?.[c] ?? 0, COLOURS[from + 1]?.[c] ?? 0];
      out.data[4 * i + c] = OPACITY * (low + (place - from) * (high - low)) + (1 - OPACITY) * gray;
    }
    out.data[4 * i + 3] = 255;
  }
  canvas.width = canvas.height = size;
  canvas.getContext("2d")?.putImageData(out, 0, 0);
}
