/**
 * A sheet of predictions: each picture with what is seen in it below, the likeliest first, and its file.
 *
 * Lengths are in pixels.
 */

import type { OverlayOptions } from "sharp";

import { endOf, startOf } from "../core/columns.js";
import { DataError } from "../core/error.js";
import type { Picture } from "../data/pictures/render.js";
import { drawSheet, escapeMarkup, fit, fitted, seenSize, TILE } from "./sheet-tile.js";

export interface Card {
  /** The file, as it is shown. */
  readonly name: string;
  /** The likeliest classes, the first of them first, each with its probability in words: "99.2 %". Empty where there is none. */
  readonly guesses: readonly { readonly name: string; readonly share: string }[];
  /** Why there is none. */
  readonly problem?: string;
  /** @throws DataError where it cannot be shown */
  read(): Promise<Picture>;
}

/** Beyond these a sheet is too large for most programs that show pictures. */
export const MOST_CARDS = 400;

/** How a file of ours is known again. */
export const PREDICTION_MARK = "Riffle prediction sheet";

/** The sheet as one PNG. @param title what stands above it */
export async function predictionSheet(cards: readonly Card[], title: string): Promise<Uint8Array> {
  const columns = Math.min(cards.length, MOST_COLUMNS);
  const width = MARGIN + Math.max(columns, 2) * (TILE + MARGIN);
  const height = HEADER + Math.ceil(cards.length / columns) * (TILE + CAPTION + MARGIN);
  const tiles: OverlayOptions[] = [];
  const heading = endOf(title, Math.floor((width - 2 * MARGIN) / 11.5));
  const below = [textAt(MARGIN, 32, `font-size="17" font-weight="bold" fill="${INK}"`, heading)];
  for (const [i, card] of cards.entries()) {
    const left = MARGIN + (i % columns) * (TILE + MARGIN);
    const top = HEADER + Math.floor(i / columns) * (TILE + CAPTION + MARGIN);
    below.push(
      `<rect x="${left - 6}" y="${top - 6}" width="${TILE + 12}" height="${TILE + CAPTION + 8}" rx="4" fill="#fff"/>`,
      ...captionOf(card, left, top),
    );
    const tile = await tileOf(card);
    if (tile instanceof DataError) {
      below.push(textAt(left, top + TILE / 2, REFUSED, "not shown"));
      continue;
    }
    tiles.push({ input: tile.jpeg, left: left + tile.x, top: top + tile.y });
  }
  return drawSheet({ width, height }, PREDICTION_MARK, below, tiles);
}

const MOST_COLUMNS = 6;
const MARGIN = 22;
const HEADER = 54;
const CAPTION = 58;
const INK = "#1b1f24";
const FAINT = "#59636e";
const REFUSED = 'font-size="11" fill="#b3261e"';

async function tileOf(card: Card): Promise<DataError | { jpeg: Buffer; x: number; y: number }> {
  try {
    const source = await card.read();
    const size = seenSize(source, card.name);
    const { x, y } = fit(size);
    return { jpeg: await fitted(source, size), x, y };
  } catch (error) {
    if (error instanceof DataError) return error;
    throw error;
  }
}

/** The likeliest class in bold with its probability, the next one, the file. */
function captionOf({ name, guesses, problem }: Card, left: number, top: number): string[] {
  const [first, second] = guesses;
  const guess = (
    y: number,
    size: number,
    perCharacter: number,
    style: string,
    of: typeof first,
  ): string[] => {
    if (of === undefined) return [];
    // `perCharacter` is about how wide one is. The probability is never cut.
    const room = TILE - of.share.length * perCharacter - 10;
    return [
      textAt(left, y, `font-size="${size}" ${style}`, startOf(of.name, Math.floor(room / perCharacter))),
      `<text x="${left + TILE}" y="${y}" text-anchor="end" font-size="${size}" ${style}>${escapeMarkup(of.share)}</text>`,
    ];
  };
  return [
    ...guess(top + TILE + 17, 13, 8.6, `fill="${INK}" font-weight="bold"`, first),
    ...guess(top + TILE + 33, 11, 6.6, `fill="${FAINT}"`, second),
    ...(problem === undefined
      ? []
      : [textAt(left, top + TILE + 17, REFUSED, startOf(problem, Math.floor(TILE / 6.6)))]),
    textAt(left, top + TILE + 49, `font-size="11" fill="${FAINT}"`, endOf(name, Math.floor(TILE / 6.6))),
  ];
}

function textAt(x: number, y: number, style: string, content: string): string {
  return `<text x="${x}" y="${y}" ${style}>${escapeMarkup(content)}</text>`;
}
