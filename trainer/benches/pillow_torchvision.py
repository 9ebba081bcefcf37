"""How many images one core prepares with Pillow and torchvision, on the files of benches/input.rs.

    FORETRAIN_PHOTOGRAPHS=/tmp/photographs cargo bench -p foretrain-trainer --bench input
    python pillow_torchvision.py /tmp/photographs

A pass takes every file once; the best and the median pass are in images a second, the mean also in
images a second of CPU time, which other programs on the machine disturb less. The files are in
memory.
"""

import io
import os
import pathlib
import statistics
import sys
import time

import numpy as np
import PIL
import PIL.features
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

PASSES = int(os.environ.get("PASSES", "40"))
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pillow(file):
    return Image.open(io.BytesIO(file)).convert("RGB")


def tensor(file):
    data = torch.from_numpy(np.frombuffer(file, np.uint8).copy())
    return torchvision.io.decode_jpeg(data, torchvision.io.ImageReadMode.RGB)


def measure(name, files, prepare):
    seconds, cpu = [], time.process_time()
    for _ in range(PASSES):
        start = time.perf_counter()
        for file in files:
            prepare(file)
        seconds.append(time.perf_counter() - start)
    best, median = len(files) / min(seconds), len(files) / statistics.median(seconds)
    cpu = len(files) * PASSES / (time.process_time() - cpu)
    print(f"{name:40} best {best:7.1f}  median {median:7.1f}  {cpu:7.1f} a CPU second", flush=True)


torch.set_num_threads(1)
torch.manual_seed(1)
files = [path.read_bytes() for path in sorted(pathlib.Path(sys.argv[1]).glob("*.jpg"))]
size = sum(map(len, files)) / len(files) / 1000
turbo = PIL.features.check("libjpeg_turbo")
print(f"Pillow {PIL.__version__} (libjpeg-turbo: {turbo}), torchvision {torchvision.__version__}")
print(f"{len(files)} files of {size:.0f} KB, load {os.getloadavg()[0]:.1f}, {PASSES} passes")

crop = [v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip()]
normalise = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, DEVIATION)]
cropped = v2.Compose(crop)
normalised = v2.Compose([*crop, v2.ToImage(), *normalise])
on_tensors = v2.Compose([*crop, *normalise])
measure("Pillow: decode", files, lambda file: pillow(file).load())
measure("Pillow: decode, crop, flip", files, lambda file: cropped(pillow(file)))
measure("Pillow: decode, crop, flip, normalise", files, lambda file: normalised(pillow(file)))
measure("torchvision.io: decode", files, tensor)
measure("torchvision.io: all, on tensors", files, lambda file: on_tensors(tensor(file)))
