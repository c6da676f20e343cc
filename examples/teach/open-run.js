/** The run that the page asks: the one that was trained last, or that was opened. */

/** @typedef {import("riffle-vision/browser").Run} Run */

/** @type {Run | undefined} */
let run;
/** @type {Set<(run: Run | undefined) => void>} */
const listeners = new Set();

export const openedRun = () => run;

/** @param {Run | undefined} opened */
export function useRun(opened) {
  if (run !== opened) run?.close();
  run = opened;
  for (const listener of listeners) listener(run);
}

/** @param {(run: Run | undefined) => void} listener */
export function onRun(listener) {
  listeners.add(listener);
}
