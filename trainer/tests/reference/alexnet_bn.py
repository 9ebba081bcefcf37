"""alexnet_bn.json: a training step of AlexNet-BN as sim/src/workload/alexnet.rs defines it.

Dropout is off, so that the step is the same everywhere. Between pool5 and fc6 features are
flattened in PyTorch's order, channels first.

    python alexnet_bn.py
"""

from collections import OrderedDict

import torch
from torch.nn import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU

from formula import fill, images, labels, write
from networks import gradients, running


def alexnet_bn():
    """60,967,368 parameters in 24 tensors, named after the nodes."""
    layers = OrderedDict()
    plan = [  # inputs, channels, kernel, stride, padding, groups, pool
        (3, 96, 11, 4, 0, 1, True),
        (96, 256, 5, 1, 2, 2, True),
        (256, 384, 3, 1, 1, 1, False),
        (384, 384, 3, 1, 1, 2, False),
        (384, 256, 3, 1, 1, 2, True),
    ]
    for n, (inputs, channels, kernel, stride, padding, groups, pool) in enumerate(plan, 1):
        settings = {"stride": stride, "padding": padding, "groups": groups, "bias": n == 5}
        layers[f"conv{n}"] = Conv2d(inputs, channels, kernel, **settings)
        layers[f"bn{n}"] = BatchNorm2d(channels)
        layers[f"relu{n}"] = ReLU()
        if pool:
            layers[f"pool{n}"] = MaxPool2d(3, 2)
    layers["bn_pool5"] = BatchNorm2d(256)
    layers["flatten"] = Flatten()
    for n, inputs in ((6, 9216), (7, 4096)):
        layers[f"fc{n}"] = Linear(inputs, 4096)
        layers[f"relu{n}"] = ReLU()
    layers["fc8"] = Linear(4096, 1000)
    model = torch.nn.Sequential(layers)
    assert sum(tensor.numel() for tensor in model.parameters()) == 60_967_368
    assert len(list(model.parameters())) == 24
    return model


if __name__ == "__main__":
    shape = (2, 3, 227, 227)
    make = lambda: fill(alexnet_bn().double())
    model, step, rows = gradients(make, images(shape), labels(2, 1000))
    norms = running(model, ["bn1", "bn5", "bn_pool5"])
    write("alexnet_bn.json", {"step": step, "gradients": rows, "running": norms})
