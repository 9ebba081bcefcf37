"""half.json: forward and backward of convolutions, batch norm and a linear layer in half precision.

Weights, images and the gradient of the output are the formula's, rounded to f16. PyTorch's CPU
kernels take and give f16 and accumulate in f32; batch norm keeps its parameters in f32. The
reference is f64 on the same rounded numbers, so `f16_deviation` is rounding alone, ReLUs that
round to the other side included: what a half precision kernel may cost, not what it must give bit
by bit. The loss is scaled by 1024 on the way back.

    python half.py
"""

import torch
import torch.nn.functional as F

from formula import deviation, images, labels, parameter, summary, write

SCALE = 1024
SHAPES = {
    "conv1.weight": (16, 3, 3, 3),
    "bn1.weight": (16,),
    "bn1.bias": (16,),
    "conv2.weight": (32, 16, 3, 3),
    "fc.weight": (10, 32),
    "fc.bias": (10,),
}


def step(dtype):
    """Batch 8, 16 px; the second convolution has stride 2. Gives the loss and the gradients."""

    def leaf(name, values):
        rounded = values.half().to(dtype)
        keep = dtype == torch.float64 or not name.startswith("bn")
        return (rounded if keep else rounded.float()).requires_grad_()

    w = {name: leaf(name, torch.from_numpy(parameter(name, shape))) for name, shape in SHAPES.items()}
    x = leaf("input", images((8, 3, 16, 16)))
    y = F.conv2d(x, w["conv1.weight"], padding=1)
    y = F.batch_norm(y, None, None, w["bn1.weight"], w["bn1.bias"], training=True).relu()
    y = F.conv2d(y, w["conv2.weight"], stride=2, padding=1).relu()
    logits = F.linear(y.mean((2, 3)), w["fc.weight"], w["fc.bias"])
    assert logits.dtype == dtype
    # As mixed precision has it: the loss in at least single precision.
    loss = F.cross_entropy(logits.to(torch.promote_types(dtype, torch.float32)), labels(8, 10))
    (loss * SCALE).backward()
    tensors = {"input": x, **w}
    return loss.item(), {name: tensor.grad.double() / SCALE for name, tensor in tensors.items()}


loss, gradients = step(torch.float64)
half_loss, halves = step(torch.float16)
rows = {
    name: {
        "shape": list(tensor.shape),
        **summary(tensor),
        "f16_deviation": deviation(halves[name], tensor),
    }
    for name, tensor in gradients.items()
}
write("half.json", {"scale": SCALE, "loss": {"f64": loss, "f16": half_loss}, "gradients": rows})
