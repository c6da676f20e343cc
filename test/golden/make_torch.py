"""Golden numbers of one training step of ShuffleNet V2 by PyTorch: torch-<width>x-<size>.json.

    python make_torch.py ../../../shared/peers/shufflenet_v2.py           # writes the four files beside this one
    python make_torch.py ../../../shared/peers/shufflenet_v2.py --search  # scores seeds, see README.md

Weights, momentum, images and labels follow a rule (rule.ts has it again, in TypeScript), so the files hold results
only. Everything is computed in float64; the same in float32 says how far rounding alone carries a result.
"""

import base64
import importlib.util
import json
import math
import pathlib
import sys

import numpy as np
import torch
from torch import nn

# (width, image size, label smoothing, seed of the rule). Seeds are those of README.md, "Seeds".
CASES = (("0.5", 64, 0.0, 50), ("0.5", 75, 0.1, 2), ("1.0", 64, 0.0, 24), ("1.0", 75, 0.1, 6))
BATCH, CLASSES = 4, 10
STEP = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's ImageNet normalisation


# The rule.


def words(name, count, seed):
    """uint32 [count]: FNV-1a of the name, a Weyl sequence from it, murmur3's finalizer over that."""
    h = 0x811C9DC5
    for byte in name.encode():
        h = (h ^ byte) * 0x01000193 & 0xFFFFFFFF
    x = np.arange(count, dtype=np.uint64) * 0x9E3779B9 + ((h + seed * 0x632BE5AB) & 0xFFFFFFFF) & 0xFFFFFFFF
    x = (x ^ x >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    x = (x ^ x >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return x ^ x >> 16


def uniform(name, count, seed):
    """float64 [count] in [-1, 1): multiples of 2^-23, so float32 holds them exactly."""
    return (words(name, count, seed) >> 8) / 2.0**23 - 1


def tensor_by_rule(name, shape, seed):
    """One entry of the state dict, float32."""
    count = math.prod(shape)
    u = uniform(name, count, seed)
    if len(shape) > 1:
        fan_in = math.prod(shape[1:])
        value = u * math.sqrt((3 if name == "fc.weight" else 6) / fan_in)
    elif name.endswith("running_mean"):
        value = u / 4
    elif name.endswith("running_var"):
        value = 1 + u / 2
    elif name.endswith("bias"):  # beta around 1: most activations pass the ReLU, a fifth do not (README.md, "Rule")
        value = u / 2 if name == "fc.bias" else 1 + u
    else:  # gamma: one in eight is negative
        value = np.where(words(name, count, seed) % 8 == 0, -1, 1) * (1 + u / 4)
    return torch.from_numpy(value.astype(np.float32).reshape(shape))


def momentum_by_rule(name, shape, seed):
    return torch.from_numpy((uniform("momentum:" + name, math.prod(shape), seed) / 64).astype(np.float32).reshape(shape))


def batch_by_rule(size, seed):
    """uint8 [batch, size, size, 3] RGB and int64 [batch]."""
    images = (words("images", BATCH * size * size * 3, seed) >> 24).astype(np.uint8)
    labels = (words("labels", BATCH, seed) % CLASSES).astype(np.int64)
    return images.reshape(BATCH, size, size, 3), labels


# One step.


def build(net, width, seed, dtype):
    model = net.Net(width, CLASSES)
    state = model.state_dict()
    for name, tensor in state.items():
        if tensor.dim() > 0:  # not num_batches_tracked
            state[name] = tensor_by_rule(name, tuple(tensor.shape), seed)
    model.load_state_dict(state)
    return model.to(dtype)


def network_input(images, dtype):
    x = torch.from_numpy(images).permute(0, 3, 1, 2).to(dtype).div(255)
    return (x - torch.tensor(MEAN, dtype=dtype).view(1, 3, 1, 1)) / torch.tensor(STD, dtype=dtype).view(1, 3, 1, 1)


def one_step(net, width, size, smoothing, seed, dtype):
    """Everything the golden file holds, as float64 arrays; named tensors as dicts by state-dict name."""
    model = build(net, width, seed, dtype)
    images, labels = batch_by_rule(size, seed)
    x = network_input(images, dtype)
    with torch.no_grad():
        before = model.eval()(x)
    logits = model.train()(x)
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, torch.from_numpy(labels))
    loss.backward()
    gradients = {name: array(p.grad) for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), **STEP)
    for name, p in model.named_parameters():
        optimizer.state[p]["momentum_buffer"] = momentum_by_rule(name, tuple(p.shape), seed).to(dtype)
    optimizer.step()
    with torch.no_grad():
        after = model.eval()(x)
    return {
        "logits": array(logits),
        "crossEntropy": loss.item(),
        "evaluationLogits": array(before),
        "evaluationLogitsAfter": array(after),
        "gradients": gradients,
        "weights": {name: array(p) for name, p in model.named_parameters()},
        "momentum": {name: array(optimizer.state[p]["momentum_buffer"]) for name, p in model.named_parameters()},
        "statistics": {name: array(b) for name, b in model.named_buffers() if b.dim() > 0},
    }


