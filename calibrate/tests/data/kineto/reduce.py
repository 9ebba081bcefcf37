#!/usr/bin/env python3
"""Reduces Kineto traces to what the reader of foretrain-calibrate needs.

    reduce.py IN.json.gz OUT.json.gz [--steps 3:6]

How `resnet50-rank0.json.gz` and `resnet50-rank1.json.gz` were made: PyTorch 2.15.0, torchvision 0.29.2, CPUs,
two ranks over gloo, by trace.py beside this,

    python trace.py --active 6 --batch 4 --size 128
    gzip rank0.json rank1.json
    reduce.py rank0.json.gz resnet50-rank0.json.gz --steps 6:9
    reduce.py rank1.json.gz resnet50-rank1.json.gz --steps 6:9
    analyse.py resnet50-rank0.json.gz resnet50-rank1.json.gz --json | gzip -9n > resnet50-expected.json.gz

The machine was shared: of a dozen repeats of the recording this was the steadiest, and these are its last
three steps. Simulated from any three steps in a row of its last five, the step is 1.6 to 2.6 % too fast; from
noisier repeats up to 9 %.

Kept: the marks of `--steps` steps (from:to of their numbers) and what starts in them; outermost operations,
but those within the update; among operations inside, those that carry a sequence number of their own,
accumulate gradients, launch all-reduces or are a backward function; of events the keys that the
reader looks at. Times are kept as they are written, to the digit.
"""
import gzip, json, sys

EVALUATE = "autograd::engine::evaluate_function: "
TOP_KEYS = ("schemaVersion", "deviceProperties", "distributedInfo", "host_name", "baseTimeNanoseconds")
INSIDE = ("torch::autograd::AccumulateGrad", "c10d::allreduce_")
SHAPED = INSIDE + ("torch.distributed.ddp.reducer::copy_bucket_to_grad", "gloo:all_reduce", "gloo:broadcast")


class Decimal(str):
    """A number as it was written."""


def main():
    source, target, *rest = sys.argv[1:]
    low, high = (int(n) for n in (rest[1] if rest else "0:1000000000").split(":"))
    with gzip.open(source, "rt") as f:
        raw = json.load(f, parse_float=Decimal)
    time = lambda text: float(text)
    spans = [e for e in raw["traceEvents"] if e.get("ph") == "X" and e.get("cat") in ("cpu_op", "user_annotation")]
    spans.sort(key=lambda e: (time(e["ts"]), -time(e["dur"])))
    of = lambda name: [(time(e["ts"]), time(e["ts"]) + time(e["dur"])) for e in spans if e["name"].startswith(name)]
    steps = [(time(e["ts"]), time(e["ts"]) + time(e["dur"])) for e in spans
             if e["name"].startswith("ProfilerStep#") and low <= int(e["name"][13:]) < high]
    updates = of("Optimizer.step#")
    within = lambda e, some: any(a <= time(e["ts"]) < b for a, b in some)
    kept, stacks, numbers = [], {}, {}
    for e in spans:
        if not within(e, steps):
            continue
        if e["cat"] == "user_annotation":
            if not e["name"].startswith("Optimizer.zero_grad"):
                kept.append(e)
            continue
        stack = stacks.setdefault(e["tid"], [])
        while stack and time(stack[-1]["ts"]) + time(stack[-1]["dur"]) <= time(e["ts"]):
            stack.pop()
        number = e.get("args", {}).get("Sequence number")
        if stack:
            top = stack[0]
            function = top["name"].startswith(EVALUATE)
            keep = e["name"] in INSIDE or (function and len(stack) == 1 and number is not None)
            # An operation inside another may carry a number that the outer one has not.
            if not function and number is not None and number not in numbers[id(top)]:
                numbers[id(top)].add(number)
                keep = True
        else:
            numbers[id(e)] = {number}
            keep = not within(e, updates)
        stack.append(e)
        if keep:
            kept.append(e)
    out = [reduced(e) for e in kept]
    document = {k: raw[k] for k in TOP_KEYS if k in raw}
    document["distributedInfo"] = {k: raw["distributedInfo"][k] for k in ("backend", "rank", "world_size")}
    lines = ",\n".join(text(e) for e in out)
    head = ",\n".join(f"{json.dumps(k)}: {text(v)}" for k, v in document.items())
    with open(target, "wb") as f, gzip.GzipFile("", "wb", 9, f, 0) as z:  # without name and date
        z.write(f'{{{head},\n"traceEvents": [\n{lines}\n]}}\n'.encode())


def reduced(e):
    args = e.get("args", {})
    names = ["Sequence number"]
    if e["name"] in SHAPED:
        names += ["Input type", "Input Dims"]
    elif e["name"].startswith("aten::") or e["name"].endswith("Backward0"):
        names += ["Input type", "Input Dims"] if e.get("args", {}).get("Sequence number") is not None else []
    small = {k: args[k] for k in names if k in args}
    if e["name"] not in SHAPED:
        # The first two tensors name a layer, the first one's type is its own.
        small = {k: v[:2] if isinstance(v, list) else v for k, v in small.items()}
    else:
        small = {k: v[:1] if isinstance(v, list) else v for k, v in small.items()}
    keys = ("ph", "cat", "name", "pid", "tid", "ts", "dur")
    return {**{k: e[k] for k in keys}, **({"args": small} if small else {})}


def text(value):
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(text(v) for v in value) + "]"
    return json.dumps(value)


if __name__ == "__main__":
    main()
