/**
 * Pictures that cannot be read, told all at once before a run has made anything. Those that `--max_bad_images` allows are
 * left out as training leaves out what it cannot decode: their places are taken by the next of the epoch's order.
 */

import { DataError } from "../core/error.js";
import { type Looked, lookAtPictures, tooLargeToCheck, unreadableProblem } from "../data/check-pictures.js";
import type { Dataset } from "../data/dataset.js";
import type { BadImage } from "../data/loader.js";
import type { Reporter } from "../run/events.js";
import { badImageLimit, dataName, type RunData } from "../run/run-data.js";
import type { GivenSettings } from "../settings/settings.js";

/** By the set that they lie in. */
export interface Unreadable {
  readonly train: readonly BadImage[];
  readonly validation: readonly BadImage[];
}

/** @throws DataError naming all of them where one of the sets has more than are allowed. */
export async function refuseUnreadable(
  { train, validation }: RunData,
  settings: GivenSettings,
  report: Reporter,
  signal: AbortSignal | undefined,
): Promise<Unreadable> {
  const sets = [train, ...(validation === undefined || settings.mode === "train" ? [] : [validation])];
  const looked = await lookAt(sets, report, signal);
  const found = looked.map(({ bad }) => bad);
  const animations = looked.reduce((sum, each) => sum + each.animations, 0);
  const all = found.flat();
  const allowed = badImageLimit(settings);
  if (found.some((bad) => bad.length > allowed)) {
    throw new DataError(unreadableProblem(dataName(settings), all, allowed));
  }
  for (const { file, reason } of all) report({ event: "bad_image", file, reason });
  if (animations > 0) report({ event: "warning", what: firstFrameOnly(animations) });
  const [ofTrain = [], ofValidation = []] = found;
  return { train: ofTrain, validation: ofValidation };
}

function firstFrameOnly(animations: number): string {
  const are = animations === 1 ? "1 picture has" : `${animations} pictures have`;
  return `${are} further frames or pages, which are left out: the first is used`;
}

async function lookAt(
  sets: readonly Dataset[],
  report: Reporter,
  signal: AbortSignal | undefined,
): Promise<Looked[]> {
  for (const set of sets) {
    const reason = tooLargeToCheck(set);
    if (reason !== undefined) report({ event: "warning", what: reason });
  }
  const total = sets.reduce((sum, { size }) => sum + size, 0);
  const started = performance.now();
  const found: Looked[] = [];
  let before = 0;
  for (const set of sets) {
    const progress = (done: number): void => {
      const seconds = (performance.now() - started) / 1000;
      // What is over in a moment needs no line.
      if (seconds < QUIET_SECONDS) return;
      report({
        event: "preparing",
        what: "check",
        done: before + done,
        total,
        images_per_second: (before + done) / seconds,
        seconds_left: (seconds * (total - before - done)) / (before + done),
      });
    };
    found.push(await lookAtPictures(set, progress, signal));
    before += set.size;
  }
  return found;
}

const QUIET_SECONDS = 1;
