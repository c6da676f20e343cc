/**
 * A network while its layers become steps: which layer comes next, which maps are defined, which planes exist.
 *
 * Every batch-norm channel is given a plane, and every map its list of planes.
 */

import { ShapeError } from "../../core/error.js";
import type { Layer, Network } from "../../models/layers.js";
import type { Plane, PlaneId, Storage } from "../program.js";

type LayerOf<K extends Layer["kind"]> = Extract<Layer, { kind: K }>;

/** A feature map as planes, all of one size. */
export interface FeatureMap {
  readonly planes: readonly PlaneId[];
  /** Pixels a side. */
  readonly size: number;
}

export class Scope {
  readonly planes: Plane[] = [];
  readonly maps = new Map<string, FeatureMap>();
  /** Layers taken so far. */
  taken = 0;

  constructor(
    readonly network: Network,
    readonly imageSize: number,
    private readonly storage: Storage,
  ) {}

  get next(): Layer | undefined {
    return this.network.layers[this.taken];
  }

  /** The next layer, taken, if it is of this kind. */
  take<K extends Layer["kind"]>(
    kind: K,
    fits: (layer: LayerOf<K>) => boolean = () => true,
  ): LayerOf<K> | undefined {
    const layer = this.next;
    if (layer?.kind !== kind || !fits(layer as LayerOf<K>)) return undefined;
    this.taken++;
    return layer as LayerOf<K>;
  }

  /** The next layer, which must be of this kind and read what was just taken. */
  expect<K extends Exclude<Layer["kind"], "arrange">>(kind: K, input: string): LayerOf<K> {
    const layer = this.next;
    if (layer?.kind !== kind || !("input" in layer) || layer.input !== input) {
      const found = layer ? `${layer.kind} "${layer.name}"` : "the end";
      throw new ShapeError(`"${input}" must be followed by its ${kind}, found ${found}`);
    }
    this.taken++;
    return layer as LayerOf<K>;
  }

  read(name: string, reader: string): FeatureMap {
    const map = this.maps.get(name);
    if (map === undefined)
      throw new ShapeError(`layer "${reader}" reads "${name}", which no earlier layer defines`);
    return map;
  }

  define(name: string, map: FeatureMap): void {
    if (this.maps.has(name)) throw new ShapeError(`two layers define the map "${name}"`);
    this.maps.set(name, map);
  }

  /** New planes, `size` pixels a side, and the first one's id. */
  addPlanes(name: string, count: number, size: number, relu: boolean): PlaneId {
    const first = this.planes.length;
    const planes = Array.from({ length: count }, (_, i) => first + i);
    // Gamma and beta have no place yet.
    const plane: Plane = { height: size, width: size, storage: this.storage, relu, gamma: 0, beta: 0 };
    for (let i = 0; i < count; i++) this.planes.push({ ...plane });
    this.define(name, { planes, size });
    return first;
  }
}
