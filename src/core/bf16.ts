/** bf16: the upper half of a float, which planes may be stored in. */

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

const SMALLEST_NORMAL = 2 ** -126;

/**
 * The nearest bf16, ties to the even one; numbers below the smallest normal one become zero, NaN stays NaN.
 *
 * Source: VCVTNEPS2BF16 (Intel's manual of instructions, volume 2C).
 */
export function toBf16(x: number): number {
  float[0] = x;
  if (Number.isNaN(x)) return NaN;
  if (Math.abs(float[0]) < SMALLEST_NORMAL) return x < 0 || Object.is(x, -0) ? -0 : 0;
  const u = bits[0] as number;
  bits[0] = (u + 0x7fff + ((u >>> 16) & 1)) & 0xffff0000;
  return float[0];
}
