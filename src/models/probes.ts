/**
 * A network with probes: identities behind some of its maps, which change nothing that it computes.
 *
 * A plane's gradient in a program is masked by its ReLU. A probe has none, so its own is the gradient of the map before it
 * as its readers see it, and the gradient of its beta is the sum of that over the map's pixels.
 *
 *     map --> readers      becomes      map --> 3x3 depthwise (1 in the middle), norm (scale 1, shift 0) --> readers
 */

import { convolutionNorm, type Layer, type Network, normalised } from "./layers.js";
import { type FlatWeights, tensorsOf } from "./tensor-names.js";
import type { ParameterTable } from "./initialise.js";

/** @param layers as a program's `keep` names them: arranged maps, or convolutions, whose map is that of their batch norm */
export function withProbes(network: Network, layers: readonly string[]): Network {
  const behind = new Map<string, string>();
  const moved = (map: string): string => behind.get(map) ?? map;
  const rewired = (layer: Layer): Layer =>
    layer.kind === "arrange"
      ? { ...layer, channels: layer.channels.map((each) => ({ ...each, map: moved(each.map) })) }
      : { ...layer, input: moved(layer.input) };
  const probed = network.layers.flatMap((layer) => {
    const own = layers.find((name) =>
      layer.kind === "arrange" ? layer.name === name : layer.kind === "batchNorm" && layer.input === name,
    );
    const kept = rewired(layer);
    if (own === undefined) return [kept];
    const name = probeOf(own);
    behind.set(layer.name, normalised(name));
    const probe = { name, input: layer.name, stride: 1, padding: "same" } as const;
    return [kept, ...convolutionNorm(probe, { relu: false })];
  });
  return { ...network, layers: probed };
}

/** The name of a layer's probe; no part of the layer, so that what is frozen through the layer ends before it. */
export function probeOf(layer: string): string {
  return `probe-${layer}`;
}

/** The weights of a network where it has probes. */
export function probedWeights(
  weights: FlatWeights,
  table: ParameterTable,
  probed: ParameterTable & { readonly batchNorm: { readonly epsilon: number } },
): FlatWeights {
  const out = {
    parameters: new Float32Array(probed.parameterCount),
    statistics: new Float32Array(2 * probed.planes.length),
  };
  const own = new Map(tensorsOf(table, "canonical").map((tensor) => [tensor.canonical, tensor]));
  for (const { canonical, array, offset, size } of tensorsOf(probed, "canonical")) {
    const from = own.get(canonical);
    const into = out[array].subarray(offset, offset + size);
    if (from !== undefined) into.set(weights[from.array].subarray(from.offset, from.offset + size));
    else if (canonical.endsWith(".weight")) into.forEach((_, i) => (into[i] = Number(i % 9 === MIDDLE)));
    else if (canonical.endsWith(".moving_variance")) into.fill(1);
    // So that gamma / sqrt(variance + epsilon) is 1, to the rounding of f32.
    else if (canonical.endsWith(".gamma")) into.fill(Math.sqrt(1 + probed.batchNorm.epsilon));
  }
  return out;
}

/** Of the nine weights of a filter. */
const MIDDLE = 4;
