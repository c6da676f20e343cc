/** The page's turning of pictures against the engine's own. */

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import fc from "fast-check";
import sharp from "sharp";

import { exifOf, heldJpeg } from "../../test/support/exif.js";
import { type Orientation, exifOrientation, turnPixels } from "../data/pictures/orientation.js";
import { storedPicture, upright } from "./upright.js";

const grey = sharp({ create: { width: 3, height: 2, channels: 3, background: "grey" } });
const orientations = [1, 2, 3, 4, 5, 6, 7, 8] as const satisfies readonly Orientation[];

suite("how the camera was held", () => {
  for (const format of ["jpeg", "png", "webp"] as const) {
    test(`is read from a ${format} and taken out of it`, async () => {
      const plain = await grey.clone().toFormat(format).toBuffer();
      assert.equal(storedPicture(plain).orientation, 1);
      assert.deepEqual(Buffer.from(storedPicture(plain).file), plain, "a file without EXIF stays as it is");
      for (const orientation of orientations) {
        const held =
          format === "jpeg"
            ? heldJpeg(plain, exifOf(orientation))
            : await grey.clone().withMetadata({ orientation }).toFormat(format).toBuffer();
        assert.equal(exifOrientation(format, held), orientation);
        const stored = storedPicture(held);
        assert.equal(stored.orientation, orientation);
        assert.equal(exifOrientation(format, stored.file), 1);
        assert.deepEqual(await sharp(stored.file).raw().toBuffer(), await sharp(plain).raw().toBuffer());
      }
    });
  }

  test("turns the pixels as the engine does", () => {
    const size = { width: 3, height: 2 };
    const data = Uint8Array.from({ length: 24 }, (_, i) => i);
    for (const orientation of orientations) {
      const turned = upright({ ...size, data }, orientation);
      assert.deepEqual(Buffer.from(turned.data), Buffer.from(turnPixels(data, size, 4, orientation)));
      assert.equal(turned.width, orientation > 4 ? 2 : 3);
    }
  });

  test("is as stored in a file that is cut short or makes no sense", async () => {
    const held = {
      jpeg: heldJpeg(await grey.clone().jpeg().toBuffer(), 6),
      png: await grey.clone().withMetadata({ orientation: 6 }).png().toBuffer(),
      webp: await grey.clone().withMetadata({ orientation: 6 }).webp().toBuffer(),
    };
    const damaged = fc.record({
      format: fc.constantFrom("jpeg" as const, "png" as const, "webp" as const),
      length: fc.nat(400),
      changes: fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 4 }),
    });
    fc.assert(
      fc.property(damaged, ({ format, length, changes }) => {
        const bytes = Buffer.from(held[format].subarray(0, length));
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        const { orientation } = storedPicture(bytes);
        return orientation >= 1 && orientation <= 8;
      }),
      { numRuns: 500 },
    );
  });
});
