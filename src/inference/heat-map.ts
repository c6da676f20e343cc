/** A number for every place of a picture, coarser than the picture, and how it is made ready to be shown. */

export interface HeatMap {
  /** Whose places they are. */
  readonly layer: string;
  readonly height: number;
  readonly width: number;
  /** [height, width] */
  readonly values: Float32Array;
}

/** What speaks for the class, as a share of the most: 0 to 1, and 0 everywhere where nothing does. */
export function shares({ values, ...map }: HeatMap): HeatMap {
  const most = values.reduce((a, b) => Math.max(a, b), 0);
  return { ...map, values: values.map((value) => (most > 0 ? Math.max(0, value) / most : 0)) };
}

/**
 * Larger by linear interpolation between the middles of its places, which is the order of places within a picture; beyond the
 * outermost middles a value stays. torch's interpolate(mode="bilinear", align_corners=False).
 */
export function enlarged({ layer, height, width, values }: HeatMap, side: number): HeatMap {
  const rows = ways(height, side);
  const columns = ways(width, side);
  const out = new Float32Array(side * side);
  rows.forEach((row, y) => {
    columns.forEach((column, x) => {
      const at = (r: number, c: number): number => values[r * width + c] as number;
      const above = at(row.from, column.from) * (1 - column.share) + at(row.from, column.to) * column.share;
      const below = at(row.to, column.from) * (1 - column.share) + at(row.to, column.to) * column.share;
      out[y * side + x] = above * (1 - row.share) + below * row.share;
    });
  });
  return { layer, height: side, width: side, values: out };
}

/** Of each pixel of the larger side, between which two it lies and how near the second. */
function ways(length: number, side: number): { from: number; to: number; share: number }[] {
  return Array.from({ length: side }, (_, i) => {
    const place = Math.min(Math.max(((i + 0.5) * length) / side - 0.5, 0), length - 1);
    const from = Math.floor(place);
    return { from, to: Math.min(from + 1, length - 1), share: place - from };
  });
}
