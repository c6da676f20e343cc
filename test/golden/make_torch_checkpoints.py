"""Writes torch-checkpoints/*.pth: what torch.save makes of every kind of tensor that is read, and of some that are not.

    python make_torch_checkpoints.py     # PyTorch 2.13

Numbers are small whole ones, so every type holds them exactly.
"""

import argparse
import collections
import pathlib

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


def save(name, value, **options):
    torch.save(value, FOLDER / name, **options)


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
torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(FOLDER / "script.pt"))
