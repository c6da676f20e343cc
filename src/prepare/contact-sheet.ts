/**
 * A contact sheet of a data set: each picture with its objects' boxes and the crops drawn, beside what the network
 * would see of it in several epochs.
 *
 * The crops, flips and colours are the training's own draws, so the sheet shows the very pixels that training with
 * the same seed gets, not others like them.
 *
 * Lengths are in pixels. Names come from files: they are escaped before they enter SVG or HTML.
 */

import type { OverlayOptions } from "sharp";

import { endOf } from "../core/columns.js";
import { DataError } from "../core/error.js";
import { Draws, permutation, streams } from "../core/random.js";
import { loadSharp } from "../core/sharp.js";
import {
  asItIs,
  type Augmentation,
  type Box,
  type ObjectBox,
  type Size,
  trainingTransform,
  type Transform,
} from "../data/pictures/augment.js";
import type { Dataset } from "../data/dataset.js";
import { imageInfo } from "../data/pictures/image-info.js";
import { turnObjects, turnSize } from "../data/pictures/orientation.js";
import { orientationOf, type Picture, renderInto } from "../data/pictures/render.js";
import { drawSheet, escapeMarkup, fit, fitted, TILE } from "./sheet-tile.js";

export interface SheetOptions {
  readonly augmentation: Augmentation;
  /** Height and width of the network's input. */
  readonly imageSize: number;
  /** Samples shown: the first of the epoch's order. */
  readonly images: number;
  /** The first epoch shown, from 1 as a run counts them. */
  readonly epoch: number;
  readonly seed: number;
}

/** One picture as the network sees it. */
export interface Look {
  readonly epoch: number;
  /** The part of the picture that is seen, in its pixels; not always whole ones. */
  readonly crop: Box;
  readonly flip: boolean;
  /** Added to red, green and blue, as a share of full scale. */
  readonly shift: readonly [red: number, green: number, blue: number];
  readonly grayscale: boolean;
  /** [size, size, 3], 8-bit RGB. */
  readonly pixels: Uint8Array;
}

export interface SheetSample {
  readonly sample: number;
  readonly name: string;
  /** -1 where no label is known. */
  readonly label: number;
  /** Its class; the label in digits where that has no name. */
  readonly class: string;
  readonly width: number;
  readonly height: number;
  readonly boxes: readonly ObjectBox[];
  /** An epoch each; one alone where every epoch looks the same. */
  readonly looks: readonly Look[];
  /** The picture fitted into a tile, as JPEG. */
  readonly fitted: Uint8Array;
}

/** A picture that cannot be shown. */
interface RefusedSample extends Pick<SheetSample, "sample" | "name" | "label" | "class"> {
  readonly problem: string;
}

export type SheetRow = SheetSample | RefusedSample;

/** How a file of ours is known again. */
export const SHEET_MARK = "Riffle contact sheet";

/** Epochs shown of a picture that is varied. */
const LOOKS = 3;

/** Draws what the first samples of an epoch look like; a picture that does not decode is among them, with the reason. */
export async function sheetRows(
  dataset: Dataset,
  options: SheetOptions,
  progress: (done: number, total: number) => void = () => {},
): Promise<SheetRow[]> {
  const total = Math.min(options.images, dataset.size);
  const order = permutation(dataset.size, options.seed, options.epoch - 1).subarray(0, total);
  const rows: SheetRow[] = [];
  for (const sample of order) {
    rows.push(await sheetRow(dataset, sample, options));
    progress(rows.length, total);
  }
  return rows;
}

