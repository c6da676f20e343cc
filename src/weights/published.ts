/**
 * Weights that others publish for everybody, each under a name that stands in for a path wherever weights are used:
 * torchvision's, trained on ImageNet.
 *
 * A file's name ends in the first digits of its SHA-256, as torch.hub checks them.
 *
 * Source: torchvision/models/shufflenetv2.py, the IMAGENET1K_V1 of each width: address, accuracy, evaluation, file size.
 */

import { environment } from "../core/environment.js";
import { UsageError } from "../core/error.js";
import type { VariantName, Width } from "../models/variants.js";

/** One published file. */
export interface Published {
  /** "torchvision/1.0x" */
  readonly name: string;
  readonly variant: VariantName;
  readonly width: Width;
  readonly file: string;
  /** The first digits of the SHA-256 of all its bytes, in hexadecimal. */
  readonly sha256: string;
  /** About how long it is, in bytes. */
  readonly bytes: number;
  /** On ImageNet's validation set, a fraction. */
  readonly top1: number;
  /** The shorter side, in pixels, of the pictures of which it saw the central 224 for that. */
  readonly evalResize: number;
  /** Where it may be used, and what it was made of, for people. */
  readonly licence: string;
}

export const published: { readonly [W in Width]: Published } = {
  0.5: ofTorchvision(0.5, "shufflenetv2_x0.5-f707e7126e.pth", 5.282, 0.60552, 256),
  1: ofTorchvision(1, "shufflenetv2_x1-5666bf0f80.pth", 8.791, 0.69362, 256),
  1.5: ofTorchvision(1.5, "shufflenetv2_x1_5-3c479a10.pth", 13.557, 0.72996, 232),
  2: ofTorchvision(2, "shufflenetv2_x2_0-8be3c8ee.pth", 28.433, 0.7623, 232),
};

/** What `imagenet` means. */
const USUAL = published[1];

/** How each is called, for people. */
export const publishedNames: readonly string[] = [
  "imagenet",
  ...Object.values(published)
    .map(({ name }) => name)
    .sort(),
];

/** Whether that is a name, or would be one if torchvision had such weights; no path is meant then. */
export function isPublishedName(given: string): boolean {
  return given === "imagenet" || /^torchvision\//i.test(given);
}

/**
 * The published weights that a name stands for; undefined for a path.
 *
 * @throws UsageError for a name of torchvision's that none has
 */
export function publishedNamed(given: string): Published | undefined {
  if (given === "imagenet") return USUAL;
  const [, width] = /^torchvision\/(.*)$/i.exec(given) ?? [];
  if (width === undefined) return undefined;
  const found = Object.values(published).find((each) => each.width === Number(width.replace(/x$/i, "")));
  if (found !== undefined && /\d/.test(width)) return found;
  throw new UsageError({
    what: `torchvision publishes no weights called ${JSON.stringify(given)}`,
    where: given,
    expected: publishedNames.join(", "),
    found: given,
    safe: "Nothing was fetched or written",
    hint: `For a file or folder of that name write ./${given}`,
  });
}

/** Where a published file is fetched from. */
export function addressOf({ file }: Published): string {
  const base = environment("RIFFLE_TEST_WEIGHTS_URL") ?? "https://download.pytorch.org/models/";
  return new URL(file, base).href;
}

/** @param mebibytes its length, 2^20 bytes each, as torchvision's metadata have it */
function ofTorchvision(
  width: Width,
  file: string,
  mebibytes: number,
  top1: number,
  evalResize: number,
): Published {
  return {
    name: `torchvision/${width.toFixed(1)}x`,
    variant: "torchvision",
    width,
    file,
    sha256: /-([0-9a-f]+)\.pth$/.exec(file)?.[1] ?? "",
    bytes: mebibytes * 2 ** 20,
    top1,
    evalResize,
    licence: "BSD-3-Clause (torchvision), trained on ImageNet",
  };
}