def array(tensor):
    return tensor.detach().double().numpy()


# The file.


def thin(v):
    flat = v.ravel()
    return flat if flat.size <= 128 else flat[:: flat.size // 64]


def summarise(name, v, rounded, seed):
    """Two numbers that hardly any wrong element escapes, and some values; `float32`: how far float32 came."""
    return {
        "name": name,
        "norm": float(np.linalg.norm(v)),
        "projection": float(v.ravel() @ uniform("projection:" + name, v.size, seed)),
        "float32": float(np.linalg.norm(rounded - v)),
        "thinned": base64.b64encode(thin(v).astype("<f4").tobytes()).decode(),
    }


def make(net, width, size, smoothing, seed):
    exact = one_step(net, width, size, smoothing, seed, torch.float64)
    rounded = one_step(net, width, size, smoothing, seed, torch.float32)
    golden = {
        "torch": torch.__version__,
        "width": float(width),
        "imageSize": size,
        "batch": BATCH,
        "classes": CLASSES,
        "seed": seed,
        "labelSmoothing": smoothing,
        "update": {"learningRate": STEP["lr"], "momentum": STEP["momentum"], "weightDecay": STEP["weight_decay"]},
        "crossEntropy": exact["crossEntropy"],
        "crossEntropyFloat32": rounded["crossEntropy"],
    }
    for key in ("logits", "evaluationLogits", "evaluationLogitsAfter"):
        golden[key] = exact[key].ravel().tolist()
        golden[key + "Float32"] = float(np.abs(rounded[key] - exact[key]).max())
    for key in ("gradients", "weights", "momentum", "statistics"):
        golden[key] = [summarise(n, v, rounded[key][n], seed) for n, v in exact[key].items()]
    return golden


def score(net, width, size, smoothing, seed):
    """
    How far the nearest decision (a ReLU's sign, a pooling window's winner) is from flipping in float32: smallest
    over all layers of |distance to the decision| / root mean square float32 error of that layer.
    """
    layers = {}

    def watch(model):
        seen = []

        def relu(module, inputs):
            seen.append(inputs[0].detach().double().clone())

        def pool(module, inputs):
            x = torch.nn.functional.pad(inputs[0].detach().double(), (1, 1, 1, 1))
            top = x.unfold(2, 3, 2).unfold(3, 3, 2).flatten(4).topk(2, -1).values
            gap = top[..., 0] - top[..., 1]
            seen.append(torch.where(top[..., 0] > 0, gap, torch.inf))  # where all are 0, ReLU decides

        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_pre_hook(relu)
            if isinstance(module, nn.MaxPool2d):
                module.register_forward_pre_hook(pool)
        return seen

    images, _ = batch_by_rule(size, seed)
    for dtype in (torch.float64, torch.float32):
        model = build(net, width, seed, dtype).train()
        layers[dtype] = watch(model)
        with torch.no_grad():
            model(network_input(images, dtype))
    worst = math.inf
    for exact, rounded in zip(layers[torch.float64], layers[torch.float32]):
        finite = exact.isfinite() & rounded.isfinite()
        error = (exact - rounded)[finite].square().mean().sqrt()
        worst = min(worst, (exact[finite].abs().min() / error).item())
    return worst


def main():
    spec = importlib.util.spec_from_file_location("peer", sys.argv[1])
    net = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(net)
    torch.set_num_threads(1)
    for width, size, smoothing, seed in CASES:
        if "--search" in sys.argv:
            scores = sorted(((score(net, width, size, smoothing, s), s) for s in range(60)), reverse=True)
            print(width, size, "best (score, seed):", scores[:3], "median:", scores[30][0])
            continue
        golden = make(net, width, size, smoothing, seed)
        path = pathlib.Path(__file__).parent / f"torch-{width}x-{size}.json"
        path.write_text(json.dumps(golden, indent=1) + "\n")
        for key in ("gradients", "weights", "momentum", "statistics"):
            relative = [t["float32"] / t["norm"] for t in golden[key] if t["norm"] > 1e-9]
            zero = [t["float32"] for t in golden[key] if t["norm"] <= 1e-9]
            print(
                f"{path.name}: {key}: float32 off by at most {max(relative):.1e} of the norm in {len(relative)} tensors"
                + (f", by {max(zero):.1e} in {len(zero)} that are zero" if zero else "")
            )


if __name__ == "__main__":
    main()
