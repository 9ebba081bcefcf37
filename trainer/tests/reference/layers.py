"""layers.json: every kind of layer, forward and backward, by PyTorch in double precision.

A case has its input shape and settings, and the forward output and gradients as flat lists in
PyTorch's layout. The gradient of the output is u("dy"). Parameters are called conv.*, bn.*, fc.*.

    python layers.py
"""

import torch
import torch.nn.functional as F

from formula import fill, images, labels, u, whole, write

torch.set_default_dtype(torch.float64)


def backward(case, tensors, output):
    """Adds the output and the gradients of the named tensors to a case."""
    output.backward(torch.from_numpy(u("dy", tuple(output.shape))))
    case["output_shape"] = list(output.shape)
    case["output"] = whole(output)
    case["gradients"] = {name: whole(tensor.grad) for name, tensor in tensors.items()}
    return case


def leaf(shape, name="input"):
    return images(shape, name).requires_grad_()


class Named(torch.nn.Module):
    """One layer under its name, so that parameters are called as in a network."""

    def __init__(self, name, layer):
        super().__init__()
        self.add_module(name, layer)
        self.layer = lambda: getattr(self, name)

    def forward(self, x):
        return self.layer()(x)


def layer(name, module, shape, **settings):
    model, x = fill(Named(name, module)), leaf(shape)
    case = {"input_shape": list(shape), **settings}
    return backward(case, {"input": x, **dict(model.named_parameters())}, model(x))


def convolution(shape, channels, kernel, stride=1, padding=0, groups=1, bias=False):
    settings = {"channels": channels, "kernel": kernel, "stride": stride, "padding": padding}
    settings |= {"groups": groups, "bias": bias}
    module = torch.nn.Conv2d(
        shape[1], channels, kernel, stride, padding, groups=groups, bias=bias
    )
    return layer("conv", module, shape, **settings)


def batch_norm(shape, relu=False, residual=False):
    """Training mode: output, gradients and running statistics after one update, and running
    statistics after a second one with the batch "input2"; momentum 0.1, epsilon 1e-5."""
    model, x = fill(Named("bn", torch.nn.BatchNorm2d(shape[1]))), leaf(shape)
    tensors, y = {"input": x}, model(x)
    if residual:
        tensors["residual"] = leaf(shape, "residual")
        y = y + tensors["residual"]
    if relu:
        y = y.relu()
    case = {"input_shape": list(shape), "epsilon": 1e-5, "momentum": 0.1}
    backward(case, {**tensors, **dict(model.named_parameters())}, y)
    running = lambda: {name: whole(tensor) for name, tensor in model.named_buffers() if tensor.ndim}
    case["running_after_1"] = running()
    model(images(shape, "input2"))
    case["running_after_2"] = running()
    return case


def batch_norm_evaluation(shape):
    model, x = fill(Named("bn", torch.nn.BatchNorm2d(shape[1]))).eval(), images(shape)
    return {"input_shape": list(shape), "epsilon": 1e-5, "output": whole(model(x))}


def function(shape, f, **settings):
    x = leaf(shape)
    return backward({"input_shape": list(shape), **settings}, {"input": x}, f(x))


def max_pool(shape, padding):
    f = lambda x: F.max_pool2d(x, 3, 2, padding)
    return function(shape, f, kernel=3, stride=2, padding=padding)


def cross_entropy(shape, smoothing):
    """The mean over the batch, and its gradient in the logits."""
    x = leaf(shape)
    loss = F.cross_entropy(x, labels(*shape), label_smoothing=smoothing)
    loss.backward()
    case = {"input_shape": list(shape), "smoothing": smoothing, "labels": labels(*shape).tolist()}
    return case | {"loss": loss.item(), "gradients": {"input": whole(x.grad)}}


write(
    "layers.json",
    {
        "conv_1x1": convolution((2, 4, 5, 3), 6, 1),
        "conv_1x1_stride_2": convolution((2, 4, 7, 5), 6, 1, stride=2),
        "conv_1x1_stride_2_even": convolution((2, 4, 6, 8), 6, 1, stride=2),
        "conv_1x1_wide": convolution((1, 35, 3, 2), 17, 1),
        "conv_3x3": convolution((2, 4, 5, 3), 6, 3, padding=1),
        "conv_3x3_wide": convolution((1, 5, 4, 3), 17, 3, padding=1),
        "conv_3x3_stride_2": convolution((2, 4, 7, 5), 6, 3, stride=2, padding=1),
        "conv_3x3_stride_2_even": convolution((2, 4, 8, 6), 6, 3, stride=2, padding=1),
        "conv_7x7_stride_2": convolution((1, 2, 11, 9), 3, 7, stride=2, padding=3),
        "conv_7x7_stride_2_even": convolution((2, 3, 8, 6), 3, 7, stride=2, padding=3),
        "conv_11x11_stride_4": convolution((2, 1, 19, 15), 2, 11, stride=4),
        "conv_11x11_stride_4_rest": convolution((1, 1, 21, 16), 3, 11, stride=4),
        "conv_5x5_groups_2": convolution((2, 4, 5, 3), 4, 5, padding=2, groups=2),
        "conv_3x3_groups_2_bias": convolution((2, 4, 7, 5), 6, 3, padding=1, groups=2, bias=True),
        "batch_norm": batch_norm((2, 6, 5, 3)),
        "batch_norm_wide": batch_norm((3, 19, 2, 2)),
        "batch_norm_relu": batch_norm((2, 6, 5, 3), relu=True),
        "batch_norm_add_relu": batch_norm((2, 6, 5, 3), relu=True, residual=True),
        "batch_norm_evaluation": batch_norm_evaluation((2, 6, 5, 3)),
        "max_pool_padding_1": max_pool((2, 3, 9, 7), 1),
        "max_pool_padding_1_even": max_pool((2, 3, 8, 6), 1),
        "max_pool_padding_0": max_pool((2, 3, 9, 7), 0),
        "max_pool_padding_0_rest": max_pool((2, 3, 8, 6), 0),
        "global_average_pool": function((2, 6, 5, 3), lambda x: x.mean((2, 3))),
        "relu": function((2, 3, 5, 3), torch.relu),
        "linear": layer("fc", torch.nn.Linear(19, 10), (3, 19), outputs=10),
        "cross_entropy": cross_entropy((4, 10), 0.0),
        "cross_entropy_smoothed": cross_entropy((4, 10), 0.1),
        "cross_entropy_wide": cross_entropy((2, 100), 0.1),
    },
)
