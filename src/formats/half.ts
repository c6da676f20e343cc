/**
 * Floating-point numbers of 16 bits as f32, which holds every one of them exactly. PyTorch, safetensors and TensorFlow keep
 * the same bits, so all three readers ask here.
 *
 * Source: IEEE 754-2008, binary16; bfloat16 is the upper half of a binary32.
 */

/** IEEE's half floats: 5 bits of exponent, 10 of fraction. */
export function float16ToFloat(values: Uint16Array): Float32Array<ArrayBuffer> {
  return Float32Array.from(values, halfToFloat);
}

/** The upper halves of f32. */
export function bfloat16ToFloat(values: Uint16Array): Float32Array<ArrayBuffer> {
  return new Float32Array(Uint32Array.from(values, (value) => value * 65536).buffer);
}

function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}
