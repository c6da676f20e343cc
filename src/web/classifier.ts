/**
 * The drop page's `classifier.js` where the browser itself classifies, from the files beside it. In a page of your own:
 *
 *     const { classify } = await openClassifier();
 *     const [likeliest] = await classify(file);
 *
 * The browser decodes pictures; everything from there on is what `riffle predict` does.
 */

import { decode } from "./decode.js";
import { likeliest, type PageClasses, type PageGuess } from "./likeliest.js";
import { networkInput, type Preprocessing } from "./preprocess.js";
import { openRuntime } from "./runtime.js";
import { storedPicture, upright } from "./upright.js";

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
