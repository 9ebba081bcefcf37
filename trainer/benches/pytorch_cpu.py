"""Images per second of a whole training step with PyTorch on the CPU, in single precision.

    python pytorch_cpu.py            every case
    python pytorch_cpu.py resnet50   cases whose line contains this text
    THREADS=2 SECONDS=20 python pytorch_cpu.py

A step is forward, mean cross-entropy, backward and momentum SGD (lr 0.1, momentum 0.9, decay 1e-4),
on one batch over and over, so input costs nothing; dropout is on. Each case runs for SECONDS after
two steps of warm-up; the median and the best step count. Run it twice: the machine may be busy.
"""

import os
import pathlib
import statistics
import sys
import time

import torch
import torch.nn.functional as F
import torchvision

sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests" / "reference"))
from alexnet_bn import alexnet_bn  # noqa: E402

THREADS = int(os.environ.get("THREADS", "2"))
SECONDS = float(os.environ.get("SECONDS", "20"))


def alexnet():
    """The one of the references, with its dropout."""
    layers = []
    for name, module in alexnet_bn().named_children():
        layers += [module, torch.nn.Dropout(0.5)] if name in ("relu6", "relu7") else [module]
    return torch.nn.Sequential(*layers)


def resnet50():
    return torchvision.models.resnet50(weights=None)


def measure(make, batch, side, memory_format):
    torch.manual_seed(1)
    model = make().train().to(memory_format=memory_format)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    x = torch.randn(batch, 3, side, side).contiguous(memory_format=memory_format)
    y = torch.arange(batch) * 7 % 1000
    seconds = []
    while len(seconds) < 5 or sum(seconds[2:]) < SECONDS:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    seconds = seconds[2:]
    return batch / min(seconds), batch / statistics.median(seconds), len(seconds)


torch.set_num_threads(THREADS)
print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} CPUs")
print(torch.backends.cpu.get_cpu_capability(), "mkldnn", torch.backends.mkldnn.is_available())
cases = [
    ("resnet50", resnet50, 8, 64),
    ("resnet50", resnet50, 32, 64),
    ("resnet50", resnet50, 8, 224),
    ("resnet50", resnet50, 16, 224),
    ("alexnet_bn", alexnet, 32, 227),
]
for name, make, batch, side in cases:
    for layout in ("contiguous", "channels_last"):
        line = f"{name:10} {side:3} px batch {batch:2} {layout:13}"
        if len(sys.argv) > 1 and sys.argv[1] not in line:
            continue
        memory_format = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
        best, median, steps = measure(make, batch, side, memory_format[layout])
        load = os.getloadavg()[0]
        print(
            f"{line} best {best:7.2f}  median {median:7.2f} images/s  ({steps} steps, load {load:.1f})",
            flush=True,
        )
