"""What resnet50.py and alexnet_bn.py have in common: one training step of a whole network."""

import torch
import torch.nn.functional as F

from formula import deviation, summary


def training_step(model, x, y):
    """Forward in training mode, mean cross-entropy, backward; gives the loss and which outputs of
    every ReLU are above zero."""
    active = []
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_hook(lambda _module, _x, y: active.append(y > 0))
    loss = F.cross_entropy(model.train()(x), y)
    loss.backward()
    return loss.item(), active


def gradients(make, x, y):
    """The loss and every gradient in f64, and how far f32 is from them.

    A rounding error that takes one ReLU from active to inactive moves the gradients of all layers
    in front of it at once, by far more than rounding does; `f32_relu_flips` counts these.
    """
    double, single = make().double(), make().float()
    loss, active = training_step(double, x, y)
    loss32, active32 = training_step(single, x.float(), y)
    flips = sum((a != b).sum().item() for a, b in zip(active, active32, strict=True))
    step = {"input_shape": list(x.shape), "labels": y.tolist()}
    step |= {"loss": {"f64": loss, "f32": loss32}, "f32_relu_flips": flips}
    singles = dict(single.named_parameters())
    rows = {
        name: {
            "shape": list(tensor.shape),
            **summary(tensor.grad),
            "f32_deviation": deviation(singles[name].grad, tensor.grad),
        }
        for name, tensor in double.named_parameters()
    }
    return double, step, rows


def running(model, names):
    """Running statistics of some batch norms after the step."""
    state = model.state_dict()
    return {
        f"{name}.{part}": summary(state[f"{name}.{part}"])
        for name in names
        for part in ("running_mean", "running_var")
    }
