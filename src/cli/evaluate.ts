/** `riffle evaluate`: loss, top-1 and top-5 on a whole validation set. */

import { evaluate, type EvaluateEvent } from "../train/evaluate.js";
import { settingNames, settings as table } from "../train/settings.js";
import type { CliCommand } from "./command.js";
import { count, percent, printable } from "./format.js";
import { startProgress } from "./progress.js";
import { preparing, recordLines, shortPath, titled } from "./report-run.js";

export const evaluateCommand: CliCommand = {
  name: "evaluate",
  arguments: "<run>",
  purpose: "Scores a run's best weights, or any checkpoint, on a whole validation set.",
  examples: [
    "riffle evaluate runs/a",
    "riffle evaluate runs/a --data_dir other/photos --json",
    "riffle evaluate runs/a/step-1200 --data_dir test.npz",
  ],
  settings: settingNames.filter((name) => (table[name].commands as readonly string[]).includes("evaluate")),
  async run(invocation, terminal) {
    const progress = startProgress(terminal);
    const report = (event: EvaluateEvent): void => {
      if (event.event !== "evaluating" && event.event !== "preparing") terminal.emit(event);
      switch (event.event) {
        case "preparing":
          progress.show(preparing(event));
          return;
        case "warning":
          progress.note(`warning: ${printable(event.what)}`);
          return;
        case "start":
          terminal.note(titled("Weights", `${shortPath(event.checkpoint)}, after step ${count(event.step)}`));
          terminal.note(titled("Data", `${shortPath(event.data_dir)}, ${count(event.images)} pictures`));
          for (const line of recordLines(event.records)) terminal.note(line);
          return;
        case "evaluating":
          progress.show({ label: "evaluation", done: event.done, total: event.images, columns: [] });
          return;
        case "bad_image":
          progress.note(`left out: ${printable(event.file)}: ${printable(event.reason)}`);
          return;
        case "end":
          return;
      }
    };
    try {
      const scores = await evaluate(invocation.arguments[0] ?? "", invocation.settings, report);
      progress.end();
      terminal.print(
        `${count(scores.images)} pictures  loss ${scores.loss.toFixed(4)}  ` +
          `top-1 ${percent(scores.top1, 2)}  top-5 ${percent(scores.top5, 2)}`,
      );
      return 0;
    } finally {
      progress.end();
    }
  },
};
