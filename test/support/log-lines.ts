/** Lines of a run's events.jsonl, as training writes them, of a run with two steps an epoch. */

export function startLine(more: object = {}): object {
  return {
    event: "start",
    ...{ time: "2026-01-02T03:04:05.000Z", network: "n", classes: 2, image_size: 32, parameters: 1 },
    ...{
      train_images: 8,
      validation_images: 4,
      steps: 40,
      steps_per_epoch: 2,
      images_per_step: 4,
      epochs: 20,
    },
    ...{ recipe: "small-set", ranks: null, settings, origins: { seed: "given" }, resumed: null },
    ...more,
  };
}

const settings = { batch_size: 4, lr: 0.1, schedule: "cosine", weight_decay: 0, data_dir: "photos", seed: 1 };

export function resumedLine(step: number, more: object = {}): object {
  return startLine({ resumed: { checkpoint: "c", step }, ...more });
}

export function stepLine(at: number, loss: number | null = at): object {
  return {
    event: "step",
    ...{ step: at, epoch: at / 2, loss, cross_entropy: loss, top1: 0.5, learning_rate: 0.1 },
    ...{ images_per_second: 100, waiting: 0.25, seconds_left: 10 * (40 - at), skipped: 0 },
  };
}

export function evaluationLine(at: number, top1: number, best: boolean, weights = "averages"): object {
  return { event: "evaluation", step: at, epoch: at / 2, weights, loss: 1, top1, top5: 1, images: 4, best };
}

export function textOf(...lines: readonly object[]): string {
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
}
