/** The sheet of `predict --sheet`: finds each result's picture again, and says what stands under it. */

import { openEncoded } from "../data/encoded-pictures.js";
import { type Dataset, upright } from "../data/dataset.js";
import { openImageFiles } from "../data/image-folder.js";
import { openNpzImages } from "../data/npz-dataset.js";
import type { Picture } from "../data/pictures/render.js";
import type { Prediction, Predictor, Refused } from "../inference/predict.js";
import { type Card, MOST_CARDS, predictionSheet } from "../prepare/prediction-sheet.js";
import { shownClass } from "../prepare/imagenet/challenge-classes.js";
import { shortPath } from "../core/short-path.js";
import { count, percent } from "./format.js";

/** A result under the prediction's own name, and the name that is shown. */
export interface Shown {
  readonly found: Prediction | Refused;
  readonly name: string;
}

/**
 * The first of the results as a PNG.
 *
 * @param bytes of the pictures that are no files, by the prediction's name for them
 */
export async function sheetOf(
  results: readonly Shown[],
  { checkpoint, model }: Pick<Predictor, "checkpoint" | "model">,
  bytes: ReadonlyMap<string, Uint8Array>,
): Promise<Uint8Array> {
  const archives = new Map<string, Promise<Dataset>>();
  const pictureOf = async (file: string): Promise<Picture> => {
    const own = bytes.get(file);
    const [, npz, entry = "0"] = /^(.*\.npz)#(\d+)$/is.exec(file) ?? [];
    const opened = async (): Promise<Dataset> => {
      if (own !== undefined) return openEncoded([{ name: file, bytes: own }]);
      if (npz === undefined) return openImageFiles([file]);
      const known = archives.get(npz) ?? openNpzImages(npz);
      archives.set(npz, known);
      return known;
    };
    const set = await opened();
    const seen = model.exif_orientation === "apply" ? upright(set) : set;
    return seen.read(npz === undefined || own !== undefined ? 0 : Number(entry));
  };
  const cards = results.slice(0, MOST_CARDS).map(({ found, name }): Card => {
    const read = (): Promise<Picture> => pictureOf(found.file);
    if ("error" in found) return { name, guesses: [], problem: found.error, read };
    const guesses = found.top
      .slice(0, 2)
      .map((guess) => ({ name: shownClass(guess.name), share: percent(guess.probability) }));
    return { name, guesses, read };
  });
  const of =
    results.length > MOST_CARDS
      ? `the first ${count(MOST_CARDS)} of ${count(results.length)} pictures`
      : `${count(results.length)} picture${results.length === 1 ? "" : "s"}`;
  return predictionSheet(cards, `${of} · ${shortPath(checkpoint)}`);
}
