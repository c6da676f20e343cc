/** What every command that uses a network says of its weights: while they are opened, and which they are. */

import { tuningText } from "../backends/autotune.js";
import { shellWord } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";
import type { OpeningEvent, Predictor } from "../inference/predict.js";
import { originLines, type WeightsOrigin } from "../weights/find-network.js";
import { count } from "./format.js";
import type { Progress } from "./progress.js";
import { fetching, orientationWords, preparing, titled, weightsLines } from "./report-run.js";
import type { Terminal } from "./terminal.js";

/** Shows how weights are fetched and the engine is tuned. */
export function whileOpening(progress: Progress, terminal: Terminal): (event: OpeningEvent) => void {
  return (event) => {
    switch (event.event) {
      case "preparing":
        progress.show(preparing(event));
        return;
      case "fetching":
        progress.show(fetching(event));
        return;
      case "warning":
        terminal.emit(event);
        progress.warn(event.what);
        return;
      case "tuning":
        terminal.emit(event);
        progress.note(titled("Tuned", tuningText(event, shortPath)));
        return;
    }
  };
}

/** Which weights a predictor has, and how it takes its pictures. */
export function tellPredictor(
  { checkpoint, passedOver, origin, model }: Predictor,
  terminal: Terminal,
): void {
  for (const text of passedOver) {
    const event = { event: "warning", what: `passed over ${text}; using ${checkpoint}` } as const;
    terminal.emit(event);
    terminal.warn(event.what);
  }
  if (origin !== undefined) terminal.emit({ event: "weights", file: checkpoint, ...origin });
  for (const line of openedLines({ checkpoint, origin, model })) terminal.note(line);
  terminal.note(titled("Pictures", orientationWords(model.exif_orientation)));
}

/** "Weights   runs/a/best, after step 1,200"; of those from elsewhere also what they are, and what is assumed. */
export function openedLines({
  checkpoint,
  origin,
  model,
  step,
}: Pick<Predictor, "checkpoint" | "model"> & {
  readonly origin: WeightsOrigin | undefined;
  readonly step?: number;
}): string[] {
  if (origin === undefined) {
    const after = step === undefined ? "" : `, after step ${count(step)}`;
    return [titled("Weights", `${shellWord(shortPath(checkpoint))}${after}`)];
  }
  const { published } = origin;
  const which =
    published === undefined ? [titled("Weights", shellWord(shortPath(checkpoint)))] : weightsLines(published);
  return [...which, ...originLines(origin, model).map((line) => titled("", line))];
}
