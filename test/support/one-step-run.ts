/** A run after one step of training, and pictures in several formats to ask it about: for tests of who uses networks. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";

import sharp from "sharp";

import { Draws, streams } from "../../src/core/random.js";
import { train } from "../../src/train/trainer.js";
import { tinySettings, writeTinySet } from "./tiny-run.js";

/** Trains into `folder`/run and returns its path. */
export async function oneStepRun(folder: string): Promise<string> {
  const run = join(folder, "run");
  await train({ ...tinySettings(writeTinySet(folder), run), max_epochs: undefined, max_train_steps: 1 });
  return run;
}

/** Noise in one colour or another: JPEG, PNG and WebP in turn, no two the same. */
export function drawnPictures(count: number): Promise<Buffer[]> {
  return Promise.all(
    Array.from({ length: count }, (_, i) => {
      const draws = new Draws(77, streams.draw, 0, i);
      const [width, height] = [40 + (i % 5), 44];
      const bytes = Uint8Array.from(
        { length: width * height * 3 },
        (_, j) => draws.below(130) + (j % 3 === i % 3 ? 120 : 0),
      );
      const image = sharp(bytes, { raw: { width, height, channels: 3 } });
      return (i % 3 === 0 ? image.jpeg() : i % 3 === 1 ? image.png() : image.webp()).toBuffer();
    }),
  );
}

/** Writes them as files and returns their paths. */
export function writePictures(folder: string, pictures: readonly Buffer[]): string[] {
  return pictures.map((bytes, i) => {
    const path = join(folder, `picture-${i}.${["jpg", "png", "webp"][i % 3]}`);
    writeFileSync(path, bytes);
    return path;
  });
}
