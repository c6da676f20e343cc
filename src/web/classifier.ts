/**
 * The drop page's `classifier.js` where the browser itself classifies, from the files beside it. In a page of your own:
 *
 *     const { classify } = await openClassifier();
 *     const [likeliest] = await classify(file);
 *
 * The browser decodes pictures; everything from there on is what `riffle predict` does.
 */

import { likeliest, type PageClasses, type PageGuess } from "./likeliest.js";
import type { PagePreprocessing } from "./pixels.js";
import { openRuntime } from "./runtime.js";

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
  const [names, runtime] = await Promise.all([
    loadJson<PageClasses>("classes.json"),
    loadJson<PagePreprocessing>("preprocessing.json").then((rule) => openRuntime(loadBytes, rule)),
  ]);
  let last: Promise<unknown> = Promise.resolve();
  const logits = (picture: Blob): Promise<Float32Array> => {
    const answer = last.catch(() => undefined).then(() => runtime.run(picture));
    last = answer;
    return answer;
  };
  return {
    classes: names.map(({ name, words }) => words ?? name),
    classify: async (picture, top = 5) => likeliest(await logits(picture), names).slice(0, top),
    logits,
  };
}

async function loadJson<T>(name: string): Promise<T> {
  return JSON.parse(new TextDecoder().decode(await loadBytes(name))) as T;
}

/** A file beside this one. */
async function loadBytes(name: string): Promise<ArrayBuffer> {
  let why = "the server does not answer";
  try {
    const response = await fetch(new URL(name, import.meta.url));
    why = response.ok ? "the server broke off" : `the server says ${response.status}`;
    if (response.ok) return await response.arrayBuffer();
  } catch {
    // Said below.
  }
  throw new Error(`${name} was not loaded: ${why}; is the folder there whole?`);
}
