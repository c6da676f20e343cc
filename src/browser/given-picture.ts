/** A page's pictures in the form in which they travel to the worker, and what the user calls them. */

import { DataError } from "../core/error.js";
import type { Bitmap, Frame, LabelledPicture, Picture, Pixels, Video } from "./picture.js";
import type { GivenLabelled } from "./wire.js";

/** A file, or a bitmap: of a camera what it showed when it was asked. */
export interface Given {
  readonly name: string;
  readonly content: Blob | Bitmap | Pixels;
}

/** Bitmaps that were made for the journey, which are moved, not copied. */
export interface Packed<T> {
  readonly given: T;
  readonly moved: readonly object[];
}

/** @throws DataError for what is none, and for a video that shows nothing yet */
export async function pack(picture: Picture, name: string): Promise<Packed<Given>> {
  if (picture instanceof Blob)
    return { given: { name: nameOf(picture) ?? name, content: picture }, moved: [] };
  if (isVideo(picture) || isFrame(picture)) {
    const bitmap = await snapshot(picture, name);
    return { given: { name, content: bitmap }, moved: [bitmap] };
  }
  if (isPixels(picture) || isBitmap(picture)) return { given: { name, content: picture }, moved: [] };
  throw DataError.at(name, "is no picture that a page has", {
    expected: "a File or Blob, an ImageBitmap, ImageData, a video element or a VideoFrame",
    found: typeof picture,
  });
}

export async function packLabelled(
  pictures: readonly LabelledPicture[],
): Promise<Packed<readonly GivenLabelled[]>> {
  const packed: Packed<GivenLabelled>[] = [];
  for (const [i, { picture, label, name }] of pictures.entries()) {
    const { given, moved } = await pack(picture, name ?? `#${i + 1}`);
    packed.push({ given: { picture: name === undefined ? given : { ...given, name }, label }, moved });
  }
  return { given: packed.map(({ given }) => given), moved: packed.flatMap(({ moved }) => moved) };
}

/** A `File` has one. */
function nameOf(file: Blob): string | undefined {
  return "name" in file && typeof file.name === "string" && file.name !== "" ? file.name : undefined;
}

async function snapshot(picture: Video | Frame, name: string): Promise<Bitmap> {
  try {
    return await createImageBitmap(picture);
  } catch (error) {
    throw DataError.at(
      name,
      "the camera or video shows no picture yet",
      { hint: "Ask when it plays" },
      error,
    );
  }
}

declare function createImageBitmap(of: object): Promise<Bitmap>;

function isVideo(picture: Picture): picture is Video {
  return typeof picture === "object" && "videoWidth" in picture;
}
function isFrame(picture: Picture): picture is Frame {
  return typeof picture === "object" && "displayWidth" in picture && "clone" in picture;
}
function isPixels(picture: Picture): picture is Pixels {
  return typeof picture === "object" && "data" in picture && "width" in picture;
}
function isBitmap(picture: Picture): picture is Bitmap {
  return typeof picture === "object" && "close" in picture && "width" in picture;
}
