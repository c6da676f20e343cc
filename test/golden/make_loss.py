"""The loss of weighted and mixed pictures by PyTorch, in float64: loss.json beside this file.

    python make_loss.py

Of each case the mean over pictures of weight * (share * CE(label) + (1 - share) * CE(other)), CE being
torch.nn.functional.cross_entropy with the case's label smoothing, and its gradient by the logits. Where a case has class
weights and no smoothing, the same comes from CrossEntropyLoss(weight, reduction="sum") over the number of pictures, which is
asserted here.
"""

import json
import pathlib

import torch
from torch.nn import functional as F

PICTURES, CLASSES = 5, 7
CASES = (
    {"smoothing": 0.0, "weighted": True, "mixed": False},
    {"smoothing": 0.1, "weighted": True, "mixed": False},
    {"smoothing": 0.1, "weighted": False, "mixed": True},
    {"smoothing": 0.05, "weighted": True, "mixed": True},
)


def main():
    torch.manual_seed(3)
    cases = []
    for case in CASES:
        logits = (3 * torch.randn(PICTURES, CLASSES, dtype=torch.float64)).requires_grad_()
        labels, others = torch.randint(CLASSES, (PICTURES,)), torch.randint(CLASSES, (PICTURES,))
        others[2] = labels[2]  # both of a pair may be of one class
        of_class = (torch.rand(CLASSES) * 4 + 0.25).double() if case["weighted"] else torch.ones(CLASSES, dtype=torch.float64)
        shares = torch.tensor([0.5, 1, 0.75, 0.625, 0.9375], dtype=torch.float64) if case["mixed"] else torch.ones(PICTURES, dtype=torch.float64)

        def entropy(of):
            return of_class[of] * F.cross_entropy(logits, of, reduction="none", label_smoothing=case["smoothing"])

        loss = (shares * entropy(labels) + (1 - shares) * entropy(others)).mean()
        (gradient,) = torch.autograd.grad(loss, logits)
        if case["weighted"] and not case["mixed"] and case["smoothing"] == 0:
            theirs = torch.nn.CrossEntropyLoss(of_class, reduction="sum")(logits, labels) / PICTURES
            assert torch.allclose(theirs, loss, rtol=1e-14), (theirs, loss)
        cases.append(
            {
                "smoothing": case["smoothing"],
                "class_weights": of_class.tolist() if case["weighted"] else None,
                "labels": labels.tolist(),
                "other_labels": others.tolist() if case["mixed"] else None,
                "shares": shares.tolist() if case["mixed"] else None,
                "logits": logits.detach().flatten().tolist(),
                "loss": loss.item(),
                "gradient": gradient.flatten().tolist(),
            }
        )
    path = pathlib.Path(__file__).with_name("loss.json")
    path.write_text(json.dumps({"torch": torch.__version__, "cases": cases}, indent=1) + "\n")


main()
