/**
 * The one walk over a JPEG's segments, so that no two judges of a file can see different ones.
 *
 * It goes as libjpeg's `next_marker` does: any number of FF may stand before a marker, bytes between segments that
 * belong to nothing are passed over, and so is a scan's coded data, in which FF is followed by 00 or a restart.
 *
 * Offsets are in bytes. Source: ITU-T T.81 annex B.
 */

/** A marker that has a length, and what lies behind it; {@link END_OF_IMAGE} has neither. */
export interface JpegSegment {
  /** The marker's low byte. */
  readonly marker: number;
  /** Of the marker. */
  readonly at: number;
  /** Of the content, behind the length. */
  readonly start: number;
  /** Behind the content. */
  readonly end: number;
}

export const START_OF_SCAN = 0xda;
export const END_OF_IMAGE = 0xd9;

/** The segments in their order; the last is the end of the image, unless the bytes end before it. */
export function* jpegSegments(bytes: Uint8Array): Generator<JpegSegment, void> {
  for (let at = 2; ;) {
    at = bytes.indexOf(0xff, at);
    if (at < 0) return;
    while (bytes[at + 1] === 0xff) at++;
    const marker = bytes[at + 1];
    const start = at + 4;
    if (marker === undefined) return;
    if (marker === END_OF_IMAGE) {
      yield { marker, at, start: at + 2, end: at + 2 };
      return;
    }
    // A stuffed FF, and markers that stand alone.
    if (marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
      at += 2;
      continue;
    }
    if (start > bytes.length) return;
    const end = at + 2 + (((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number));
    if (end > bytes.length) return;
    yield { marker, at, start, end };
    at = Math.max(end, start);
  }
}
