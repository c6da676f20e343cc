"""Class activation maps and Grad-CAM by PyTorch: torch-explained-0.5x-64.json and torch-explained-photographs.json.

    python make_explanations.py ../../../shared/peers/shufflenet_v2.py ../../../shared/data

The first is of drawn pictures and weights by the rule of make_torch.py. The second is of photographs of the test material, by
name, with the pretrained torchvision 1.0x; neither the photographs nor their pixels are kept. All is computed in float64.

Grad-CAM's gradient is that of autograd at the output of the layer, behind its last ReLU; the class activation map is the
classifier's row times the same activation of conv5.
"""

import base64
import hashlib
import importlib.util
import json
import pathlib
import sys

import numpy as np
import torch
from PIL import Image

from make_torch import batch_by_rule, build, network_input

LAYERS = ("stage2", "stage3", "stage4", "conv5")
# As torchvision's IMAGENET1K_V1 are evaluated: shorter side 256, centre 224.
SHORTER, SIDE = 256, 224
PHOTOGRAPHS = 10


def explain(model, x, output):
    """x [1, 3, size, size]: logits, the class activation map and Grad-CAM of each layer, for one output."""
    seen = {}

    def keep(name):
        def hook(_module, _inputs, out):
            out.retain_grad()
            seen[name] = out

        return hook

    hooks = [getattr(model, name).register_forward_hook(keep(name)) for name in LAYERS]
    logits = model(x)[0]
    logits[output].backward()
    for hook in hooks:
        hook.remove()
    cams = {}
    for name, activation in seen.items():
        weights = activation.grad.mean(dim=(2, 3), keepdim=True)
        cams[name] = torch.relu((weights * activation).sum(dim=1))[0].detach()
    activation = torch.einsum("i,ihw->hw", model.fc.weight[output], seen["conv5"][0]).detach()
    return logits.detach(), activation, cams


def f32(values):
    return base64.b64encode(values.numpy().astype("<f4").tobytes()).decode()


def u16(values):
    """As whole 65,535ths of the largest."""
    return base64.b64encode(np.round(values.numpy() / values.max().item() * 65535).astype("<u2").tobytes()).decode()


def write(name, result):
    path = pathlib.Path(__file__).with_name(name)
    path.write_text(json.dumps({"torch": torch.__version__.split("+")[0], **result}, indent=1) + "\n")
    print(hashlib.sha256(path.read_bytes()).hexdigest(), name)


def drawn(net):
    size, seed = 64, 50
    model = build(net, "0.5", seed, torch.float64).eval()
    images, labels = batch_by_rule(size, seed)
    x = network_input(images, torch.float64)
    asked = []
    for i, label in enumerate(labels):
        for output in (int(label), (int(label) + 3) % 10):
            logits, activation, cams = explain(model, x[i : i + 1], output)
            asked.append(
                {
                    "image": i,
                    "output": output,
                    "logits": f32(logits),
                    "activation": f32(activation),
                    "gradCam": {name: f32(cam) for name, cam in cams.items()},
                }
            )
    write("torch-explained-0.5x-64.json", {"size": size, "seed": seed, "asked": asked})


def seen_by_torchvision(path):
    """uint8 [224, 224, 3]"""
    picture = Image.open(path).convert("RGB")
    shorter = min(picture.size)
    picture = picture.resize([int(SHORTER * side / shorter) for side in picture.size], Image.BILINEAR)
    left, top = (int(round((side - SIDE) / 2.0)) for side in picture.size)
    return np.array(picture.crop((left, top, left + SIDE, top + SIDE)))


def photographs(net, data):
    """Every so many of the validation pictures of two sets."""
    found = []
    for folder in ("hymenoptera", "imagenette224"):
        files = sorted((data / folder).glob("val/*/*.[jJ][pP]*[gG]"))
        found += files[:: len(files) // (PHOTOGRAPHS // 2)][: PHOTOGRAPHS // 2]
    model = net.Net("1.0", 1000)
    model.load_state_dict(torch.load(data / "torch-checkpoints" / "torchvision_shufflenet_v2_x1_0_pretrained.pth"))
    model = model.double().eval()
    pictures = []
    for path in found:
        x = network_input(seen_by_torchvision(path)[None], torch.float64)
        output = int(model(x)[0].argmax())
        _, activation, cams = explain(model, x, output)
        pictures.append(
            {
                "file": path.relative_to(data).as_posix(),
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "output": output,
                "activation": f32(activation),
                "most": {name: cam.max().item() for name, cam in cams.items()},
                "gradCam": {name: u16(cam) for name, cam in cams.items()},
            }
        )
    write("torch-explained-photographs.json", {"pictures": pictures})


def main():
    spec = importlib.util.spec_from_file_location("peer", sys.argv[1])
    net = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(net)
    drawn(net)
    photographs(net, pathlib.Path(sys.argv[2]))


main()
