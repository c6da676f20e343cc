/**
 * The rule that weights, momentum, images and labels of the PyTorch goldens follow, so that none are stored.
 *
 * make_torch.py has it again in Python, and both must give the same bits: 24-bit fractions times a scale
 * computed in f64, rounded once to f32.
 */

/** [count] 32-bit words: FNV-1a of the name, a Weyl sequence from it, murmur3's finalizer over that. */
export function words(name: string, count: number, seed: number): Uint32Array {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 0x01000193);
  const start = hash + Math.imul(seed, 0x632be5ab);
  return new Uint32Array(count).map((_, i) => {
    let x = start + Math.imul(i, 0x9e3779b9);
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    return x ^ (x >>> 16);
  });
}

/** [count] in [-1, 1): multiples of 2^-23. */
export function uniform(name: string, count: number, seed: number): Float64Array {
  return new Float64Array(words(name, count, seed)).map((word) => (word >>> 8) / 2 ** 23 - 1);
}

/** A weight or moving statistic under its PyTorch name, e.g. "stage2.0.branch2.1.running_var"; shape as PyTorch has it. */
export function tensorByRule(name: string, shape: readonly number[], seed: number): Float32Array {
  const count = shape.reduce((product, n) => product * n, 1);
  const u = uniform(name, count, seed);
  if (shape.length > 1) {
    const scale = Math.sqrt((name === "fc.weight" ? 3 : 6) / (count / (shape[0] as number)));
    return Float32Array.from(u, (x) => x * scale);
  }
  if (name.endsWith("running_mean")) return Float32Array.from(u, (x) => x / 4);
  if (name.endsWith("running_var")) return Float32Array.from(u, (x) => 1 + x / 2);
  if (name === "fc.bias") return Float32Array.from(u, (x) => x / 2);
  if (name.endsWith("bias")) return Float32Array.from(u, (x) => 1 + x);
  const sign = words(name, count, seed);
  return Float32Array.from(u, (x, i) => ((sign[i] as number) % 8 === 0 ? -1 : 1) * (1 + x / 4));
}

export function momentumByRule(name: string, count: number, seed: number): Float32Array {
  return Float32Array.from(uniform(`momentum:${name}`, count, seed), (x) => x / 64);
}

/** RGB bytes [batch, size, size, 3] and labels [batch]. */
export function batchByRule(
  batch: number,
  size: number,
  classes: number,
  seed: number,
): { images: Uint8Array; labels: Int32Array } {
  return {
    images: Uint8Array.from(words("images", batch * size * size * 3, seed), (word) => word >>> 24),
    labels: Int32Array.from(words("labels", batch, seed), (word) => word % classes),
  };
}
