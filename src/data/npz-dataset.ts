/**
 * Data sets in one `.npz` file: 8-bit images [n, height, width, 3] or [n, height, width], labels [n] or [n, 1],
 * under `images` and `labels`, or `train_images`, `train_labels`, `val_images`, ... as MedMNIST stores them, or `x_train`,
 * `y_train`, `x_test`, ... as Keras does (split-names.ts).
 *
 * Classes are "0" .. "k-1". The images stay in memory as they are.
 */

import { createHash } from "node:crypto";
import { basename } from "node:path";

import { DataError } from "../core/error.js";
import { toFloat64 } from "../formats/npy.js";
import { type Npz, openNpz } from "../formats/npz.js";
import { checkedSample, type Dataset } from "./dataset.js";
import { preferred, type Split, splitOfImages } from "./split-names.js";
import type { Pixels } from "./pictures/render.js";

/** Arrays of one part, by the names that they have in the file. */
interface ArrayNames {
  readonly images: string;
  readonly labels: string;
}

/** What a file holds: parts by the names of its arrays, "all" for `images` and `labels` alone. */
export interface NpzParts {
  readonly names: { readonly [S in Split | "all"]?: ArrayNames };
  /** Arrays of pictures that are used by none of them. */
  readonly unused: readonly string[];
  /**
   * Reads a part. Classes are those given, else "0" to its highest label.
   *
   * @throws DataError where a label is none of the classes.
   */
  open(
    part: Split | "all",
    options: { readonly classes?: readonly string[] | undefined; readonly labelOffset: number },
  ): Promise<Dataset>;
}

/** @throws DataError when there are no pictures. */
export async function openNpzParts(path: string): Promise<NpzParts> {
  const npz = await openNpz(path);
  const names: { [S in Split | "all"]?: ArrayNames } = {};
  const unused: string[] = [];
  for (const images of preferred(npz.names.filter((name) => splitOfImages(name) !== undefined))) {
    const part = splitOfImages(images) as Split | "all";
    if (names[part] === undefined) names[part] = { images, labels: labelsOf(images) };
    else unused.push(images);
  }
  if (Object.keys(names).length === 0) {
    throw DataError.at(path, "holds no images", {
      expected: "an array named images or train_images",
      found: npz.names.slice(0, 12).join(", "),
    });
  }
  return {
    names,
    unused,
    open: async (part, { classes, labelOffset }) => {
      const read = await readPart(npz, path, names[part] as ArrayNames, labelOffset);
      const known = classes ?? Array.from({ length: read.highest + 1 }, (_, label) => String(label));
      if (read.highest >= known.length) {
        throw DataError.at(`${path}, ${names[part]?.labels}`, "a class that the training set does not have", {
          expected: `labels ${labelOffset} .. ${labelOffset + known.length - 1}`,
          found: String(read.highest + labelOffset),
        });
      }
      return new NpzImages(read, known);
    },
  };
}

/** `train_labels` to `train_images`, `y_train` to `x_train`. */
function labelsOf(images: string): string {
  return images
    .replace(/images$/i, "labels")
    .replace(/^x(?=_|$)/, "y")
    .replace(/^X(?=_|$)/, "Y");
}

/** The images of a file without asking for labels; for prediction. */
export async function openNpzImages(path: string): Promise<Dataset> {
  const npz = await openNpz(path);
  const order = ["all", "test", "validation", "train"];
  const rank = (name: string): number => order.indexOf(splitOfImages(name) ?? "");
  const [name] = npz.names.filter((each) => rank(each) >= 0).sort((a, b) => rank(a) - rank(b));
  if (name === undefined) {
    throw DataError.at(path, "holds no images", { expected: "an array named images" });
  }
  const images = await readImages(npz, path, name);
  return new NpzImages({ ...images, labels: new Int32Array(images.count).fill(-1), highest: -1 }, []);
}

interface Images {
  readonly path: string;
  readonly name: string;
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3;
  /** Pixels of picture `i`. */
  readonly pixels: (i: number) => Uint8Array;
}

interface Part extends Images {
  readonly labels: Int32Array;
  /** The largest label. */
  readonly highest: number;
}

class NpzImages implements Dataset {
  readonly size: number;
  readonly fingerprint: string;
  #keys: string[] | undefined;

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

  /** By its pixels, so that a picture is known in a file of another name, too; twins are counted. */
  key(sample: number): string {
    this.#keys ??= this.#allKeys();
    return this.#keys[checkedSample(this, sample)] as string;
  }

  #allKeys(): string[] {
    const seen = new Map<string, number>();
    return Array.from({ length: this.size }, (_, i) => {
      const hash = createHash("sha256").update(this.part.pixels(i));
      const name = hash.digest("hex").slice(0, 16);
      const twins = (seen.get(name) ?? 0) + 1;
      seen.set(name, twins);
      return twins === 1 ? name : `${name}-${twins}`;
    });
  }

  read(sample: number): Promise<Pixels> {
    const { width, height, channels } = this.part;
    const data = this.part.pixels(checkedSample(this, sample));
    return Promise.resolve({ kind: "pixels", data, width, height, channels });
  }
}

async function readPart(npz: Npz, path: string, names: ArrayNames, labelOffset: number): Promise<Part> {
  const images = await readImages(npz, path, names.images);
  const where = `${path}, ${names.labels}`;
  if (!npz.names.includes(names.labels)) {
    throw DataError.at(where, "missing", { found: npz.names.slice(0, 12).join(", ") });
  }
  const array = await npz.read(names.labels);
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
    if (!Number.isInteger(label) || label < labelOffset || label - labelOffset > 1_000_000) {
      throw DataError.at(where, `label ${i} is no class`, {
        expected: `a whole number from ${labelOffset}`,
        found: `${label}`,
      });
    }
    highest = Math.max(highest, label - labelOffset);
    return label - labelOffset;
  });
  return { ...images, labels, highest };
}

async function readImages(npz: Npz, path: string, name: string): Promise<Images> {
  const { shape, dtype } = await npz.header(name);
  const [count = 0, height = 0, width = 0, channels = 1] = shape;
  const rightShape = shape.length === 3 || (shape.length === 4 && (channels === 3 || channels === 1));
  if (dtype !== "u1" || !rightShape || count * height * width === 0) {
    throw DataError.at(`${path}, ${name}`, "not a list of 8-bit pictures", {
      expected: "u1 [n, height, width, 3] or [n, height, width]",
      found: `${dtype} [${shape.join(", ")}]`,
    });
  }
  const { row } = await npz.readRows(name);
  return { path, name, count, height, width, channels: channels === 3 ? 3 : 1, pixels: row };
}
