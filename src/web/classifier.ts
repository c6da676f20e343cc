/**
 * The drop page's `classifier.js` where the browser itself classifies, from the files beside it. In a page of your own:
 *
 *     const { classify } = await openClassifier();
 *     const [likeliest] = await classify(file);
 *
 * The browser decodes pictures; everything from there on is what `riffle predict` does.
 */

import { likeliest, type PageClasses, type PageGuess } from "./likeliest.js";
import { networkInput, type Preprocessing } from "./preprocess.js";
import { openRuntime } from "./runtime.js";
import { type Rgba, storedPicture, upright } from "./upright.js";

/** What preprocessing.json holds besides. */
export interface PagePreprocessing extends Preprocessing {
  /** "apply": pictures are first turned as their EXIF says that the camera was held. */
  readonly exif_orientation: "apply" | "ignore";
}

export interface Classifier {
  /** For people. */
  readonly classes: readonly string[];
  /**
   * The likeliest classes of a picture's file, the most probable first. Calls may overlap.
   *
   * @throws Error in words for people
   */
  classify(picture: Blob, top?: number): Promise<PageGuess[]>;
  /** The network's output for it, in the order of the classes. */
  logits(picture: Blob): Promise<Float32Array>;
}

/** Loads the network. @throws Error in words for people */
export async function openClassifier(): Promise<Classifier> {
  const [preprocessing, names, runtime] = await Promise.all([
    loadJson<PagePreprocessing>("preprocessing.json"),
    loadJson<PageClasses>("classes.json"),
    openRuntime(loadBytes),
  ]);
  let last: Promise<unknown> = Promise.resolve();
  const logits = (picture: Blob): Promise<Float32Array> => {
    const answer = last
      .catch(() => undefined)
      .then(async () => {
        return runtime.run(await inputOf(picture, preprocessing), preprocessing.crop);
      });
    last = answer;
    return answer;
  };
  return {
    classes: names.map(({ name, words }) => words ?? name),
    classify: async (picture, top = 5) => likeliest(await logits(picture), names).slice(0, top),
    logits,
  };
}

/**
 * The network's input for a picture's file: [1, 3, crop, crop].
 *
 * @throws Error in words for people
 */
export async function inputOf(picture: Blob, preprocessing: PagePreprocessing): Promise<Float32Array> {
  const { file, orientation } = storedPicture(new Uint8Array(await picture.arrayBuffer()));
  const pixels = await decode(file);
  const turned = preprocessing.exif_orientation === "apply" ? upright(pixels, orientation) : pixels;
  return networkInput({ ...turned, channels: 4 }, preprocessing);
}

/** What of a browser is used here, and Node's types do not have. */
interface BrowserParts {
  createImageBitmap(picture: Blob, options: Record<string, string>): Promise<Bitmap>;
  readonly OffscreenCanvas: new (width: number, height: number) => Canvas;
}
interface Bitmap {
  readonly width: number;
  readonly height: number;
  close(): void;
}
interface Canvas {
  getContext(kind: "2d", options: { willReadFrequently: boolean }): CanvasContext | null;
}
interface CanvasContext {
  drawImage(bitmap: Bitmap, x: number, y: number): void;
  getImageData(x: number, y: number, width: number, height: number): { readonly data: Uint8ClampedArray };
}

/** Its pixels as they are stored: no colour profile is applied. */
async function decode(file: Uint8Array): Promise<Rgba> {
  const { createImageBitmap, OffscreenCanvas } = globalThis as unknown as BrowserParts;
  let bitmap: Bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([file]), {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new Error("this browser cannot read it as a picture");
  }
  const { width, height } = bitmap;
  try {
    const canvas = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    if (canvas === null) throw new Error("no canvas");
    canvas.drawImage(bitmap, 0, 0);
    return { data: canvas.getImageData(0, 0, width, height).data, width, height };
  } catch {
    throw new Error(`${width} x ${height} pixels are more than this browser draws`);
  } finally {
    bitmap.close();
  }
}

async function loadJson<T>(name: string): Promise<T> {
  return JSON.parse(new TextDecoder().decode(await loadBytes(name))) as T;
}

/** A file beside this one. */
async function loadBytes(name: string): Promise<ArrayBuffer> {
  const response = await fetch(new URL(name, import.meta.url)).catch(() => undefined);
  if (response?.ok === true) return response.arrayBuffer();
  const why = response === undefined ? "the server does not answer" : `the server says ${response.status}`;
  throw new Error(`${name} was not loaded: ${why}; is the folder there whole?`);
}
