/** Where a run stands by its events, for the answer to who asks it to stop: what will be saved. */

import type { TrainEvent } from "../run/events.js";
import { count } from "./format.js";

export class Place {
  /** The last step reported; where a run goes on before its first. */
  step = 0;
  #doing: "preparing" | "training" | "evaluating" | "reporting" = "preparing";
  #steps = Infinity;
  /** Whether the step in progress is the one behind the last reported, and the last that is made. */
  #isNextKnown = true;

  follow(event: TrainEvent): void {
    if (event.event === "start") {
      this.step = event.resumed?.step ?? 0;
      this.#steps = event.steps;
      // Steps of a loop are reported at its end; ranks stop where all of them have heard of it.
      this.#isNextKnown = event.ranks === null && Number(event.settings["iterations_per_loop"] ?? 1) === 1;
      this.#doing = "training";
    } else if (event.event === "step") {
      this.step = event.step;
      this.#doing = "training";
    } else if (event.event === "evaluation") {
      this.#doing = "training";
    } else if (event.event === "end") {
      this.#doing = "reporting";
    } else if (event.event === "evaluating" && this.#doing !== "reporting") {
      // The report's own scores are told of, too.
      this.#doing = "evaluating";
    }
  }

  /** What the first Ctrl-C prints. */
  get stopping(): string {
    const again = "press Ctrl-C again to quit at once";
    switch (this.#doing) {
      case "preparing":
        return "Stopping.";
      case "training":
        if (this.step >= this.#steps)
          return `Stopping; step ${count(this.step)}, the last, is saved; ${again}.`;
        return this.#isNextKnown
          ? `Stopping after step ${count(this.step + 1)} and saving it; ${again}.`
          : `Stopping after the step in progress and saving it; ${again}.`;
      case "evaluating":
        return `Stopping the evaluation and saving step ${count(this.step)}; ${again}.`;
      case "reporting":
        return "The run is trained and saved; its report is left out. Press Ctrl-C again to quit at once.";
    }
  }
}
