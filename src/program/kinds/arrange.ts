/** Split, concat and shuffle: a new list of planes that exist already. No step, no data moved. */

import { ShapeError } from "../../core/error.js";
import type { Scope } from "./scope.js";

/** @returns whether the next layer was one. */
export function bindArrange(scope: Scope): boolean {
  const layer = scope.take("arrange");
  if (layer === undefined) return false;
  const { name, channels } = layer;
  const [size, ...others] = new Set(channels.map((channel) => scope.read(channel.map, name).size));
  if (size === undefined || others.length > 0)
    throw new ShapeError(`"${name}" joins maps of sizes ${[size, ...others].join(" and ")}`);
  const planes = channels.map(({ map, channel }) => {
    const plane = scope.read(map, name).planes[channel];
    if (plane === undefined)
      throw new ShapeError(`"${name}" takes channel ${channel} of "${map}", which has fewer`);
    return plane;
  });
  scope.define(name, { planes, size });
  return true;
}
