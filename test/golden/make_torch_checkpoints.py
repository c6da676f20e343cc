"""Writes torch-checkpoints/*.pth: what torch.save makes of every kind of tensor that is read, and of some that are not.

    python make_torch_checkpoints.py     # PyTorch 2.13

Numbers are small whole ones, so every type holds them exactly. values.json has what torch.load gives of the files made by
`kept`: for each tensor its shape and, as f32, its elements.
"""

import argparse
import collections
import datetime
import functools
import json
import pathlib
import zipfile

import numpy
import torch

FOLDER = pathlib.Path(__file__).with_name("torch-checkpoints")
TYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")


def everything():
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    tensors = collections.OrderedDict((name, torch.arange(5).to(getattr(torch, name))) for name in TYPES)
    tensors["bool"] = torch.tensor([True, False, True])
    tensors["halves"] = torch.tensor([1.5, -2, 65504, 6e-8, float("inf"), float("nan")], dtype=torch.float16)
    tensors["scalar"] = torch.tensor(7.0)
    tensors["empty"] = torch.zeros(0, 3)
    tensors["base"] = base
    tensors["transposed"] = base.permute(2, 0, 1)
    tensors["part"] = base[1, 1:, ::2]
    tensors["repeated"] = base[0, 0, :1].expand(3)
    tensors["parameter"] = torch.nn.Parameter(torch.ones(2))
    return tensors


VALUES = {}


def save(name, value, **options):
    torch.save(value, FOLDER / name, **options)


def kept(name, value, **options):
    """Saves, and keeps what PyTorch makes of the file. Tensors stand in the outermost dict."""
    save(name, value, **options)
    keep(name)


def keep(name):
    loaded = torch.load(FOLDER / name, weights_only=False)
    VALUES[name] = {
        key: {"shape": list(t.shape), "values": t.detach().resolve_neg().float().flatten().tolist()}
        for key, t in loaded.items()
        if isinstance(t, torch.Tensor) and t.dtype in (torch.float32, torch.float16) and not t.is_sparse
    }


class Named(collections.OrderedDict):
    """A user's own kind of dict."""


class Settings:
    """A user's own object with attributes, one of them a tensor."""

    def __init__(self):
        self.rate = 0.1
        self.weight = torch.ones(2)


Point = collections.namedtuple("Point", "x y")


def beside(weight):
    """A training checkpoint with one of everything that people put beside their weights."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2)).sum().backward()
    optimizer.step()
    subclass = Named(inner=weight + 1)
    subclass.note = "an attribute"
    queue = collections.deque([1.5, weight.clone()], maxlen=4)
    return {
        "weight": weight,
        "counter": collections.Counter("aab"),
        "set": {1, 2},
        "frozenset": frozenset("ab"),
        "array": numpy.arange(6, dtype=numpy.float32).reshape(2, 3),
        "scalar": numpy.float64(0.25),
        "generator": numpy.random.default_rng(1).bit_generator.state,
        "path": pathlib.PurePosixPath("runs/a"),
        "date": datetime.datetime(2024, 5, 6, 7, 8, 9),
        "delta": datetime.timedelta(seconds=3),
        "queue": queue,
        "version": torch.torch_version.TorchVersion("2.1.0"),
        "args": argparse.Namespace(lr=0.1, classes=["ant", "bee"], out=pathlib.PurePosixPath("x")),
        "default": collections.defaultdict(list, a=[1]),
        "subclass": subclass,
        "partial": functools.partial(int, base=2),
        "point": Point(1, 2),
        "settings": Settings(),
        "complex": 1 + 2j,
        "range": range(3),
        "slice": slice(1, 2),
        "class": torch.nn.ReLU,
        "module": torch.nn.ReLU(),
        "function": torch.nn.functional.relu,
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "size": torch.Size([1, 2]),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state()[:8].clone(),
        "int64": torch.arange(2),
        "bool": torch.tensor([True]),
        "complex64": torch.ones(2, dtype=torch.complex64),
        "float8": torch.ones(2).to(torch.float8_e4m3fn),
        "uint16": torch.ones(2).to(torch.uint16),
        "quantised": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "sparse": torch.eye(2).to_sparse(),
        "class_to_idx": {"ant": 0, "bee": 1},
    }


def views(weight):
    """Views that say more of themselves than their place, and tensors with attributes."""
    conjugate = torch.complex(weight, weight + 10).conj()
    marked = weight.clone()
    marked.note = "an attribute"
    parameter = torch.nn.Parameter(weight + 2)
    parameter.note = "an attribute"
    return {"negated": conjugate.imag, "real": conjugate.real, "marked": marked, "parameter": parameter}


FOLDER.mkdir(exist_ok=True)
save("everything.pth", everything())
save("everything-legacy.pth", everything(), _use_new_zipfile_serialization=False)
training = {
    "model": collections.OrderedDict([("module.w", torch.ones(2))]),
    "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    "args": argparse.Namespace(lr=0.1, device="cpu"),
    "size": torch.Size([1, 2]),
    "dtype": torch.float16,
    "device": torch.device("cpu"),
    "epoch": 3,
}
save("training.pth", training)
save("module.pth", torch.nn.Linear(1, 1))
save("quantised.pth", {"q": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)})
save("float8.pth", {"w": torch.ones(2).to(torch.float8_e5m2)})
weight = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
for name, options in (
    ("beside.pth", {}),
    ("beside-legacy.pth", {"_use_new_zipfile_serialization": False}),
):
    value = beside(weight)
    # PyTorch writes these into legacy files and cannot read them there.
    for key in ("float8", "uint16") if options else ():
        del value[key]
    kept(name, value, **options)
kept("views.pth", views(weight))
# Sparse and quantised tensors have no views of a storage.
small = {"weight": weight, "half": weight.half(), "set": {1, 2}, "counter": collections.Counter("aab")}
for protocol in (1, 3, 4, 5):
    kept(f"protocol-{protocol}.pth", small, pickle_protocol=protocol)
    kept(f"protocol-{protocol}-legacy.pth", small, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
save("protocol-0-legacy.pth", small, pickle_protocol=0, _use_new_zipfile_serialization=False)
# PyTorch names the folder in the archive by the file, so a colon comes into every member's name.
save("v:2.pth", small)
(FOLDER / "v:2.pth").rename(FOLDER / "colon.pth")
keep("colon.pth")
for name, end in (("trailing.pth", b"\0" * 300), ("trailing-legacy.pth", b"<html>")):
    save(name, small, _use_new_zipfile_serialization="legacy" not in name)
    with open(FOLDER / name, "ab") as file:
        file.write(end)
    keep(name)
unzipped = FOLDER / "unzipped"
unzipped.mkdir(exist_ok=True)
with zipfile.ZipFile(FOLDER / "protocol-4.pth") as archive:
    for member in archive.namelist():
        inside = member.split("/", 1)[1]
        if inside.startswith("."):
            continue
        (unzipped / inside).parent.mkdir(parents=True, exist_ok=True)
        (unzipped / inside).write_bytes(archive.read(member))
VALUES["unzipped"] = VALUES["protocol-4.pth"]
(FOLDER / "values.json").write_text(json.dumps(VALUES, indent=1) + "\n")
torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(FOLDER / "script.pt"))
