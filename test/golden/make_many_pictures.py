"""Writes about 2,000 small pictures into a folder, and values.json with what Pillow makes of each.

    pip install pillow==13.0.0 numpy==2.4.6 && python test/golden/make_many_pictures.py FOLDER [SAMPLE]

Into SAMPLE go a few of them, with a values.json of their own: test/golden/odd-pictures was made so.

scripts/judge-pictures.mjs asks for the same pixels of every path of ours. Beside Pillow, cjpeg (libjpeg-turbo-progs) and
ImageMagick write pictures where they are installed; what only they can write is left out otherwise, and said.

A row is {file, kind, size, sha256}: of the RGB bytes, first frame, `convert("RGB")`, of 16-bit gray the high byte; or {file, kind,
refused} with Pillow's reason. `damaged` are those whose data libjpeg fills up with gray, which we refuse.
"""

import hashlib
import io
import json
import pathlib
import shutil
import subprocess
import sys
import warnings

import numpy as np
from PIL import Image, ImageCms, features

warnings.simplefilter("ignore")
folder = pathlib.Path(sys.argv[1])
(folder / "pictures").mkdir(parents=True, exist_ok=True)
cjpeg = shutil.which("cjpeg")
magick = next(filter(None, map(shutil.which, ["convert-im6.q16", "magick", "convert"])), None)
rows = []
failed = []


