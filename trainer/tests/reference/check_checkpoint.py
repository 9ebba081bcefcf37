"""Loads a model file that Foretrain wrote strictly into torchvision's network of the same size.

    python check_checkpoint.py FILE.safetensors [SIDE]

Every tensor must be there, with torchvision's name and shape, and none else (num_batches_tracked
may be left out: torchvision's own loading allows that). Prints the first logits of one image of
SIDE pixels (224) of the formula, in evaluation mode, to be held against Foretrain's.
"""

import sys

import torch
import torchvision
from safetensors.torch import load_file

from formula import images


def network(state):
    """The one of torchvision whose convolutions the file has, with as many classes."""
    names = {name for name in state if name.endswith("weight")}
    for constructor in (torchvision.models.resnet50, torchvision.models.resnet18):
        model = constructor(weights=None, num_classes=len(state.get("fc.bias", [0])))
        if names == {name for name in model.state_dict() if name.endswith("weight")}:
            return constructor.__name__, model
    sys.exit(f"the weights are of neither resnet50 nor resnet18: {sorted(names)[:5]} ...")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    state = load_file(sys.argv[1])
    name, model = network(state)
    model.load_state_dict(state, strict=True)
    not_finite = [key for key, tensor in state.items() if not tensor.isfinite().all()]
    if not_finite:
        sys.exit(f"not finite: {not_finite}")
    side = int(sys.argv[2]) if len(sys.argv) == 3 else 224
    with torch.no_grad():
        logits = model.eval()(images((1, 3, side, side)).float())[0]
    types = sorted({str(tensor.dtype) for tensor in state.values()})
    print(f"{name}: {len(state)} tensors of {', '.join(types)}, all loaded")
    print(f"logits at {side} px: norm {logits.norm().item()!r}, first {logits[:8].tolist()}")
