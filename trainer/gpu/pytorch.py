"""What PyTorch reaches on this GPU: training steps of torchvision's ResNet-50 as they are usually written
(channels-last, autocast, SGD with momentum, label smoothing), eager and compiled, beside the rate of a
large copy and of a large product.

    python3 pytorch.py FOLDER [--deadline SECONDS] [--seconds 1.5] [--device cuda|cpu]

The most important points come first; none is begun after the deadline. Writes pytorch-NAME-DATE.json into
FOLDER after each point, and traces of two steps for some (trace-*.json.gz, for Perfetto). Exit codes: 0
all points were measured, 5 PyTorch or its GPU failed, 6 points were left out or failed.
"""

import argparse
import datetime
import gzip
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time

# (batch, format, compiled, traced)
POINTS = [
    (256, "f16", False, True),
    (64, "f16", False, True),
    (256, "f16", True, True),
    (16, "f16", False, False),
    (32, "f16", False, False),
    (128, "f16", False, False),
    (400, "f16", False, False),
    (256, "bf16", False, False),
    (64, "f16", True, False),
    (16, "f16", True, False),
    (400, "f16", True, False),
    (128, "f16", True, False),
    (32, "f16", True, False),
]
POINTS_OF_CPU = [(4, "bf16", False, True)]
# What compiling and measuring a step takes, about; so long before the deadline no other is begun.
COMPILE_S = 30


def parse():
    parser = argparse.ArgumentParser(description="Measures PyTorch's training steps of ResNet-50.")
    parser.add_argument("folder", help="where results go")
    parser.add_argument("--deadline", type=float, help="seconds after which no further point is begun")
    parser.add_argument("--seconds", type=float, default=1.5, help="of steps for a point, at least")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    return parser.parse_args()


BEGAN = time.monotonic()
ARGUMENTS = parse()
try:
    import torch
    import torchvision
except ImportError as error:
    print(f"error: PyTorch cannot be imported ({error}): expected a python3 with torch and torchvision")
    sys.exit(5)
CUDA = ARGUMENTS.device == "cuda"
if CUDA and not torch.cuda.is_available():
    print("error: PyTorch sees no GPU: expected the NVIDIA driver, and `nvidia-smi` to list a GPU")
    sys.exit(5)
DEVICE = torch.device(ARGUMENTS.device)
FORMATS = {"f16": torch.float16, "bf16": torch.bfloat16}


def synchronize():
    if CUDA:
        torch.cuda.synchronize()


def driver():
    query = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,clocks.mem,power.limit", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None


def timed(call, warm):
    """Seconds of a call, in order: by events on a GPU, else by the clock."""
    for _ in range(warm):
        call()
    synchronize()
    times = []
    end = time.monotonic() + ARGUMENTS.seconds
    while time.monotonic() < end or len(times) < 5:
        if CUDA:
            before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            before.record()
            call()
            after.record()
            after.synchronize()
            times.append(before.elapsed_time(after) / 1e3)
        else:
            before = time.perf_counter()
            call()
            times.append(time.perf_counter() - before)
    return sorted(times)


def median(times):
    return times[len(times) // 2]


def training_step(batch, dtype, compiled):
    model = torchvision.models.resnet50().to(DEVICE).to(memory_format=torch.channels_last).train()
    network = torch.compile(model) if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-5, foreach=True)
    scaler = torch.amp.GradScaler(DEVICE.type, enabled=dtype == torch.float16)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    side = 224 if CUDA else 64
    images = torch.randn(batch, 3, side, side, device=DEVICE).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (batch,), device=DEVICE)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE.type, dtype=dtype):
            loss = loss_of(network(images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def trace(path, step):
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if CUDA else [])
    with profile(activities=activities, record_shapes=True) as profiler:
        for _ in range(2):
            step()
        synchronize()
    profiler.export_chrome_trace(path)
    with open(path, "rb") as raw, gzip.open(path + ".gz", "wb") as packed:
        shutil.copyfileobj(raw, packed)
    os.remove(path)


def measure(batch, format, compiled, traced):
    if compiled:
        torch._dynamo.reset()
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step = training_step(batch, FORMATS[format], compiled)
    times = timed(step, 10 if CUDA else 2)
    point = {
        "step_ms_median": median(times) * 1e3,
        "step_ms_min": times[0] * 1e3,
        "step_ms_p99": times[int((len(times) - 1) * 0.99)] * 1e3,
        "steps": len(times),
        "images_per_s": batch / median(times),
        "memory_bytes": torch.cuda.max_memory_allocated() if CUDA else None,
    }
    if traced:
        how = "compiled" if compiled else "eager"
        trace(os.path.join(ARGUMENTS.folder, f"trace-{how}-{format}-{batch}.json"), step)
    return point


def ceilings():
    """Bytes a second of a copy, and operations a second of a product in f16."""
    source = torch.randn(1 << 29, device=DEVICE).half()
    target = torch.empty_like(source)
    copy = 2 * source.numel() * 2 / median(timed(lambda: target.copy_(source), 5))
    left = torch.randn(8192, 8192, device=DEVICE).half()
    right = torch.randn_like(left)
    return copy, 2 * 8192**3 / median(timed(lambda: left @ right, 5))


def main():
    os.makedirs(ARGUMENTS.folder, exist_ok=True)
    torch.backends.cudnn.benchmark = True
    name = torch.cuda.get_device_name(0) if CUDA else platform.machine() + " cpu"
    now = datetime.datetime.now(datetime.timezone.utc)
    file = "pytorch-{}-{}.json".format(re.sub("[^a-z0-9]", "-", name.lower()), now.strftime("%Y-%m-%d"))
    path = os.path.join(ARGUMENTS.folder, file)
    result = {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "command": " ".join(sys.argv),
        "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "gpu": name,
        "driver": driver() if CUDA else None,
        "cudnn": torch.backends.cudnn.version() if CUDA else None,
        "network": "resnet50",
        "points": [],
        "left_out": [],
    }

    def save():
        with open(path + ".new", "w") as out:
            json.dump(result, out, indent=1)
        os.replace(path + ".new", path)

    if CUDA:
        result["copy_byte_per_s"], result["product_operation_per_s"] = ceilings()
        save()
    complete = True
    for batch, format, compiled, traced in POINTS if CUDA else POINTS_OF_CPU:
        point = {"batch": batch, "format": format, "compiled": compiled}
        needed = COMPILE_S if compiled else 0
        if ARGUMENTS.deadline is not None and time.monotonic() - BEGAN + needed > ARGUMENTS.deadline:
            result["left_out"].append(point)
            complete = False
            save()
            continue
        try:
            point |= measure(batch, format, compiled, traced)
        except Exception as error:  # A point that fails, as for memory, must not cost the others.
            point["error"] = f"{type(error).__name__}: {error}"[:1000]
            complete = False
        result["points"].append(point)
        print(point, flush=True)
        save()
    print(f"{len(result['left_out'])} points were left out; all numbers are in {path}")
    sys.exit(0 if complete else 6)


main()
