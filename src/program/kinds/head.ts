/** average pool, linear -> one step. */

import { check } from "../program-error.js";
import type { HeadStep } from "../program.js";
import { unplaced, type Kind } from "./kind.js";

export const head: Kind<HeadStep> = {
  place: "last",
  code: 3,

  bind(scope) {
    const pool = scope.take("globalAveragePool");
    if (pool === undefined) return undefined;
    const linear = scope.expect("linear", pool.name);
    return {
      kind: "head",
      name: linear.name,
      inputs: scope.read(pool.input, pool.name).planes,
      first: scope.planes.length,
      count: 0,
      ...unplaced,
      bias: linear.bias ? 0 : -1,
      classes: linear.classes,
      dropout: linear.dropout,
    };
  },

  tensors: ({ classes, inputs, bias }) => [
    { name: "weight", role: "linear", shape: [classes, inputs.length] },
    ...(bias < 0 ? [] : [{ name: "bias", role: "bias", shape: [classes] } as const]),
  ],
  outputShape: ({ classes }) => [classes],
  uses: () => 1,
  pictureBytes: () => 0,

  print: ({ classes, bias, dropout }, { inputs, weights }) =>
    `${inputs} -> ${classes} logits, ${weights}, ${bias < 0 ? "no bias" : `bias @${bias}`}, dropout ${dropout}`,

  verify({ name, classes }, sizes, program) {
    check(classes === program.classes, `"${name}" has ${classes} classes, the program ${program.classes}`);
    sizes.expectAll(sizes.inputs, sizes.inputs[0] ?? "missing", "input");
  },

  encode: () => [],
};
