"""formula.json: some values of the formula, so that both languages can be held to the same bits.

    python formula_values.py
"""

import torch

from formula import fnv1a64, images, labels, parameter, summary, u, write

SHAPES = {
    "conv1.weight": [64, 3, 7, 7],
    "layer1.0.bn1.weight": [64],
    "layer1.0.bn1.bias": [64],
    "layer1.0.bn1.running_mean": [64],
    "layer1.0.bn1.running_var": [64],
    "conv4.weight": [384, 192, 3, 3],
    "fc.weight": [1000, 2048],
    "fc.bias": [1000],
}

write(
    "formula.json",
    {
        "fnv1a64": {name: str(fnv1a64(name)) for name in ("", "a", "foobar", "conv1.weight")},
        "u": {name: u(name, [5]).tolist() for name in ("input", "dy", "conv1.weight")},
        "images": images([5]).tolist(),
        "labels": {"count": 150, "classes": 1000, "labels": labels(150, 1000).tolist()},
        "parameters": {
            name: {"shape": shape, **summary(torch.from_numpy(parameter(name, shape)))}
            for name, shape in SHAPES.items()
        },
    },
)