def described(data):
    picture = Image.open(io.BytesIO(data))
    if picture.mode.startswith("I;16"):
        high = (np.asarray(picture) >> 8).astype("uint8")
        pixels = np.stack([high] * 3, -1)
    else:
        pixels = np.asarray(picture.convert("RGB"))
    return {"size": [pixels.shape[1], pixels.shape[0]], "sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}


def keep(kind, extension, data, **more):
    name = f"{len(rows):04d}.{extension}"
    (folder / "pictures" / name).write_bytes(data)
    try:
        value = described(data)
    except Exception as error:  # whatever Pillow says
        value = {"refused": str(error).split("<")[0].strip()}
    rows.append({"file": name, "kind": kind.strip(), **value, **more})
    return data


def drawn(width, height, seed=0):
    """A gradient, an edge and some noise: smooth parts and sharp ones in every picture."""
    draws = np.random.Generator(np.random.PCG64(width * 1000 + height + seed))
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x * 3 + y * 5) % 256]
    pixels = np.stack(planes, -1).astype("int32")
    pixels += (draws.integers(-60, 61, pixels.shape) * ((x + y) % 32 < 12)[..., None]).astype("int32")
    pixels[height // 3 : height // 2, width // 4 :] = [230, 20, 40]
    return Image.fromarray(pixels.clip(0, 255).astype("uint8"))


def saved(picture, how, **options):
    out = io.BytesIO()
    picture.save(out, how, **options)
    return out.getvalue()


def ran(command, given):
    done = subprocess.run([str(part) for part in command], input=given, capture_output=True)
    if done.returncode != 0 or not done.stdout:
        failed.append([" ".join(map(str, command)), done.stderr.decode(errors="replace").strip()])
        return None
    return done.stdout


def by_cjpeg(kind, picture, *options):
    if cjpeg is None:
        return None
    data = ran([cjpeg, *options], saved(picture, "PPM"))
    return None if data is None else keep(f"cjpeg, {kind}", "jpg", data)


def by_magick(kind, extension, picture, *options, target=None):
    if magick is None:
        return
    data = ran([magick, "ppm:-", *options, target or f"{extension}:-"], saved(picture, "PPM"))
    if data is not None:
        keep(f"ImageMagick, {kind}", extension, data)


SIZES = [(1, 1), (1, 9), (23, 1), (2, 2), (7, 5), (8, 8), (9, 16), (17, 13), (33, 31), (64, 48), (101, 67), (40, 130)]
FEW = [(7, 5), (33, 31), (101, 67)]
profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
exif = Image.Exif()
exif[0x010F] = "a maker"

# --- JPEG by Pillow ---------------------------------------------------------------------------------------------

for size in SIZES:
    picture = drawn(*size)
    for subsampling in ["4:4:4", "4:2:2", "4:2:0"]:
        for quality in [10, 75, 96]:
            for progressive in [False, True]:
                how = {"subsampling": subsampling, "quality": quality, "progressive": progressive}
                keep(f"Pillow JPEG {how}", "jpg", saved(picture, "JPEG", **how))
    for mode in ["L", "CMYK"]:
        for progressive in [False, True]:
            keep(f"Pillow JPEG {mode}", "jpg", saved(picture.convert(mode), "JPEG", progressive=progressive))
for size in FEW:
    for how in [
        *({"restart_marker_blocks": blocks, "subsampling": s} for blocks in [1, 2, 5] for s in [0, 1, 2]),
        *({"restart_marker_rows": 1, "progressive": p} for p in [False, True]),
        {"optimize": True},
        {"keep_rgb": True, "subsampling": 0},
        {"comment": b"c" * 40_000},
        {"exif": exif},
        {"icc_profile": profile},
        {"icc_profile": profile, "exif": exif, "comment": b"x", "dpi": (300, 300), "progressive": True},
    ]:
        keep(f"Pillow JPEG {sorted(how)}", "jpg", saved(drawn(*size), "JPEG", **how))

# --- JPEG by cjpeg ----------------------------------------------------------------------------------------------

SAMPLINGS = """1x1 2x1 1x2 2x2 4x1 1x4 4x2 2x4 3x1 1x3 3x2 2x2,2x1,1x1 2x2,1x2,2x1 2x1,1x1,2x1 1x2,1x1,1x2 2x2,2x2,1x1 1x1,2x2,1x1
2x2,1x1,2x2 2x1,1x2,1x1 1x1,1x1,2x1 4x2,1x1,2x1 1x1,2x1,2x1 1x1,1x2,1x2 2x1,2x1,2x1 1x2,1x2,1x2""".split()
scripts = {
    "one scan a component": "0; 1; 2;",
    "gray first": "0; 1 2;",
    "chroma last first": "2; 1; 0;",
    "DC first": "0 1 2: 0-0, 0, 0; 0: 1-63, 0, 0; 1: 1-63, 0, 0; 2: 1-63, 0, 0;",
    "bands": "0 1 2: 0-0, 0, 0; 0: 1-5, 0, 0; 0: 6-63, 0, 0; 1: 1-63, 0, 0; 2: 1-20, 0, 0; 2: 21-63, 0, 0;",
    "refined thrice": "0 1 2: 0-0, 0, 1; 0: 1-63, 0, 3; 1: 1-63, 0, 1; 2: 1-63, 0, 1; 0: 1-63, 3, 2; 0: 1-63, 2, 1;"
    "0 1 2: 0-0, 1, 0; 0: 1-63, 1, 0; 1: 1-63, 1, 0; 2: 1-63, 1, 0;",
    "DC apart": "0: 0-0, 0, 1; 1: 0-0, 0, 0; 2: 0-0, 0, 2; 2: 0-0, 2, 1; 0: 1-63, 0, 0; 2: 0-0, 1, 0; 1: 1-63, 0, 0;"
    "2: 1-63, 0, 0; 0: 0-0, 1, 0;",
    # A picture that was saved before it had arrived: its last bits were never sent.
    "never refined": "0 1 2: 0-0, 0, 1; 0: 1-63, 0, 2; 1: 1-63, 0, 1; 2: 1-63, 0, 1;",
    "DC alone": "0 1 2: 0-0, 0, 0;",
}
for size in [(7, 5), (17, 13), (33, 31), (101, 67)]:
    picture = drawn(*size)
    for sampling in SAMPLINGS:
        for more in [(), ("-progressive",), ("-restart", "3B")]:
            by_cjpeg(f"{sampling} {' '.join(more)}", picture, "-sample", sampling, "-quality", 85, *more)
    for name, text in scripts.items():
        path = folder / "scans.txt"
        path.write_text(text)
        for more in [(), ("-restart", 1), ("-sample", "1x1"), ("-sample", "2x1", "-restart", "2B")]:
            by_cjpeg(f"scans: {name} {' '.join(map(str, more))}", picture, "-scans", path, *more)
        path.unlink()
    for options in [
        ["-grayscale"],
        ["-grayscale", "-progressive"],
        ["-grayscale", "-sample", "2x2"],
        ["-grayscale", "-restart", 1],
        ["-rgb"],
        ["-rgb", "-progressive"],
        ["-dct", "float", "-quality", 95],
        ["-dct", "fast", "-quality", 60],
        ["-smooth", 30],
        ["-optimize"],
        ["-quality", 1],
        ["-quality", 1, "-baseline"],
        ["-quality", "90,20", "-qslots", "0,1"],
        ["-quality", 100],
        *(["-arithmetic", *more] for more in [[], ["-progressive"], ["-grayscale"], ["-restart", 1], ["-sample", "1x1"]]),
        ["-arithmetic", "-progressive", "-restart", "2B", "-sample", "2x1"],
    ]:
        by_cjpeg(" ".join(map(str, options)), picture, *options)

# --- JPEG by ImageMagick ----------------------------------------------------------------------------------------

for size in FEW:
    picture = drawn(*size)
    for sampling in ["1x1", "2x1", "1x2", "2x2", "4x1", "4x2", "4:4:0", "4:1:1"]:
        by_magick(f"JPEG {sampling}", "jpg", picture, "-sampling-factor", sampling, "-quality", 82)
        by_magick(f"JPEG {sampling}, interlaced", "jpg", picture, "-sampling-factor", sampling, "-interlace", "JPEG")
    for options in [
        ["-colorspace", "Gray"],
        ["-type", "Bilevel"],
        ["-colorspace", "CMYK"],
        ["-colorspace", "CMYK", "-interlace", "JPEG"],
        ["-define", "jpeg:arithmetic-coding=true"],
        ["-define", "jpeg:optimize-coding=off"],
        ["-define", "jpeg:dct-method=float"],
        ["-set", "comment", "a comment"],
        ["-density", "300x150", "-units", "PixelsPerCentimeter"],
        ["-colorspace", "RGB", "-set", "colorspace", "RGB"],
    ]:
        by_magick(f"JPEG {' '.join(options)}", "jpg", picture, *options, "-quality", 88)

# --- JPEG as cameras, phones and editors leave it ---------------------------------------------------------------

SOI, EOI = b"\xff\xd8", b"\xff\xd9"


def segments(data):
    """(marker, start, end) of each segment before the first scan's data; the last is its header."""
    at, found = 2, []
    while True:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((data[at + 1], at, end))
        if data[at + 1] == 0xDA:
            return found
        at = end


def put(data, at, more, without=0):
    return data[:at] + more + data[at + without :]


def segment(marker, content):
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def odd(kind, data, **more):
    keep(f"odd JPEG: {kind}", "jpg", data, **more)


def adobe(transform, version=100):
    return segment(0xEE, b"Adobe" + version.to_bytes(2, "big") + bytes(4) + bytes([transform]))


def without(data, *markers):
    for marker, start, end in reversed(segments(data)):
        if marker in markers:
            data = put(data, start, b"", end - start)
    return data


for size in [(33, 31), (101, 67)]:
    picture = drawn(*size)
    plain = saved(picture, "JPEG", quality=90)
    odds = {
        "colour": plain,
        "gray": saved(picture.convert("L"), "JPEG"),
        "progressive": saved(picture, "JPEG", progressive=True),
        "4:4:4 with restarts": saved(picture, "JPEG", subsampling=0, restart_marker_blocks=2),
        "CMYK": saved(picture.convert("CMYK"), "JPEG", quality=92),
    }
    for name, data in odds.items():
        parts = segments(data)
        for marker, start, end in parts:
            for stray in [b"\0", b"\0\0", b"\x12\x34\x56", b"\xff", b"\xff\xff\xff", b"\xff\0", b"a" * 300]:
                odd(f"{name}, {stray[:3]} before {marker:02x}", put(data, start, stray))
        sos = parts[-1][2] - 3
        for bounds in [(0, 0, 0), (63, 63, 0), (0, 63, 0x11), (1, 63, 0), (0, 255, 255), (255, 0, 16), (63, 0, 0)]:
            if name != "progressive":
                odd(f"{name}, Ss Se AhAl {bounds}", put(data, sos, bytes(bounds), 3))
        end = data.rindex(EOI)
        for tail in [b"\0", b"tail" * 9, SOI, data, b"\0" * 5000, b"\xff" * 7, b"SEFT\0\0\0\0"]:
            odd(f"{name}, {tail[:4]} behind the end", data + tail)
        for stray in [b"\0", b"\x7f\x55\xaa", b"\xff\xff"]:
            odd(f"{name}, {stray} before the end", put(data, end, stray))
        for transform in [0, 1, 2, 7]:
            odd(f"{name}, Adobe {transform}", put(without(data, 0xE0, 0xEE), 2, adobe(transform)))
            if parts[0][0] == 0xE0:
                odd(f"{name}, JFIF and Adobe {transform}", put(data, parts[0][2], adobe(transform)))
        odd(f"{name}, without JFIF and Adobe", without(data, 0xE0, 0xEE))
        odd(f"{name}, Adobe's marker cut short", put(data, 2, segment(0xEE, b"Adobe")))
        odd(f"{name}, an EXIF block that is none", put(data, 2, segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff")))
        odd(f"{name}, an empty EXIF block", put(data, 2, segment(0xE1, b"")))
        odd(f"{name}, a thumbnail", put(data, 2, segment(0xE1, b"Exif\0\0" + saved(drawn(9, 9), "JPEG"))))
        odd(f"{name}, a profile that is none", put(data, 2, segment(0xE2, b"ICC_PROFILE\0\1\1" + b"p" * 50)))
        odd(f"{name}, the second of two profile parts", put(data, 2, segment(0xE2, b"ICC_PROFILE\0\2\2" + profile)))
        odd(f"{name}, twenty empty comments", put(data, 2, segment(0xFE, b"") * 20))
        odd(f"{name}, maker's notes", put(data, 2, b"".join(segment(0xE3 + i, bytes(99)) for i in range(10))))
        for version in [b"\2\0", b"\0\0", b"\1\xff"]:
            if parts[0][0] == 0xE0:
                odd(f"{name}, JFIF {version}", put(data, parts[0][1] + 9, version, 2))
        if b"\xff\xdd" not in data:
            odd(f"{name}, a restart interval of 0", put(data, parts[-1][1], segment(0xDD, b"\0\0")))
        frame = next(start for marker, start, _ in parts if marker in (0xC0, 0xC1, 0xC2))
        if data[frame + 1] == 0xC0:
            odd(f"{name}, extended sequential", put(data, frame + 1, b"\xc1", 1))
        odd(f"{name}, 12 bits", put(data, frame + 4, b"\x0c", 1))
        odd(f"{name}, lossless", put(data, frame + 1, b"\xc3", 1))
        odd(f"{name}, hierarchical", put(data, frame + 1, b"\xc5", 1))
        odd(f"{name}, no height", put(data, frame + 5, b"\0\0", 2))
        if data[frame + 9] == 3:
            for ids in [(0, 1, 2), (ord("R"), ord("G"), ord("B")), (1, 34, 35), (7, 8, 9)] * (name != "progressive"):
                relabelled = bytearray(without(data, 0xE0, 0xEE))
                inner = {marker: start for marker, start, _ in segments(relabelled)}
                for i, number in enumerate(ids):
                    relabelled[inner[0xC0] + 10 + 3 * i] = number
                    relabelled[inner[0xDA] + 5 + 2 * i] = number
                odd(f"{name}, components {ids}", bytes(relabelled))
        # An encoder that leaves out the tables that everybody has, as those of moving pictures do.
        odd(f"{name}, no Huffman tables", without(data, 0xC4))
        odd(f"{name}, no quantisation tables", without(data, 0xDB))
        odd(f"{name}, cut in the middle", data[: len(data) * 2 // 3], damaged=True)
        odd(f"{name}, cut in the middle and ended", data[: len(data) * 2 // 3] + EOI, damaged=True)
        odd(f"{name}, without its end", data[:-2], damaged=True)
        odd(f"{name}, a byte changed inside", put(data, len(data) * 3 // 4, bytes([data[len(data) * 3 // 4] ^ 0x5A]), 1), damaged=None)

# --- other formats ----------------------------------------------------------------------------------------------

for size in SIZES:
    picture = drawn(*size)
    alpha = picture.convert("RGBA")
    alpha.putalpha(picture.getchannel(1))
    gray = picture.convert("L")
    deep = Image.fromarray(np.asarray(gray).astype("uint16") * 256 + 255 - np.asarray(gray))
    forms = {
        "RGB": picture,
        "RGBA": alpha,
        "L": gray,
        "LA": Image.merge("LA", [gray, alpha.getchannel(3)]),
        "1": gray.convert("1"),
        "P 256": picture.quantize(256),
        "I;16": deep,
    }
    for name, form in forms.items():
        keep(f"PNG {name}", "png", saved(form, "PNG"))
        keep(f"TIFF {name}", "tif", saved(form, "TIFF"))
    for bits in [1, 2, 4, 8]:
        few = picture.quantize(2**bits)
        keep(f"PNG palette of {bits} bits", "png", saved(few, "PNG", bits=bits))
        keep(f"PNG palette of {bits} bits, one transparent", "png", saved(few, "PNG", bits=bits, transparency=0))
        keep(f"PNG palette of {bits} bits, alpha", "png", saved(few, "PNG", bits=bits, transparency=bytes(range(0, 2**bits))))
        keep(f"GIF of {bits} bits", "gif", saved(few, "GIF"))
    keep("PNG, a transparent gray", "png", saved(gray, "PNG", transparency=40))
    keep("PNG, a transparent colour", "png", saved(picture, "PNG", transparency=(230, 20, 40)))
    keep("PNG, profile", "png", saved(picture, "PNG", icc_profile=profile, exif=exif, dpi=(72, 72)))
    for compression in ["tiff_lzw", "tiff_deflate", "packbits"]:
        keep(f"TIFF {compression}", "tif", saved(picture, "TIFF", compression=compression))
    for how in [{"lossless": True}, {"quality": 40}, {"quality": 90, "icc_profile": profile}]:
        keep(f"WebP {how.get('quality')}", "webp", saved(picture, "WEBP", **how))
        keep(f"WebP {how.get('quality')}, alpha", "webp", saved(alpha, "WEBP", exact=True, **how))
    keep("GIF, one transparent", "gif", saved(picture.quantize(32), "GIF", transparency=3))
for size in SIZES:
    picture = drawn(*size)
    for options in [
        *(
            ["-interlace", i, "-depth", d, "-define", f"png:bit-depth={d}", "-define", f"png:color-type={t}"]
            for i in ["None", "PNG"]
            for d, t in [("1", "0"), ("2", "0"), ("4", "0"), ("8", "0"), ("16", "0"), ("8", "2"), ("16", "2"), ("8", "3")]
        ),
        ["-gamma", "1.4", "-set", "gamma", "0.6"],
        ["-set", "comment", "text", "-density", "150"],
    ]:
        by_magick(f"PNG {' '.join(options)}", "png", picture, *options)
    for options in [["-depth", "16", "-alpha", "on"], ["-depth", "8", "-colorspace", "Gray", "-alpha", "on"]]:
        by_magick(f"PNG {' '.join(options)}", "png", picture, *options)

by = {"Pillow": Image.__version__, "libjpeg-turbo": features.version("libjpeg_turbo"), "numpy": np.__version__}
for tool, command in [("cjpeg", [cjpeg, "-version"]), ("ImageMagick", [magick, "-version"])]:
    if command[0] is not None:
        said = subprocess.run(command, capture_output=True, text=True)
        by[tool] = (said.stdout + said.stderr).splitlines()[0]


def write_values(at, pictures):
    (at / "values.json").write_text(json.dumps({"by": by, "pictures": pictures}, indent=0) + "\n")


write_values(folder, rows)
SAMPLE = """cjpeg, -arithmetic|cjpeg, -arithmetic -progressive|cjpeg, -rgb|cjpeg, 4x2|cjpeg, 1x4|cjpeg, 2x2,2x1,1x1|cjpeg, 2x2 -restart 3B
cjpeg, scans: one scan a component|cjpeg, scans: refined thrice|cjpeg, scans: bands -restart 1|Pillow JPEG CMYK
odd JPEG: colour, Ss Se AhAl (0, 0, 0)|odd JPEG: colour, Ss Se AhAl (63, 63, 0)|odd JPEG: colour, Ss Se AhAl (0, 255, 255)
odd JPEG: gray, Ss Se AhAl (0, 0, 0)|odd JPEG: CMYK, Ss Se AhAl (1, 63, 0)|odd JPEG: colour, b'\\x124V' before db
odd JPEG: colour, b'\\x124V' before c0|odd JPEG: colour, b'\\x00\\x00' before c4|odd JPEG: colour, b'aaa' before da
odd JPEG: colour, b'\\xff\\x00' before e0|odd JPEG: progressive, b'\\x00\\x00' before c2|odd JPEG: colour, b'\\x7fU\\xaa' before the end
odd JPEG: colour, JFIF b'\\x02\\x00'|odd JPEG: colour, Adobe 0|odd JPEG: colour, Adobe 7|odd JPEG: CMYK, Adobe 2|odd JPEG: CMYK, Adobe 7
odd JPEG: CMYK, without JFIF and Adobe|odd JPEG: colour, components (82, 71, 66)|odd JPEG: colour, no Huffman tables
odd JPEG: colour, cut in the middle and ended|odd JPEG: colour, without its end|odd JPEG: colour, 12 bits|odd JPEG: colour, lossless
odd JPEG: colour, no height|odd JPEG: 4:4:4 with restarts, b'\\x00' before dd|GIF, one transparent
PNG palette of 2 bits, one transparent|ImageMagick, PNG -interlace PNG -depth 2 -define png:bit-depth=2 -define png:color-type=0
ImageMagick, PNG -interlace PNG -depth 16 -define png:bit-depth=16 -define png:color-type=2""".replace("\n", "|").split("|")
if len(sys.argv) > 2:
    sample = pathlib.Path(sys.argv[2])
    sample.mkdir(parents=True, exist_ok=True)
    chosen = []
    for kind in SAMPLE:
        row = next((r for r in rows if r["kind"] == kind and r.get("size") in [[17, 13], [33, 31]]), None)
        row = row or next(r for r in rows if r["kind"] == kind)
        shutil.copyfile(folder / "pictures" / row["file"], sample / row["file"])
        chosen.append(row)
    write_values(sample, chosen)
print(f"{len(rows)} pictures, {sum('refused' in row for row in rows)} of them refused by Pillow; {by}")
if cjpeg is None or magick is None:
    print("left out, not installed:", [name for name, found in [("cjpeg", cjpeg), ("ImageMagick", magick)] if found is None])
for command, why in failed:
    print("not written:", command, why, file=sys.stderr)
