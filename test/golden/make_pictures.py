"""Writes pictures/: small pictures of every kind that is read, and values.json with what Pillow makes of each.

    pip install pillow==13.0.0 numpy==2.4.6 && python test/golden/make_pictures.py

Each value is the picture's size and the SHA-256 of its RGB bytes, first frame, `convert("RGB")`; of 16 bits the high byte. Where
EXIF says how the camera was held, `upright` has the same of `ImageOps.exif_transpose`. AVIF's decoders round differently,
so a PNG of Pillow's pixels stands beside it.
"""

import hashlib
import json
import pathlib

import numpy as np
from PIL import Image, ImageOps

WIDTH, HEIGHT = 40, 30
folder = pathlib.Path(__file__).parent / "pictures"
folder.mkdir(exist_ok=True)

y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
planes = [(x * 5 + y * 3) % 256, (x * 2 + y * 7) % 256, (x * y) // 7 % 256, 255 - (x + y) * 4 % 256]
rgba = Image.fromarray(np.stack(planes, -1).astype("uint8"), "RGBA")
rgb = rgba.convert("RGB")
gray = Image.fromarray(planes[0].astype("uint8"))
deep = Image.fromarray((y * 2000 + x * 37).astype("uint16"))
turned = rgb.transpose(Image.Transpose.ROTATE_180)
# No multiple of 8, and larger than what crops are made to.
large = rgb.resize((157, 118))
values = {}


def described(picture):
    if picture.mode.startswith("I;16"):
        high = (np.asarray(picture) >> 8).astype("uint8")
        pixels = np.stack([high] * 3, -1)
    else:
        pixels = np.asarray(picture.convert("RGB"))
    return [pixels.shape[1], pixels.shape[0], hashlib.sha256(pixels.tobytes()).hexdigest()]


def save(name, picture, **how):
    path = folder / name
    picture.save(path, **how)
    if "exif" in how:
        # Pillow turns a TIFF whenever it opens one: what is stored is what was saved.
        stored = picture if name.endswith(".tif") else Image.open(path)
        value = {"stored": described(stored), "upright": described(ImageOps.exif_transpose(Image.open(path)))}
    else:
        value = {"stored": described(Image.open(path))}
    values[name] = value


def held(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


save("rgb.png", rgb)
save("rgba.png", rgba)
save("gray.png", gray)
save("gray-alpha.png", Image.merge("LA", [gray, rgba.getchannel(3)]))
save("palette.png", rgb.quantize(16))
save("palette-alpha.png", rgb.quantize(16), transparency=3)
save("one-bit.png", gray.convert("1"))
save("16-bit.png", deep)
save("still.gif", rgb.quantize(32))
save("moving.gif", rgb.quantize(32), save_all=True, append_images=[turned.quantize(32)], duration=100, loop=0)
save("plain.tif", rgb)
save("lzw.tif", rgb, compression="tiff_lzw")
save("deflate.tif", rgba, compression="tiff_deflate")
save("two-pages.tif", rgb, save_all=True, append_images=[turned])
save("16-bit.tif", deep)
save("gray.tif", gray)
save("lossless.webp", rgb, lossless=True)
save("lossy.webp", rgb, quality=80)
save("alpha.webp", rgba, lossless=True, exact=True)
save("moving.webp", rgb, save_all=True, append_images=[turned], lossless=True)
save("colour.avif", rgb, quality=90, subsampling="4:4:4")
Image.open(folder / "colour.avif").convert("RGB").save(folder / "colour.avif.png")
save("cmyk.jpg", rgb.convert("CMYK"), quality=95)
save("gray.jpg", gray)
for kind, subsampling in [("444", 0), ("422", 1), ("420", 2)]:
    save(f"{kind}.jpg", rgb, subsampling=subsampling)
    save(f"{kind}-progressive.jpg", rgb, subsampling=subsampling, progressive=True)
for orientation in range(2, 9):
    save(f"held-{orientation}.jpg", rgb, quality=90, exif=held(orientation))
rgb.save(folder / "held-6.avif", quality=90, subsampling="4:4:4", exif=held(6))
ImageOps.exif_transpose(Image.open(folder / "held-6.avif")).convert("RGB").save(folder / "held-6.avif.png")
save("held-6.png", rgb, exif=held(6))
save("held-6.tif", rgb, exif=held(6))
save("held-7-large.jpg", large, quality=90, exif=held(7))
save("held-8.webp", rgb, lossless=True, exif=held(8))
rgb.save(folder / "refused.bmp")
rgb.convert("CMYK").save(folder / "refused-cmyk.tif")

(folder / "values.json").write_text(json.dumps(values, indent=1) + "\n")
