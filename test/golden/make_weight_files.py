"""Writes weight-files/: small files and folders of weights as safetensors, PyTorch and TensorFlow write them.

    python make_weight_files.py     # PyTorch 2.13, TensorFlow 2.21, safetensors 0.8

values.json has, for each of them, what its own library gives of every tensor as f32: the shape, and the elements' bits.
"""

import json
import os
import pathlib
import shutil

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy
import safetensors.torch
import tensorflow as tf
import torch

FOLDER = pathlib.Path(__file__).with_name("weight-files")
VALUES = {}


def bits(array):
    array = numpy.asarray(array, dtype=numpy.float32)
    return {"shape": list(array.shape), "bits": array.reshape(-1).view(numpy.uint32).tolist()}


def numbers(seed):
    """Numbers that rounding and widening could get wrong: small, large, subnormal as halves, near to a tie."""
    some = torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([some, torch.tensor([0.0, -0.0, 1 / 3, 65504, -6e-8, 6e-5, 1 + 2**-24], dtype=torch.float64)])


def fresh(name):
    shutil.rmtree(FOLDER / name, ignore_errors=True)
    (FOLDER / name).mkdir(parents=True)
    return FOLDER / name


def widened(tensors):
    return {k: bits(t.float().numpy()) for k, t in tensors.items() if t.is_floating_point() and t.dtype.itemsize > 1}


fresh(".")

tensors = {
    "f16": numbers(1).half(),
    "bf16": numbers(2).bfloat16(),
    "f64": numbers(3),
    "f32": numbers(4).float(),
    "i64": torch.arange(3),
    "bool": torch.tensor([True, False]),
    "f8": torch.ones(2).to(torch.float8_e4m3fn),
    "c64": torch.ones(2, dtype=torch.complex64),
    "conv:0": torch.ones(1),
}
safetensors.torch.save_file(tensors, FOLDER / "types.safetensors")
VALUES["types.safetensors"] = widened(safetensors.torch.load_file(FOLDER / "types.safetensors"))

bundle = fresh("bundle")
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    named = {
        "f16": tf.constant(numbers(1).half().numpy()),
        "bf16": tf.cast(tf.constant(numbers(2).float().numpy()), tf.bfloat16),
        "f64": tf.constant(numbers(3).numpy()),
        "f32": tf.constant(numbers(4).float().numpy()),
    }
    session.run(tf.raw_ops.SaveV2(prefix=str(bundle / "types"), tensor_names=list(named), shape_and_slices=[""] * 4, tensors=list(named.values())))
VALUES["bundle"] = {
    name: bits(tf.cast(tf.train.load_checkpoint(str(bundle / "types")).get_tensor(name), tf.float32)) for name in named
}

# What transformers writes above its limit of a file's size, and config.json beside it.
parts = [{"a.weight": numbers(5).half(), "a.bias": torch.ones(2)}, {"b.weight": numbers(6).float()}]
whole = {name: tensor for part in parts for name, tensor in part.items()}
for kind, stem, end in (("safetensors", "model", "safetensors"), ("torch", "pytorch_model", "bin")):
    folder = fresh(f"sharded-{kind}")
    weight_map = {}
    for i, part in enumerate(parts):
        name = f"{stem}-{i + 1:05}-of-00002.{end}"
        if kind == "torch":
            torch.save(part, folder / name)
        else:
            safetensors.torch.save_file(part, folder / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, name))
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{stem}.{end}.index.json").write_text(json.dumps(index, indent=2))
    (folder / "config.json").write_text(json.dumps({"id2label": {"1": "bee", "0": "ant"}, "label2id": {"ant": 0, "bee": 1}}))
    VALUES[folder.name] = widened(whole)

folder = fresh("single")
safetensors.torch.save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
torch.save({"other": torch.zeros(1)}, folder / "pytorch_model.bin")
(folder / "labels.txt").write_text("0:ant\n1:bee\n")
VALUES["single"] = widened(whole)
folder = fresh("single-bin")
torch.save(whole, folder / "pytorch_model.bin")
(folder / "label.labels.txt").write_text("ant\nbee\n")
VALUES["single-bin"] = widened(whole)

folder = FOLDER / "saved-model"
shutil.rmtree(folder, ignore_errors=True)
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    a = tf.compat.v1.get_variable("ShuffleNetV2/a", initializer=numbers(7).float().numpy())
    b = tf.compat.v1.get_variable("b", initializer=numbers(8).half().numpy())
    session.run(tf.compat.v1.global_variables_initializer())
    builder = tf.compat.v1.saved_model.Builder(str(folder))
    builder.add_meta_graph_and_variables(session, ["serve"])
    builder.save()
    VALUES["saved-model"] = {v.op.name: bits(session.run(tf.cast(v, tf.float32))) for v in (a, b)}

(FOLDER / "values.json").write_text(json.dumps(VALUES) + "\n")
