/**
 * The colour that lies under the transparent parts of a GIF's first frame. A GIF has no alpha, only an entry of its palette
 * that is not to be drawn; libvips makes it black, Pillow's `convert("RGB")` leaves it the colour that it has, which is what
 * training elsewhere has seen: for drawings and logos mostly white.
 *
 * Source: GIF89a Specification, sections 18 to 23.
 */

/** As [red, green, blue]; undefined where the bytes break off before the first frame, or there is no palette. */
export function gifColour(bytes: Uint8Array): readonly [number, number, number] | undefined {
  let palette = paletteAt(bytes, 13, bytes[10] ?? 0);
  let entry = 0;
  for (let at = 13 + (palette?.length ?? 0); at < bytes.length;) {
    if (bytes[at] === FRAME) {
      palette = paletteAt(bytes, at + 10, bytes[at + 9] ?? 0) ?? palette;
      const [red, green, blue] = palette?.subarray(3 * entry) ?? [];
      return red === undefined || green === undefined || blue === undefined ? undefined : [red, green, blue];
    }
    if (bytes[at] !== EXTENSION) return undefined;
    const isTransparent = bytes[at + 1] === GRAPHIC_CONTROL && ((bytes[at + 3] ?? 0) & 1) === 1;
    if (isTransparent) entry = bytes[at + 6] ?? 0;
    // Blocks of a length each, of which the last is empty.
    for (at += 2; (bytes[at] ?? 0) !== 0;) at += 1 + (bytes[at] as number);
    at++;
  }
  return undefined;
}

const FRAME = 0x2c;
const EXTENSION = 0x21;
const GRAPHIC_CONTROL = 0xf9;

function paletteAt(bytes: Uint8Array, at: number, flags: number): Uint8Array | undefined {
  return (flags & 0x80) === 0 ? undefined : bytes.subarray(at, at + 3 * 2 ** ((flags & 7) + 1));
}
