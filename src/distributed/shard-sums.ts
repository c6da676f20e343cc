/**
 * The mean of what the shards of a step leave, in an order of adding that no number of processes changes.
 *
 *     level 0   s0+s1   s2+s3   s4+s5   s6          neighbours are added, an odd last one goes up as it is
 *     level 1    s0..s3          s4..s6
 *     level 2         s0 .. s6                      times 1 / 7
 *
 * Shards come one after the other, so the tree is counted up as a binary number is: a sum of 1, 2, 4, ... shards is put
 * aside until its neighbour of the same size is there. Each addition is rounded to what the array holds.
 */

type Numbers = Float32Array | Float64Array;

export class ShardSums<A extends Numbers> {
  /** Of as many shards as the bits of their number say, the larger first. */
  readonly #aside: { readonly shards: number; readonly sum: A }[] = [];

  /** Takes a copy. */
  add(values: A): void {
    let shards = 1;
    let sum = values.slice() as A;
    while (this.#aside.at(-1)?.shards === shards) {
      sum = added(this.#take(), sum);
      shards *= 2;
    }
    this.#aside.push({ shards, sum });
  }

  /** Of all shards since the last one asked for; none are left. */
  sum(): A {
    let sum = this.#take();
    while (this.#aside.length > 0) sum = added(this.#take(), sum);
    return sum;
  }

  mean(): A {
    const count = this.#aside.reduce((total, { shards }) => total + shards, 0);
    const sum = this.sum();
    const share = sum instanceof Float32Array ? Math.fround(1 / count) : 1 / count;
    for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) * share;
    return sum;
  }

  #take(): A {
    const last = this.#aside.pop();
    if (last === undefined) throw new RangeError("there is no shard to add");
    return last.sum;
  }
}

/** Into the first. */
function added<A extends Numbers>(left: A, right: A): A {
  for (let i = 0; i < left.length; i++) left[i] = (left[i] as number) + (right[i] as number);
  return left;
}
