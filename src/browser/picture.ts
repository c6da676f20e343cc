/**
 * What a page may give as a picture: a file, what a canvas holds, or what a camera shows at the moment of the call.
 *
 * Node's types have no page's; these say of a page's objects what is used of them, so the objects themselves fit.
 */

/** A file or bytes with a picture in it: JPEG, PNG, WebP, GIF, AVIF or BMP, as far as the browser decodes it. */
export type PictureFile = Blob;

/** `ImageBitmap`. It is left as it was, and need not stay open once the call's promise has settled. */
export interface Bitmap {
  readonly width: number;
  readonly height: number;
  close(): void;
}

/** `ImageData`: RGBA, row by row. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  /** [height, width, 4] */
  readonly data: Uint8Array | Uint8ClampedArray;
}

/** `HTMLVideoElement` that has begun to play: the picture that it shows now. */
export interface Video {
  readonly videoWidth: number;
  readonly videoHeight: number;
  readonly readyState: number;
}

/** `VideoFrame`. It is left open. */
export interface Frame {
  readonly displayWidth: number;
  readonly displayHeight: number;
  clone(): Frame;
  close(): void;
}

export type Picture = PictureFile | Bitmap | Pixels | Video | Frame;

/** A picture and what it shows. */
export interface LabelledPicture {
  readonly picture: Picture;
  /** The name of its class. */
  readonly label: string;
  /** What messages call it; a `File`'s own name unless told, else its number: "#12". */
  readonly name?: string | undefined;
}
