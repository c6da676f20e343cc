/**
 * Where the network looked in the pictures that a report shows: for the class that was named and, where that is wrong, for the
 * picture's own. The maps lie in the page as pictures of some hundred bytes each, over one small gray picture.
 */

import type { BackendName } from "../backends/names.js";
import { chooseBackend } from "../backends/registry.js";
import type { Weights } from "../backends/backend.js";
import { closing } from "../core/closing.js";
import { DataError } from "../core/error.js";
import { loadSharp } from "../core/sharp.js";
import { type Dataset, upright } from "../data/dataset.js";
import { seenPixels } from "../inference/evaluate.js";
import { EXPLAINED_LAYERS, type ExplainedLayer, Explainer, type Explanation } from "../inference/explain.js";
import type { HeatMap } from "../inference/heat-map.js";
import type { ModelDescription } from "../run/checkpoint-state.js";
import { heatWebp, isCold } from "./heat-picture.js";
import type { Judged } from "./standouts.js";

export interface PictureLook {
  /** A data URI: what the network saw, gray and square. */
  readonly seen: string;
  /** The class that was named, then the picture's own where it is another. */
  readonly classes: readonly ClassLook[];
}

export interface ClassLook {
  readonly output: number;
  /** conv5 by its class activation, finer layers by Grad-CAM; the coarsest first. */
  readonly maps: readonly LayerLook[];
}

export interface LayerLook {
  readonly layer: ExplainedLayer;
  /** Of the map, rows and columns. */
  readonly places: number;
  /** A data URI; null where nothing speaks for the class. */
  readonly uri: string | null;
}

/** Of all pictures' looks, before base64 makes four of three. */
export const MOST_LOOK_BYTES = 2 ** 20;
/** Pixels a side. */
const SEEN_SIDE = 128;
/** Maps have at most so many pixels a side: more is interpolation. */
const MAP_SIDE = 40;

interface LookOptions {
  readonly threads?: number | undefined;
  readonly backend?: BackendName | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Hears of pictures done. */
  readonly progress?: (done: number, total: number) => void;
}

/** By sample; one that no longer decodes is left out, and so are those with which {@link MOST_LOOK_BYTES} would be passed. */
export function looksOf(
  set: Dataset,
  model: ModelDescription,
  weights: Weights,
  shown: readonly Judged[],
  { threads, backend, signal, progress }: LookOptions,
): Promise<ReadonlyMap<number, PictureLook>> {
  return closing(async (atEnd) => {
    const looks = new Map<number, PictureLook>();
    if (shown.length === 0) return looks;
    const explainer = await Explainer.open(model, weights, {
      threads,
      backend: await chooseBackend(backend),
    });
    atEnd(() => explainer.close());
    const seenSet = model.exif_orientation === "apply" ? upright(set) : set;
    let bytes = 0;
    for (const [i, { sample, named, actual }] of shown.entries()) {
      signal?.throwIfAborted();
      const pixels = await pixelsOf(seenSet, sample, model);
      if (pixels === undefined) continue;
      const look = await lookOf(explainer, pixels, model.image_size, [...new Set([named, actual])]);
      const size = lengthOf(look);
      if (bytes + size > MOST_LOOK_BYTES) continue;
      bytes += size;
      looks.set(sample, look);
      progress?.(i + 1, shown.length);
    }
    return looks;
  });
}

async function pixelsOf(
  set: Dataset,
  sample: number,
  model: ModelDescription,
): Promise<Uint8Array | undefined> {
  try {
    return await seenPixels(await set.read(sample), set.name(sample), model);
  } catch (error) {
    if (error instanceof DataError) return undefined;
    throw error;
  }
}

async function lookOf(
  explainer: Explainer,
  pixels: Uint8Array,
  side: number,
  outputs: readonly number[],
): Promise<PictureLook> {
  const classes: ClassLook[] = [];
  for (const output of outputs) {
    const explanation = await explainer.explain(pixels, output);
    const maps = await Promise.all(EXPLAINED_LAYERS.map((layer) => layerLook(layer, explanation)));
    classes.push({ output, maps: maps.reverse() });
  }
  const gray = await loadSharp()(pixels, { raw: { width: side, height: side, channels: 3 } })
    .resize(SEEN_SIDE, SEEN_SIDE, { kernel: side < SEEN_SIDE ? "nearest" : "lanczos3" })
    .toColourspace("b-w")
    .jpeg({ quality: 75 })
    .toBuffer();
  return { seen: `data:image/jpeg;base64,${gray.toString("base64")}`, classes };
}

async function layerLook(layer: ExplainedLayer, { activation, gradCam }: Explanation): Promise<LayerLook> {
  const map: HeatMap = layer === "conv5" ? activation : gradCam[layer];
  const uri = isCold(map)
    ? null
    : `data:image/webp;base64,${(await heatWebp(map, MAP_SIDE)).toString("base64")}`;
  return { layer, places: map.width, uri };
}

function lengthOf({ seen, classes }: PictureLook): number {
  const uris = classes.flatMap(({ maps }) => maps.map(({ uri }) => uri ?? ""));
  return (3 / 4) * uris.reduce((sum, uri) => sum + uri.length, seen.length);
}
