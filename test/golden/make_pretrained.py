"""Logits of the pretrained torchvision 1.0x network by PyTorch, on pixels that follow a rule: torch-pretrained-1.0x.json.

    python make_pretrained.py ../../../shared/peers/shufflenet_v2.py \
        ../../../shared/data/torch-checkpoints/torchvision_shufflenet_v2_x1_0_pretrained.pth

Pixels are those of make_torch.py's rule, averaged over blocks of 16 x 16 so that the network has something to see.
"""

import base64
import importlib.util
import json
import pathlib
import sys

import numpy as np
import torch

from make_torch import MEAN, STD, words

IMAGES, SIZE, BLOCK, SEED = 2, 224, 16, 1


def pictures():
    """uint8 [images, size, size, 3]: blocks of one colour, with the rule's low bits as noise."""
    side = SIZE // BLOCK
    blocks = (words("blocks", IMAGES * side * side * 3, SEED) >> 24).reshape(IMAGES, side, side, 3)
    coarse = blocks.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)
    noise = (words("noise", IMAGES * SIZE * SIZE * 3, SEED) >> 27).reshape(coarse.shape)
    return np.minimum(coarse + noise, 255).astype(np.uint8)


def main():
    spec = importlib.util.spec_from_file_location("peer", sys.argv[1])
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    net = peer.Net("1.0", 1000)
    net.load_state_dict(torch.load(sys.argv[2]))
    net = net.double().eval()
    x = torch.from_numpy(pictures()).double() / 255
    x = ((x - torch.tensor(MEAN, dtype=torch.float64)) / torch.tensor(STD, dtype=torch.float64)).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = net(x).numpy().astype("<f4")
    result = {
        "torch": torch.__version__.split("+")[0],
        "images": IMAGES,
        "size": SIZE,
        "block": BLOCK,
        "seed": SEED,
        "logits": base64.b64encode(logits.tobytes()).decode(),
    }
    path = pathlib.Path(__file__).with_name("torch-pretrained-1.0x.json")
    path.write_text(json.dumps(result, indent=1) + "\n")


main()
