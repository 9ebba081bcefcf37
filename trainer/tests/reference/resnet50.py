"""resnet50.json and resnet18.json: torchvision's networks with the weights of the formula.

Logits in evaluation mode, and a training step (mean cross-entropy, batch norm over the batch,
momentum 0.1): loss, gradients, running statistics. Gradients are summaries, see formula.summary.

    python resnet50.py
"""

import torch
import torchvision

from formula import fill, images, labels, write
from networks import gradients, running


def evaluation(make, shape):
    """The first 32 logits and the norm of all, of each image."""
    x = images(shape)
    with torch.no_grad():
        double, single = make().double().eval()(x), make().float().eval()(x.float())
    rows = [{"first": row[:32].tolist(), "norm": row.norm().item()} for row in double]
    single = [[row[:32].tolist(), row.norm().item()] for row in single.double()]
    f32 = [{"first": first, "norm": norm} for first, norm in single]
    return {"input_shape": list(shape), "f64": rows, "f32": f32}


def network(constructor, evaluations, batch_norms, file):
    make = lambda: fill(constructor(weights=None).double())
    fixture = {f"evaluation_{shape[-1]}": evaluation(make, shape) for shape in evaluations}
    shape = (4, 3, 64, 64)
    model, step, rows = gradients(make, images(shape), labels(4, 1000))
    write(file, {**fixture, "step": step, "gradients": rows, "running": running(model, batch_norms)})


network(
    torchvision.models.resnet50,
    [(2, 3, 64, 64), (1, 3, 224, 224)],
    ["bn1", "layer2.0.downsample.1", "layer4.2.bn3"],
    "resnet50.json",
)
network(
    torchvision.models.resnet18,
    [(2, 3, 64, 64)],
    ["bn1", "layer2.0.downsample.1", "layer4.1.bn2"],
    "resnet18.json",
)
