/**
 * A page to teach a network with: pictures in, a network out, and nothing sent anywhere. All that it asks of Riffle stands in
 * training.js, trying.js and runs.js.
 */

import { hasUnsaved, startClasses } from "./classes.js";
import { attempt, count, element } from "./dom.js";
import { startRuns, showRuns } from "./runs.js";
import { proposeName, startTraining } from "./training.js";
import { startTrying } from "./trying.js";

element("machine").textContent = crossOriginIsolated
  ? `This browser may use ${count(navigator.hardwareConcurrency, "processor core")} for it.`
  : "It learns with one processor core here: the server does not isolate the page (COOP and COEP).";
/** What is kept has changed. */
const shown = () =>
  attempt("runs-problem", async () => {
    await showRuns();
    await proposeName();
  });
startClasses();
startTraining(shown);
startTrying();
startRuns();
addEventListener("beforeunload", (event) => {
  if (hasUnsaved()) event.preventDefault();
});
await shown();