/** The sheet as one PNG. */
export async function sheetPng(rows: readonly SheetRow[], options: SheetOptions): Promise<Uint8Array> {
  const columns = rows.length === 1 ? 1 : rows.some(isVaried) ? 2 : 4;
  const across = cardWidth(rows);
  const width = Math.max(MARGIN + columns * (across + MARGIN), 720);
  const height = HEADER + Math.ceil(rows.length / columns) * (CARD_HEIGHT + MARGIN);
  const layers: OverlayOptions[] = [];
  const drawing: string[] = [headerSvg(rows, options)];
  const above: string[] = [];
  for (const [i, row] of rows.entries()) {
    const left = MARGIN + (i % columns) * (across + MARGIN);
    const top = HEADER + Math.floor(i / columns) * (CARD_HEIGHT + MARGIN);
    drawing.push(
      `<rect x="${left - 6}" y="${top - 6}" width="${across + 12}" height="${CARD_HEIGHT + 8}" rx="4" fill="#fff"/>`,
      captionSvg(row, left, top, across),
    );
    if ("problem" in row) continue;
    const { x, y } = fit(row);
    layers.push({ input: Buffer.from(row.fitted), left: left + x, top: top + y });
    for (const [at, look] of row.looks.entries()) {
      layers.push({ input: await lookTile(look), left: left + tileX(at + 1), top });
    }
    above.push(`<g transform="translate(${left} ${top})">${overlaySvg(row)}${frameSvg(row)}</g>`);
  }
  return drawSheet({ width, height }, SHEET_MARK, drawing, layers, above);
}

