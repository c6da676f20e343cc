/** The sum of a step's shards as its definition says: level by level, neighbours added, an odd last one as it is. */

type Numbers = Float32Array | Float64Array;

export function meanByLevels<A extends Numbers>(shards: readonly A[]): A {
  let level = shards.map((shard) => shard.slice() as A);
  while (level.length > 1) {
    level = Array.from({ length: Math.ceil(level.length / 2) }, (_, i) => {
      const left = level[2 * i] as A;
      level[2 * i + 1]?.forEach((value, at) => (left[at] = (left[at] as number) + value));
      return left;
    });
  }
  const sum = level[0] as A;
  const share = sum instanceof Float32Array ? Math.fround(1 / shards.length) : 1 / shards.length;
  return sum.map((value) => value * share) as A;
}
