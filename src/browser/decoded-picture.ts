/**
 * A page's picture to upright RGB pixels: judged by its header before it is decoded, decoded by the browser as it is stored, and
 * turned as its EXIF says.
 */

import { DataError } from "../core/error.js";
import { type ImageInfo, imageInfo } from "../data/pictures/image-info.js";
import { decode } from "../web/decode.js";
import { type Rgba, storedPicture, upright } from "../web/upright.js";
import type { Given } from "./given-picture.js";
import type { Bitmap } from "./picture.js";

export interface DecodedPicture {
  readonly width: number;
  readonly height: number;
  /** [height, width, 3] */
  readonly data: Uint8Array;
  /** What to know of it. */
  readonly note?: string | undefined;
}

/** A browser holds a picture several times over while it decodes it, eight bytes a pixel and more: half a gigabyte here. */
const MOST_PIXELS = 64_000_000;

/** Longer files are read by nobody; a picture of so many pixels has fewer bytes. */
const MOST_BYTES = 2 ** 28;

/** @throws DataError naming the picture */
export async function decodePicture({ name, content }: Given): Promise<DecodedPicture> {
  if (!(content instanceof Blob)) {
    refuseLarge(name, content.width, content.height);
    if (content.width === 0 || content.height === 0)
      throw DataError.at(name, "a picture without pixels", { expected: "a bitmap that is not closed" });
    return rgbOf("data" in content ? content : drawn(content));
  }
  const { bytes, info } = await judgePicture(name, content);
  const { file, orientation } = storedPicture(bytes);
  const pixels = await decode(file).catch((error: unknown) => {
    throw DataError.at(
      name,
      error instanceof Error ? error.message : "this browser cannot read it as a picture",
      { hint: "Save it as JPEG or PNG, or leave it out" },
      error,
    );
  });
  const turned = rgbOf(upright(pixels, orientation));
  const isAnimated = info.more || isAnimatedPng(bytes);
  const isTiny = Math.max(info.width, info.height) < TINY;
  const note = isAnimated
    ? "it is animated: its first frame is used"
    : isTiny
      ? `it has only ${info.width} x ${info.height} pixels`
      : undefined;
  return { ...turned, note };
}

/** A picture's file by its first bytes, before anything of it is decoded. @throws DataError naming the picture */
export async function judgePicture(
  name: string,
  content: Blob,
): Promise<{ readonly bytes: Uint8Array; readonly info: ImageInfo }> {
  if (content.size > MOST_BYTES) {
    throw DataError.at(name, "the file is longer than any picture that is read", {
      expected: `at most ${MOST_BYTES} bytes`,
      found: `${content.size}`,
      hint: "Leave it out",
    });
  }
  const bytes = await bytesOf(name, content);
  const info = imageInfo(bytes, name);
  refuseLarge(name, info.width, info.height);
  return { bytes, info };
}

/** Pixels of a side below which hardly anything can be seen. */
const TINY = 16;

function refuseLarge(name: string, width: number, height: number): void {
  if (width * height <= MOST_PIXELS) return;
  throw DataError.at(name, `${width} x ${height} pixels are more than is decoded in a page`, {
    expected: `at most ${MOST_PIXELS / 1e6} million pixels`,
    found: `${Math.round((width * height) / 1e6)} million`,
    hint: "Make it smaller, or leave it out",
  });
}

async function bytesOf(name: string, file: Blob): Promise<Uint8Array> {
  try {
    return new Uint8Array(await file.arrayBuffer());
  } catch (error) {
    throw DataError.at(
      name,
      "the file cannot be read",
      {
        found: error instanceof Error ? error.message : "",
        hint: "It may have been moved or changed: choose it again",
      },
      error,
    );
  }
}

/** Alpha is left out, as everywhere here: a colour that is seen through counts as it is. */
function rgbOf({ width, height, data }: Rgba): DecodedPicture {
  const out = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < out.length; from += 4) {
    out[to++] = data[from] as number;
    out[to++] = data[from + 1] as number;
    out[to++] = data[from + 2] as number;
  }
  return { width, height, data: out };
}

declare const OffscreenCanvas: new (
  width: number,
  height: number,
) => {
  getContext(
    kind: "2d",
    options: object,
  ): {
    drawImage(bitmap: Bitmap, x: number, y: number): void;
    getImageData(x: number, y: number, width: number, height: number): Rgba;
  } | null;
};

function drawn(bitmap: Bitmap): Rgba {
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (context === null)
    throw DataError.at("a bitmap", `${width} x ${height} pixels are more than this browser draws`);
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, width, height);
}

/** Its chunks of animation stand in front of the first of the picture's own (W3C PNG, 11.3.6). */
function isAnimatedPng(bytes: Uint8Array): boolean {
  if (bytes[0] !== 0x89 || bytes[1] !== 0x50) return false;
  const head = new TextDecoder("latin1").decode(bytes.subarray(0, 4096));
  return /^[^]*?(acTL|IDAT)/.exec(head)?.[1] === "acTL";
}