/** The sheet as one HTML file that loads nothing and runs nothing. */
export async function sheetHtml(rows: readonly SheetRow[], options: SheetOptions): Promise<string> {
  const cards: string[] = [];
  for (const row of rows) {
    const caption =
      `<figcaption><b>${escapeMarkup(row.class)}</b> ${escapeMarkup(sizeOf(row))}` +
      `<span>${escapeMarkup(row.name)}</span></figcaption>`;
    if ("problem" in row) {
      cards.push(`<figure class="refused"><p>${escapeMarkup(row.problem)}</p>${caption}</figure>`);
      continue;
    }
    const place = fit(row);
    const original =
      `<div class="tile"><img src="data:image/jpeg;base64,${Buffer.from(row.fitted).toString("base64")}" ` +
      `style="left:${place.x}px;top:${place.y}px" alt="the picture">` +
      `<svg width="${TILE}" height="${TILE}">${overlaySvg(row)}</svg></div>`;
    const looks: string[] = [];
    for (const [at, look] of row.looks.entries()) {
      const png = (await lookTile(look)).toString("base64");
      looks.push(
        `<div class="tile" style="outline-color:${colourOf(at)}" title="${escapeMarkup(describe(look))}">` +
          `<img src="data:image/png;base64,${png}" alt="${escapeMarkup(describe(look))}"></div>`,
      );
    }
    cards.push(`<figure><div class="tiles">${original}${looks.join("")}</div>${caption}</figure>`);
  }
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="${SHEET_MARK}">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>${SHEET_MARK}</title>
<style>
body { font: 13px system-ui, sans-serif; margin: 24px; background: #e9ebee; color: #1b1f24; }
main { display: flex; flex-wrap: wrap; gap: 16px; }
figure { margin: 0; padding: 8px; background: #fff; border-radius: 4px; }
.tiles { display: flex; gap: ${GAP}px; }
.tile { position: relative; width: ${TILE}px; height: ${TILE}px; background: #f2f3f5; outline: 3px solid transparent; }
.tile img, .tile svg { position: absolute; left: 0; top: 0; }
figcaption { margin-top: 8px; max-width: ${cardWidth(rows)}px; overflow-wrap: anywhere; }
figcaption span { display: block; color: #59636e; font-size: 12px; }
.refused { max-width: ${TILE * 2}px; border-left: 3px solid #b3261e; }
</style>
</head>
<body>
<h1>What the network sees</h1>
<p>${legendItems(rows, options)
    .map(({ colour, text }) => `<b style="color:${colour}">■</b> ${escapeMarkup(text)}`)
    .join(" &nbsp; ")}</p>
<main>
${cards.join("\n")}
</main>
</body>
</html>
`;
}

async function sheetRow(dataset: Dataset, sample: number, options: SheetOptions): Promise<SheetRow> {
  const label = dataset.label(sample);
  const name = dataset.name(sample);
  const known = {
    sample,
    name,
    label,
    class: label < 0 ? "no label" : (dataset.classes[label] ?? `class ${label}`),
  };
  try {
    const source = await dataset.read(sample);
    const { width, height, boxes } = asSeen(source, name);
    const looks: Look[] = [];
    const varied = options.augmentation.crop !== "centre";
    for (let epoch = options.epoch; epoch < options.epoch + (varied ? LOOKS : 1); epoch++) {
      looks.push(await lookAt(source, name, sample, epoch, options));
    }
    return { ...known, width, height, boxes, looks, fitted: await fitted(source, { width, height }) };
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    return { ...known, problem: error.problem.what };
  }
}

/** Its size and its objects as training sees them: turned, where the set is upright. */
function asSeen(source: Picture, name: string): Size & { readonly boxes: readonly ObjectBox[] } {
  const { boxes = [] } = source;
  if (source.kind === "pixels") return { width: source.width, height: source.height, boxes };
  const info = imageInfo(source.bytes, name);
  const orientation = orientationOf(source, info);
  return { ...turnSize(info, orientation), boxes: turnObjects(boxes, orientation) ?? [] };
}

/** What trainingBatches (loader.ts) would put into the batch for this sample in this epoch. */
async function lookAt(
  source: Picture,
  name: string,
  sample: number,
  epoch: number,
  { augmentation, imageSize, seed }: SheetOptions,
): Promise<Look> {
  let transform: Transform | undefined;
  const pixels = new Uint8Array(imageSize * imageSize * 3);
  await renderInto(
    source,
    name,
    (picture) => {
      const isOfSize =
        source.kind === "pixels" && picture.width === imageSize && picture.height === imageSize;
      transform =
        augmentation.crop === "centre" && isOfSize
          ? asItIs(imageSize)
          : trainingTransform(
              augmentation,
              picture,
              imageSize,
              new Draws(seed, streams.augment, epoch - 1, sample),
            );
      return transform;
    },
    pixels,
    0,
  );
  if (transform === undefined) throw new Error("a picture was rendered without a plan");
  const { flip, shift, grayscale } = transform;
  return { epoch, crop: seenPart(transform), flip, shift, grayscale, pixels };
}

/** The window of the resized box, in pixels of the picture. */
function seenPart({ box, resized, window, size }: Transform): Box {
  const [x, y] = [box.width / resized.width, box.height / resized.height];
  return { x: box.x + window.x * x, y: box.y + window.y * y, width: size * x, height: size * y };
}

const GAP = 8;
const MARGIN = 20;
const HEADER = 76;
const CAPTION = 40;
const CARD_HEIGHT = TILE + CAPTION;

/** Told apart in print and by most colour-blind eyes too (Okabe and Ito); the first is the boxes'. */
const BOX_COLOUR = "#009e73";
const CROP_COLOURS = ["#d55e00", "#0072b2", "#cc79a7"] as const;

function colourOf(look: number): string {
  return CROP_COLOURS[look % CROP_COLOURS.length] as string;
}

function isVaried(row: SheetRow): boolean {
  return !("problem" in row) && row.looks.length > 1;
}

function cardWidth(rows: readonly SheetRow[]): number {
  return tileX(rows.some(isVaried) ? LOOKS + 1 : 2) - GAP;
}

function tileX(tile: number): number {
  return tile * (TILE + GAP);
}

/** The network's input at the size of a tile; a smaller one shows its pixels. */
function lookTile({ pixels }: Look): Promise<Buffer> {
  const size = Math.sqrt(pixels.length / 3);
  return loadSharp()(pixels, { raw: { width: size, height: size, channels: 3 } })
    .resize(TILE, TILE, { fit: "fill", kernel: size < TILE ? "nearest" : "lanczos3" })
    .png()
    .toBuffer();
}

/** Boxes and crops over the fitted picture, in the tile's pixels. */
function overlaySvg(row: SheetSample): string {
  const place = fit(row);
  const rectangle = (box: Box, stroke: string): string => {
    const [sx, sy] = [place.width / row.width, place.height / row.height];
    const [x, y] = [place.x + box.x * sx, place.y + box.y * sy];
    return (
      `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${(box.width * sx).toFixed(1)}" ` +
      `height="${(box.height * sy).toFixed(1)}" fill="none" ${stroke}/>`
    );
  };
  const crops = row.looks.map(({ crop }, i) =>
    // White beneath, so that the dashes are seen on any picture.
    [
      `stroke="#fff" stroke-width="3" stroke-opacity="0.7"`,
      `stroke="${colourOf(i)}" stroke-width="2" stroke-dasharray="5 3"`,
    ]
      .map((stroke) => rectangle(crop, stroke))
      .join(""),
  );
  const boxes = row.boxes.map(({ xmin, ymin, xmax, ymax }) =>
    rectangle(
      {
        x: xmin * row.width,
        y: ymin * row.height,
        width: (xmax - xmin) * row.width,
        height: (ymax - ymin) * row.height,
      },
      `stroke="${BOX_COLOUR}" stroke-width="2.5"`,
    ),
  );
  return [...crops, ...boxes].join("");
}

/** A frame in the crop's colour round each look. */
function frameSvg({ looks }: SheetSample): string {
  return looks
    .map(
      (_, i) =>
        `<rect x="${tileX(i + 1) + 1}" y="1" width="${TILE - 2}" height="${TILE - 2}" fill="none" ` +
        `stroke="${colourOf(i)}" stroke-width="2"/>`,
    )
    .join("");
}

function captionSvg(row: SheetRow, left: number, top: number, width: number): string {
  const line = (y: number, style: string, text: string, perCharacter: number): string =>
    `<text x="${left}" y="${top + y}" ${style}>${escapeMarkup(endOf(text, Math.floor(width / perCharacter)))}</text>`;
  const problem =
    "problem" in row ? line(TILE / 2, `font-size="12" fill="#b3261e"`, `not shown: ${row.problem}`, 6.6) : "";
  return (
    problem +
    line(TILE + 17, `font-size="13" fill="#1b1f24" font-weight="bold"`, `${row.class}${sizeOf(row)}`, 8.6) +
    line(TILE + 33, `font-size="11" fill="#59636e"`, row.name, 6.6)
  );
}

function headerSvg(rows: readonly SheetRow[], options: SheetOptions): string {
  const title = `<text x="${MARGIN - 6}" y="30" font-size="18" font-weight="bold" fill="#1b1f24">What the network sees</text>`;
  let x = MARGIN - 6;
  const items = legendItems(rows, options).map(({ colour, text }) => {
    const item =
      `<rect x="${x}" y="43" width="12" height="12" fill="${colour}"/>` +
      `<text x="${x + 18}" y="54" font-size="12" fill="#1b1f24">${escapeMarkup(text)}</text>`;
    x += 18 + text.length * 7 + 18;
    return item;
  });
  return title + items.join("");
}

function legendItems(
  rows: readonly SheetRow[],
  { epoch, imageSize, seed }: SheetOptions,
): { readonly colour: string; readonly text: string }[] {
  const varied = rows.some(isVaried);
  const looks = varied ? LOOKS : 1;
  return [
    ...(rows.some((row) => !("problem" in row) && row.boxes.length > 0)
      ? [{ colour: BOX_COLOUR, text: "objects" }]
      : []),
    ...Array.from({ length: looks }, (_, i) => ({
      colour: colourOf(i),
      text: varied ? `epoch ${epoch + i}` : "every epoch",
    })),
    { colour: "#59636e", text: `${imageSize} px, seed ${seed}` },
  ];
}

function sizeOf(row: SheetRow): string {
  return "problem" in row ? "" : ` · ${row.width} x ${row.height}`;
}

function describe({ epoch, crop, flip, shift, grayscale }: Look): string {
  const [x, y, w, h] = [crop.x, crop.y, crop.width, crop.height].map((value) => value.toFixed(0));
  return [
    `epoch ${epoch}: ${w} x ${h} from (${x}, ${y})`,
    ...(flip ? ["flipped"] : []),
    ...(shift.some((value) => value !== 0) ? ["colour shifted"] : []),
    ...(grayscale ? ["grayscale"] : []),
  ].join(", ");
}
