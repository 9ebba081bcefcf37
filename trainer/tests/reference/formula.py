"""Tensors from a formula, the same bits as trainer/tests/common/formula.rs computes.

Element i (flat index in PyTorch's layout: OIHW, NCHW) of the tensor `name` is

    u(name, i) = 2 (mix(fnv1a64(name) + (i + 1) 0x9e3779b97f4a7c15) >> 11) / 2^53 - 1

in [-1, 1), exact in double precision; mix is SplitMix64's output function and all integers are
modulo 2^64. So that references need no stored weights, only what comes out is in the fixtures.
"""

import json
import math
import pathlib

import numpy as np
import torch

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def fnv1a64(name):
    bits = 0xCBF29CE484222325
    for byte in name.encode():
        bits = (bits ^ byte) * 0x100000001B3 % 2**64
    return bits


def u(name, shape):
    """A NumPy array in [-1, 1)."""
    with np.errstate(over="ignore"):
        index = np.arange(1, math.prod(shape) + 1, dtype=np.uint64)
        bits = np.uint64(fnv1a64(name)) + index * GOLDEN
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits = bits ^ (bits >> np.uint64(31))
    return ((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53 * 2.0 - 1.0).reshape(shape)


def parameter(name, shape):
    """A parameter or buffer by its name in a state_dict: what it is follows from name and rank."""
    values = u(name, shape)
    if name.endswith("weight") and len(shape) == 4:
        return values * math.sqrt(6.0 / math.prod(shape[1:]))
    if name.endswith("weight") and len(shape) == 2:
        return values * math.sqrt(1.0 / shape[1])
    if name.endswith("weight"):  # of batch norm
        return 1.0 + 0.1 * values
    if name.endswith("running_var"):
        return 1.0 + 0.5 * values
    return 0.1 * values  # biases, running means


def images(shape, name="input"):
    return torch.from_numpy(1.5 * u(name, shape))


def labels(count, classes):
    return torch.tensor([(7 * n + 3) % classes for n in range(count)])


def fill(model):
    """Sets every parameter and buffer of a module by its name; gives the module back."""
    state = {
        name: torch.tensor(0)
        if name.endswith("num_batches_tracked")
        else torch.from_numpy(parameter(name, tuple(tensor.shape)))
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state, strict=True)
    return model


def whole(tensor):
    """Every element, for a fixture."""
    return tensor.detach().double().flatten().tolist()


def summary(tensor):
    """A large tensor in a few numbers: its norm, its product with u("probe"), which sees every
    element and its place, and four of its elements."""
    values = tensor.detach().double().flatten()
    probe = torch.from_numpy(u("probe", tuple(values.shape)))
    at = [(2 * k + 1) * len(values) // 8 for k in range(4)]
    return {
        "norm": values.norm().item(),
        "probe": (values @ probe).item(),
        "at": at,
        "values": values[at].tolist(),
    }


def deviation(found, reference):
    """Norm of the difference over the norm of the reference; None where that is zero but for
    rounding, as the gradient of a bias in front of a batch norm is."""
    reference = reference.detach().double()
    norm = reference.norm().item()
    return (found.detach().double() - reference).norm().item() / norm if norm > 1e-12 else None


def write(name, fixture):
    """One line for every entry, so that changes can be read; repr precision."""
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    lines = [f"{json.dumps(key)}: {inner(value)}" for key, value in {**versions, **fixture}.items()]
    path = pathlib.Path(__file__).parent / name
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(path, path.stat().st_size, "bytes")


def inner(value):
    if not isinstance(value, dict) or not any(isinstance(item, dict) for item in value.values()):
        return json.dumps(value, allow_nan=False)
    lines = [f"  {json.dumps(key)}: {json.dumps(item, allow_nan=False)}" for key, item in value.items()]
    return "{\n" + ",\n".join(lines) + "\n}"
