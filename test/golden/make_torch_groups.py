"""Golden numbers of a step in which PyTorch gives the classifier a learning rate of its own: torch-groups-0.5x-64.json.

    python make_torch_groups.py ../../../shared/peers/shufflenet_v2.py      # writes the file beside this one

The network, the weights, the batch and the step are those of torch-0.5x-64.json (make_torch.py), but SGD has two groups of
parameters: the classifier's rate is MULTIPLE times the others'.
"""

import importlib.util
import json
import pathlib
import sys

import torch
from torch import nn

import make_torch as golden

WIDTH, SIZE, SMOOTHING, SEED = golden.CASES[0]
MULTIPLE = 10
# The classifier, its neighbours in the flat array, and the far end of it.
TENSORS = ("fc.weight", "fc.bias", "conv5.0.weight", "conv5.1.weight", "conv5.1.bias", "stage3.0.branch2.0.weight", "conv1.0.weight", "conv1.1.bias")


def weights_after(net, dtype):
    model = golden.build(net, WIDTH, SEED, dtype)
    images, labels = golden.batch_by_rule(SIZE, SEED)
    logits = model.train()(golden.network_input(images, dtype))
    nn.CrossEntropyLoss(label_smoothing=SMOOTHING)(logits, torch.from_numpy(labels)).backward()
    others = [p for name, p in model.named_parameters() if not name.startswith("fc.")]
    groups = [{"params": others}, {"params": list(model.fc.parameters()), "lr": MULTIPLE * golden.STEP["lr"]}]
    optimizer = torch.optim.SGD(groups, **golden.STEP)
    for name, p in model.named_parameters():
        optimizer.state[p]["momentum_buffer"] = golden.momentum_by_rule(name, tuple(p.shape), SEED).to(dtype)
    optimizer.step()
    return {name: golden.array(p) for name, p in model.named_parameters()}


def main():
    spec = importlib.util.spec_from_file_location("peer", sys.argv[1])
    net = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(net)
    torch.set_num_threads(1)
    exact, rounded = weights_after(net, torch.float64), weights_after(net, torch.float32)
    weights = [golden.summarise(name, exact[name], rounded[name], SEED) for name in TENSORS]
    text = json.dumps({"torch": torch.__version__, "classifierRate": MULTIPLE, "weights": weights}, indent=1)
    (pathlib.Path(__file__).parent / "torch-groups-0.5x-64.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
