/**
 * `predict --heatmaps FOLDER`: of every picture a PNG of what the network saw and, beside it, where in that what speaks for the
 * class that it named lies.
 */

import { readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, join, parse } from "node:path";

import { chooseBackend } from "../backends/registry.js";
import { makeFolder, replaceFile } from "../core/durable.js";
import { errorCode, isOfThePath, UsageError } from "../core/error.js";
import { type Dataset, upright } from "../data/dataset.js";
import { openNpzImages } from "../data/npz-dataset.js";
import { pictureAlone, seenPixels } from "../inference/evaluate.js";
import { Explainer } from "../inference/explain.js";
import type { Prediction } from "../inference/predict.js";
import { heatPng } from "../report/heat-picture.js";
import type { ModelDescription } from "../run/checkpoint-state.js";
import { findNetwork } from "../weights/find-network.js";
import type { Invocation } from "./command.js";

/** For the table of a command's options. */
export const heatmapsOption = {
  value: "<folder>",
  help: "for each picture a PNG: what the network saw, and where in it what speaks for the likeliest class lies",
};

/** The folder asked for. @throws UsageError, before anything is done, where something stands in it. */
export function heatmapFolder({ own }: Invocation): string | undefined {
  const folder = own.get("heatmaps");
  if (typeof folder !== "string") return undefined;
  if (filesIn(folder) === 0) return folder;
  throw new UsageError({
    what: "there are files where the heat maps are to go",
    where: folder,
    expected: "a new folder, or an empty one",
    safe: "It was not touched",
    hint: "Name another",
  });
}

export class Heatmaps {
  readonly #names = new Set<string>();
  readonly #arrays = new Map<string, Promise<Dataset>>();

  private constructor(
    readonly folder: string,
    private readonly explainer: Explainer,
    private readonly model: ModelDescription,
  ) {}

  /** @param model as it is fed in this command */
  static async open(
    folder: string,
    run: string,
    model: ModelDescription,
    { settings }: Invocation,
  ): Promise<Heatmaps> {
    const { weights } = await findNetwork(run, { variant: settings.variant });
    await makeFolder(folder);
    const { threads } = settings;
    const backend = await chooseBackend(settings.backend);
    return new Heatmaps(folder, await Explainer.open(model, weights, { threads, backend }), model);
  }

  get count(): number {
    return this.#names.size;
  }

  /**
   * @param file as the prediction names it
   * @param bytes of the picture, where it is no file
   */
  async add({ file, top: [likeliest] }: Prediction, bytes?: Uint8Array): Promise<void> {
    if (likeliest === undefined) return;
    const pixels = await this.#pixels(file, bytes);
    const { activation } = await this.explainer.explain(pixels, likeliest.index);
    const png = await heatPng(activation, pixels, this.model.image_size);
    await replaceFile(join(this.folder, this.#name(file)), [png], {
      safe: "Those written before are whole",
      hint: "Make room, or name another folder",
    });
  }

  close(): void {
    this.explainer.close();
  }

  async #pixels(file: string, bytes: Uint8Array | undefined): Promise<Uint8Array> {
    const [, archive, sample] = /^(.*\.npz)#(\d+)$/is.exec(file) ?? [];
    if (archive === undefined || bytes !== undefined)
      return pictureAlone(bytes ?? (await readFile(file)), file, this.model);
    let set = this.#arrays.get(archive);
    if (set === undefined) this.#arrays.set(archive, (set = openNpzImages(archive)));
    const seen = this.model.exif_orientation === "apply" ? upright(await set) : await set;
    return seenPixels(await seen.read(Number(sample)), file, this.model);
  }

  /** "photo.png", "photo-2.png" for the next of that name, "set-17.png" for one of an array, "stdin.png". */
  #name(file: string): string {
    const [, archive, sample] = /^(.*)\.npz#(\d+)$/is.exec(file) ?? [];
    const stem =
      archive !== undefined ? `${basename(archive)}-${sample}` : file === "-" ? "stdin" : parse(file).name;
    // Of an address: Windows has no such characters in names.
    const plain = stem.replace(/[<>:"|?*]/g, "-");
    let name = `${plain}.png`;
    for (let n = 2; this.#names.has(name.toLowerCase()); n++) name = `${plain}-${n}.png`;
    this.#names.add(name.toLowerCase());
    return name;
  }
}

/** @throws UsageError where it is no folder. */
function filesIn(folder: string): number {
  try {
    return readdirSync(folder).length;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return 0;
    if (!isOfThePath(error)) throw error;
    throw new UsageError({
      what: "heat maps go into a folder, and this is none",
      where: folder,
      safe: "It was not touched",
    });
  }
}
