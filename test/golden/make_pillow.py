"""Writes pillow-bilinear.json: what Pillow's BILINEAR makes of pictures given by a formula.

    pip install pillow==13.0.0 && python test/golden/make_pillow.py
"""

import json
import pathlib

import PIL
from PIL import Image

# width, height, box (x, y, width, height), resized width and height
CASES = [
    (33, 20, (0, 0, 33, 20), (16, 16)),
    (33, 20, (5, 3, 20, 11), (24, 24)),
    (9, 7, (0, 0, 9, 7), (5, 20)),
    (64, 48, (10, 7, 47, 39), (12, 10)),
    (40, 40, (1, 2, 37, 38), (3, 4)),
    (17, 5, (0, 0, 17, 5), (17, 5)),
]


def picture(width, height):
    values = bytes((i * i * 31 + i * 7 + i // 5) % 256 for i in range(width * height * 3))
    return Image.frombytes("RGB", (width, height), values)


cases = []
for width, height, (x, y, w, h), size in CASES:
    cut = picture(width, height).crop((x, y, x + w, y + h))
    out = cut.resize(size, Image.Resampling.BILINEAR)
    cases.append({"width": width, "height": height, "box": [x, y, w, h], "resized": size, "out": out.tobytes().hex()})
path = pathlib.Path(__file__).with_name("pillow-bilinear.json")
path.write_text(json.dumps({"pillow": PIL.__version__, "cases": cases}, indent=1) + "\n")
