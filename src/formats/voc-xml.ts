/**
 * Reads the box files of Pascal VOC, which ImageNet's are: the picture's size, and a box per object.
 *
 * saxes parses strictly; what a document of data has no need of (a DOCTYPE with its entities, processing instructions)
 * is refused, so nothing is fetched and nothing expands. Elements that we do not know are passed over.
 *
 * Corners are in pixels of the picture whose size the file gives, and as the file has them: they may be swapped or lie
 * outside.
 *
 * Source: host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc, "Annotation data"; ImageNet's bounding box files.
 */

import { SaxesParser } from "saxes";

import { DataError } from "../core/error.js";

interface VocAnnotation {
  /** As written inside; ImageNet's is not always the file's name. */
  readonly filename: string;
  readonly width: number;
  readonly height: number;
  readonly objects: readonly VocObject[];
}

export interface VocObject {
  /** The class: for ImageNet a WordNet id. */
  readonly name: string;
  readonly xmin: number;
  readonly ymin: number;
  readonly xmax: number;
  readonly ymax: number;
}

/** The largest real one, with a hundred objects, is 40 kB. */
export const MAX_XML_BYTES = 2 ** 20;

/**
 * The annotation in a file's bytes.
 *
 * @throws DataError with line and column where it is no XML, or a part is missing, twice or no number.
 */
export function parseVocXml(bytes: Uint8Array, where: string): VocAnnotation {
  if (bytes.length > MAX_XML_BYTES) {
    throw new DataError({
      where,
      what: "too long for a file of boxes",
      expected: `at most ${MAX_XML_BYTES} bytes`,
      found: `${bytes.length}`,
    });
  }
  let text: string;
  try {
    // Takes a byte order mark away.
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw new DataError({ where, what: "no UTF-8 text" }, error);
  }
  return new Reader(where).read(text);
}

const CORNERS = ["xmin", "ymin", "xmax", "ymax"] as const;
const MAX_DEPTH = 32;

/** The elements that carry something, by the way that leads to them. */
const LEAVES: ReadonlySet<string> = new Set([
  "annotation/filename",
  "annotation/size/width",
  "annotation/size/height",
  "annotation/object/name",
  ...CORNERS.map((corner) => `annotation/object/bndbox/${corner}`),
]);

class Reader {
  readonly #parser = new SaxesParser({ xmlns: false, position: true });
  readonly #way: string[] = [];
  /** Text of the leaf being read, and of those read. */
  #text = "";
  #file = new Map<string, string>();
  #object = new Map<string, string>();
  readonly #objects: VocObject[] = [];
  #annotations = 0;

  constructor(private readonly where: string) {}

  read(text: string): VocAnnotation {
    const parser = this.#parser;
    parser.on("error", (error) => {
      throw this.#error(`no well-formed XML: ${error.message.replace(/^\d+:\d+: /, "")}`);
    });
    parser.on("doctype", () => {
      throw this.#error("a DOCTYPE, which may hold entities and is not read");
    });
    parser.on("processinginstruction", ({ target }) => {
      throw this.#error("a processing instruction, which is not read", JSON.stringify(target.slice(0, 40)));
    });
    parser.on("opentag", ({ name }) => this.#open(name));
    parser.on("closetag", () => this.#close());
    const more = (piece: string): void => {
      if (LEAVES.has(this.#way.join("/"))) this.#text += piece;
    };
    parser.on("text", more);
    parser.on("cdata", more);
    parser.write(text).close();

    if (this.#annotations !== 1) throw this.#error("no <annotation>");
    const width = this.#number(this.#file, "size/width");
    const height = this.#number(this.#file, "size/height");
    return { filename: this.#file.get("filename") ?? "", width, height, objects: this.#objects };
  }

  #open(name: string): void {
    if (LEAVES.has(this.#way.join("/"))) throw this.#error(`<${this.#way.at(-1)}> holds elements`);
    this.#way.push(name);
    if (this.#way.length > MAX_DEPTH) throw this.#error(`elements nested more than ${MAX_DEPTH} deep`);
    this.#text = "";
    const way = this.#way.join("/");
    if (this.#way.length === 1) {
      if (name !== "annotation")
        throw this.#error("no file of boxes", `<${name.slice(0, 40)}>`, "<annotation>");
      this.#annotations++;
    }
    if (way === "annotation/object") this.#object = new Map();
  }

  #close(): void {
    const way = this.#way.join("/");
    if (LEAVES.has(way)) {
      const inObject = way.startsWith("annotation/object/");
      const leaves = inObject ? this.#object : this.#file;
      const key = way.slice(inObject ? "annotation/object/".length : "annotation/".length);
      if (leaves.has(key)) throw this.#error(`<${key}> twice`);
      leaves.set(key, this.#text.trim());
    } else if (way === "annotation/object") {
      const name = this.#object.get("name");
      if (!name) throw this.#error("an object without a name");
      const [xmin, ymin, xmax, ymax] = CORNERS.map((corner) =>
        this.#number(this.#object, `bndbox/${corner}`),
      );
      this.#objects.push({ name, xmin, ymin, xmax, ymax } as VocObject);
    }
    this.#way.pop();
  }

  #number(leaves: ReadonlyMap<string, string>, key: string): number {
    const text = leaves.get(key);
    if (text === undefined) throw this.#error(`no <${key.replace("/", "><")}>`);
    if (!/^[+-]?[0-9]{1,9}(\.[0-9]{1,9})?$/.test(text)) {
      throw this.#error(
        `<${key.replace("/", "><")}> is no number of pixels`,
        JSON.stringify(text.slice(0, 40)),
      );
    }
    return Number(text);
  }

  #error(what: string, found?: string, expected?: string): DataError {
    const { line, column } = this.#parser;
    return new DataError({
      where: `${this.where}, line ${line}, column ${column}`,
      what,
      expected,
      found,
    });
  }
}
