/** Tensors under a scheme's names, put where our flat arrays have them; every one must be there. */

import assert from "node:assert/strict";

import type { ParameterTable } from "../../src/models/initialise.js";
import {
  fillTensor,
  type FlatWeights,
  type ForeignTensor,
  type Scheme,
  tensorsOf,
} from "../../src/models/tensor-names.js";

export function fillTensors(
  table: ParameterTable,
  scheme: Scheme,
  read: (name: string) => ForeignTensor | undefined,
  into: FlatWeights,
): void {
  for (const tensor of tensorsOf(table, scheme)) {
    const foreign = read(tensor.name);
    assert.ok(foreign, `a tensor is missing: ${tensor.name}`);
    fillTensor(tensor, foreign, into[tensor.array]);
  }
}
