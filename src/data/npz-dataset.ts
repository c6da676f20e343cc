/**
 * Data sets in one `.npz` file: 8-bit images [n, height, width, 3] or [n, height, width], labels [n] or [n, 1],
 * under `images` and `labels`, or `train_images`, `train_labels`, `val_images`, ... as MedMNIST stores them.
 *
 * Classes are "0" .. "k-1". The images stay in memory as they are.
 */

import { createHash } from "node:crypto";
import { basename } from "node:path";

import { DataError } from "../core/error.js";
import { toFloat64 } from "../formats/npy.js";
import { type Npz, openNpz } from "../formats/npz.js";
import { checkedSample, type Dataset } from "./dataset.js";
import type { Pixels } from "./pictures/render.js";

/** Opens the parts there are; `test_images` count as validation only when nothing is trained. */
export async function openNpzDataset(
  path: string,
  evalOnly: boolean,
): Promise<{ readonly train: Dataset | undefined; readonly validation: Dataset | undefined }> {
  const npz = await openNpz(path);
  const part = async (...prefixes: readonly string[]): Promise<Part | undefined> => {
    for (const prefix of prefixes)
      if (npz.names.includes(`${prefix}images`)) return readPart(npz, path, prefix);
    return undefined;
  };
  const validation = await part("val_", ...(evalOnly ? ["test_"] : []));
  const train = evalOnly && validation !== undefined ? undefined : await part("train_", "");
  if (train === undefined && validation === undefined) {
    throw DataError.at(path, "holds no images", {
      expected: "an array named images or train_images",
      found: npz.names.slice(0, 12).join(", "),
    });
  }
  const highest = Math.max(...[train, validation].map((p) => p?.highest ?? -1));
  const classes = Array.from({ length: highest + 1 }, (_, label) => String(label));
  if (train !== undefined && validation !== undefined && validation.highest > train.highest) {
    throw DataError.at(`${path}, val_labels`, "a class that the training set does not have", {
      expected: `labels 0 .. ${train.highest}`,
      found: String(validation.highest),
    });
  }
  return {
    train: train && new NpzImages(train, classes),
    validation: validation && new NpzImages(validation, classes),
  };
}

/** The images of a file without asking for labels; for prediction. */
export async function openNpzImages(path: string): Promise<Dataset> {
  const npz = await openNpz(path);
  const prefix = ["", "test_", "val_", "train_"].find((p) => npz.names.includes(`${p}images`));
  if (prefix === undefined) {
    throw DataError.at(path, "holds no images", { expected: "an array named images" });
  }
  const images = await readImages(npz, path, prefix);
  return new NpzImages({ ...images, labels: new Int32Array(images.count).fill(-1), highest: -1 }, []);
}

interface Images {
  readonly path: string;
  readonly name: string;
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3;
  readonly data: Uint8Array;
}

interface Part extends Images {
  readonly labels: Int32Array;
  /** The largest label. */
  readonly highest: number;
}

class NpzImages implements Dataset {
  readonly size: number;
  readonly fingerprint: string;

  constructor(
    private readonly part: Part,
    readonly classes: readonly string[],
  ) {
    this.size = part.count;
    const shape = [part.count, part.height, part.width, part.channels].join(",");
    const hash = createHash("sha256").update(`${basename(part.path)}\n${part.name}\n${shape}\n`);
    this.fingerprint = hash.update(part.labels.join(",")).digest("hex");
  }

  label(sample: number): number {
    return this.part.labels[checkedSample(this, sample)] as number;
  }

  name(sample: number): string {
    return `${this.part.path}#${checkedSample(this, sample)}`;
  }

  read(sample: number): Promise<Pixels> {
    const { width, height, channels, data } = this.part;
    const length = width * height * channels;
    const start = checkedSample(this, sample) * length;
    return Promise.resolve({
      kind: "pixels",
      data: data.subarray(start, start + length),
      width,
      height,
      channels,
    });
  }
}

async function readPart(npz: Npz, path: string, prefix: string): Promise<Part> {
  const images = await readImages(npz, path, prefix);
  const where = `${path}, ${prefix}labels`;
  if (!npz.names.includes(`${prefix}labels`)) {
    throw DataError.at(where, "missing", { found: npz.names.slice(0, 12).join(", ") });
  }
  const array = await npz.read(`${prefix}labels`);
  const { shape } = array;
  const isList = shape.length === 1 || (shape.length === 2 && shape[1] === 1);
  if (!isList || shape[0] !== images.count) {
    throw DataError.at(where, "not one label per image", {
      expected: `[${images.count}] or [${images.count}, 1]`,
      found: `[${shape.join(", ")}]`,
    });
  }
  let highest = -1;
  const labels = Int32Array.from(toFloat64(array, where), (label, i) => {
    if (!Number.isInteger(label) || label < 0 || label > 1_000_000) {
      throw DataError.at(where, `label ${i} is no class`, {
        expected: "a whole number from 0",
        found: `${label}`,
      });
    }
    highest = Math.max(highest, label);
    return label;
  });
  return { ...images, labels, highest };
}

async function readImages(npz: Npz, path: string, prefix: string): Promise<Images> {
  const name = `${prefix}images`;
  const array = await npz.read(name);
  const { shape } = array;
  const [count = 0, height = 0, width = 0, channels = 1] = shape;
  const rightShape = shape.length === 3 || (shape.length === 4 && (channels === 3 || channels === 1));
  if (array.dtype !== "u1" || !rightShape || count * height * width === 0) {
    throw DataError.at(`${path}, ${name}`, "not a list of 8-bit pictures", {
      expected: "u1 [n, height, width, 3] or [n, height, width]",
      found: `${array.dtype} [${shape.join(", ")}]`,
    });
  }
  return { path, name, count, height, width, channels: channels === 3 ? 3 : 1, data: array.data };
}
