#!/usr/bin/env python3
"""Reads Kineto traces (PyTorch profiler, Chrome trace JSON) of DDP training and replays the step.

    analyse.py rank0.json.gz [rank1.json.gz ...] [--layers | --json] [--streams N]

One file a rank. Prints: parts of the step (they add up), layers in forward order, gradient buckets,
a fit of alpha and beta, and the step time that a replay of the medians gives. Works on CPU traces
(gloo) and GPU traces (NCCL). Standard library only. All times inside are whole nanoseconds.
"""
import bisect, gzip, json, statistics, sys
from collections import defaultdict, namedtuple

EVALUATE = "autograd::engine::evaluate_function: "
ACCUMULATE = "torch::autograd::AccumulateGrad"
# "Input type" of cpu_op (C++ names) and "dtype" of record_param_comms and NCCL kernels (ScalarType)
BYTES = {
    "float": 4, "double": 8, "c10::Half": 2, "c10::BFloat16": 2, "long int": 8, "long": 8, "int": 4,
    "unsigned char": 1, "signed char": 1, "bool": 1,
    "Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Byte": 1, "Char": 1,
}
DEVICE_CATS = ("kernel", "gpu_memcpy", "gpu_memset")


# --- reading -----------------------------------------------------------------------------------


class Event:
    __slots__ = ("name", "cat", "tid", "start", "end", "args", "parent", "top")

    def __init__(self, e):
        self.name, self.cat, self.tid = e["name"], e.get("cat", ""), (e.get("pid"), e.get("tid"))
        self.start = to_ns(e["ts"])
        self.end = self.start + to_ns(e.get("dur", 0))
        self.args = e.get("args", {})
        self.parent = None  # innermost enclosing cpu_op of the same thread
        self.top = self  # outermost enclosing cpu_op

    def seq(self):
        return self.args.get("Sequence number")


def to_ns(us):
    """Microseconds, as JSON text of a decimal or as an integer, to whole nanoseconds, exactly."""
    if isinstance(us, int):
        return us * 1000
    whole, _, fraction = str(us).partition(".")
    return int(whole) * 1000 + int((fraction + "000")[:3])


class Trace:
    def __init__(self, path):
        opener = gzip.open if open(path, "rb").read(2) == b"\x1f\x8b" else open
        with opener(path, "rt") as f:
            raw = json.load(f, parse_float=str)  # decimals stay text: no rounding
        info = raw.get("distributedInfo", {})
        self.rank, self.ranks = info.get("rank", 0), info.get("world_size", 1)
        self.backend = info.get("backend")
        self.base_ns = raw.get("baseTimeNanoseconds", 0)  # ts are microseconds after this moment
        self.events = [Event(e) for e in raw["traceEvents"] if e.get("ph") == "X" and "ts" in e]
        self.events.sort(key=lambda e: (e.start, -e.end))
        self.gpu = any(e.cat == "kernel" for e in self.events)
        self.by_tid = defaultdict(list)
        for e in self.events:
            if e.cat in ("cpu_op", "user_annotation"):
                self.by_tid[e.tid].append(e)
        for events in self.by_tid.values():
            nest(events)
        steps = [e for e in self.events if e.cat == "user_annotation" and e.name.startswith("ProfilerStep#")]
        if not steps:
            raise SystemExit(f"{path}: no ProfilerStep: record with a schedule and call step() of the profiler")
        self.step_marks = sorted(steps, key=lambda e: e.start)


def nest(events):
    """Fills in parent and top among the cpu_ops of one thread (sorted by start, longest first)."""
    stack = []
    for e in events:
        if e.cat != "cpu_op":
            continue
        while stack and stack[-1].end <= e.start:
            stack.pop()
        if stack:
            e.parent, e.top = stack[-1], stack[0]
        stack.append(e)


def elements(dims):
    """Elements of the first tensor in "Input Dims": [[64, 3, 7, 7], ...], or [[[N]], ...] of c10d."""
    first = dims[0] if dims else []
    while first and isinstance(first[0], list):
        first = first[0]
    n = 1
    for d in first:
        n *= d
    return n


def tensor_bytes(e):
    types = e.args.get("Input type") or e.args.get("Input Type")
    dims = e.args.get("Input Dims")
    if dims is None:
        raise SystemExit("no shapes in the trace: record with record_shapes=True")
    kind = types[0]
    if kind in ("TensorList", ""):  # c10d::allreduce_
        kind = "float"
    return elements(dims) * BYTES[kind]


# --- one step ------------------------------------------------------------------------------------

Layer = namedtuple("Layer", "name forward backward params nbytes ready order")
Bucket = namedtuple("Bucket", "nbytes launch start end exact params unpack")
Item = namedtuple("Item", "start end phase owner")  # a stretch of work on the computing timeline


class Step:
    """What one ProfilerStep did. Times relative to its start."""


def host_phases(trace, mark):
    """Top-level ops of the step: forward ops, backward functions, optimizer, all in host order."""
    main = trace.by_tid[mark.tid]
    inside = [e for e in main if mark.start <= e.start < mark.end]
    optimizer = [e for e in inside if e.cat == "user_annotation" and e.name.startswith("Optimizer.step#")]
    # backward functions may run on another thread (always so with GPUs)
    evaluate = [
        e for events in trace.by_tid.values() for e in events
        if e.cat == "cpu_op" and e.parent is None and e.name.startswith(EVALUATE)
        and mark.start <= e.start < mark.end
    ]
    evaluate.sort(key=lambda e: e.start)
    if not evaluate:
        raise SystemExit(f"{mark.name}: no backward pass")
    first_backward = evaluate[0].start
    ops = [  # of every thread: with GPUs the end of the backward pass is on the autograd thread, too
        e for events in trace.by_tid.values() for e in events
        if e.cat == "cpu_op" and e.parent is None and not e.name.startswith(EVALUATE)
        and mark.start <= e.start < mark.end
    ]
    ops.sort(key=lambda e: e.start)
    ddp = [e for e in inside if e.cat == "user_annotation" and e.name == "DistributedDataParallel.forward"]
    forward = [e for e in ops if e.tid == mark.tid and e.start < first_backward]
    if ddp:
        forward = [e for e in forward if e.start >= ddp[0].start]
    forward_start = ddp[0].start if ddp else next((e.start for e in forward if e.seq() is not None), first_backward)
    return inside, optimizer, evaluate, ops, forward, forward_start


def own_sequence_numbers(inside, forward):
    """Sequence number -> top-level forward op that made the autograd node: the last one to carry it.

    An op carries the number that the next node will get, whether it makes a node or not. So among
    ops with the same number the last made it (num_batches_tracked.add_ before batch_norm, e.g.).
    """
    tops = {id(e) for e in forward}
    owner = {}
    for e in inside:  # in order of start
        if e.cat == "cpu_op" and e.seq() is not None and id(e.top) in tops:
            owner[e.seq()] = e.top
    return owner


def step_of(trace, mark, next_mark):
    inside, optimizer, evaluate, ops, forward, forward_start = host_phases(trace, mark)
    owner_of_seq = own_sequence_numbers(inside, forward)

    # layers: forward ops that have a backward function, in forward order
    with_backward = {id(owner_of_seq[e.seq()]) for e in evaluate if e.seq() in owner_of_seq}
    layer_ops = [e for e in forward if id(e) in with_backward]
    index = {id(e): i for i, e in enumerate(layer_ops)}

    # backward functions to layers; AccumulateGrad runs right after the function that fed it
    belongs, current = {}, None
    for e in evaluate:
        op = owner_of_seq.get(e.seq())
        if op is not None:
            current = index[id(op)]
        belongs[id(e)] = current if current is not None else len(layer_ops) - 1

    # parameters: AccumulateGrad in order of execution
    inner = {}
    for events in trace.by_tid.values():
        for e in events:
            if e.name == ACCUMULATE and e.parent is not None and mark.start <= e.start < mark.end:
                inner[id(e.parent)] = e
    params = [(e, inner[id(e)]) for e in evaluate if id(e) in inner]

    # launches of gradient all-reduces: c10d::allreduce_ inside a backward function
    launches = sorted(
        (e for events in trace.by_tid.values() for e in events
         if e.name == "c10d::allreduce_" and e.top.name.startswith(EVALUATE) and mark.start <= e.start < mark.end),
        key=lambda e: e.start,
    )

    items = (gpu_items if trace.gpu else cpu_items)(
        trace, mark, ops, forward, evaluate, optimizer, index, belongs, layer_ops
    )
    comms = communication(trace, mark, next_mark, launches)
    return assemble(trace, mark, next_mark, items, layer_ops, belongs, params, launches, comms, forward_start, evaluate)


def cpu_items(trace, mark, ops, forward, evaluate, optimizer, index, belongs, layer_ops):
    """On CPUs the host timeline is the computing timeline."""
    items = []
    fwd = {id(e) for e in forward}
    for e in evaluate:
        items.append(Item(e.start, e.end, "backward", (belongs[id(e)], e)))
    for e in optimizer:
        items.append(Item(e.start, e.end, "optimizer", None))
    for e in ops:
        if any(o.start <= e.start < o.end for o in optimizer):
            continue
        if id(e) in index:
            items.append(Item(e.start, e.end, "forward", index[id(e)]))
        elif id(e) in fwd:
            items.append(Item(e.start, e.end, "around forward", None))
        elif "copy_bucket_to_grad" in e.name:
            items.append(Item(e.start, e.end, "unpack", e))
        else:
            items.append(Item(e.start, e.end, "other", None))
    return sorted(items, key=lambda i: i.start)


def gpu_items(trace, mark, ops, forward, evaluate, optimizer, index, belongs, layer_ops):
    """Kernels, by the host op that launched them: correlation -> cuda_runtime -> enclosing cpu_op."""
    launch_of = {}
    for e in trace.events:
        if e.cat in ("cuda_runtime", "cuda_driver") and "correlation" in e.args:
            launch_of[e.args["correlation"]] = e
    tops = sorted(ops + evaluate + optimizer, key=lambda e: e.start)
    by_tid = defaultdict(list)
    for e in tops:
        by_tid[e.tid].append(e)
    ev, fwd, opt = {id(e) for e in evaluate}, {id(e) for e in forward}, optimizer
    items = []
    for k in trace.events:
        if k.cat not in DEVICE_CATS or is_collective(k):
            continue
        launch = launch_of.get(k.args.get("correlation"))
        if launch is None or not mark.start <= launch.start < mark.end:
            continue
        if any(o.start <= launch.start < o.end for o in opt):
            items.append(Item(k.start, k.end, "optimizer", None))
            continue
        around = [e for e in by_tid[launch.tid] if e.start <= launch.start < e.end]
        top = around[0] if around else None
        if top is None:
            items.append(Item(k.start, k.end, "other", None))
        elif id(top) in ev:
            items.append(Item(k.start, k.end, "backward", (belongs[id(top)], top)))
        elif id(top) in index:
            items.append(Item(k.start, k.end, "forward", index[id(top)]))
        elif id(top) in fwd:
            items.append(Item(k.start, k.end, "around forward", None))
        elif "copy_bucket_to_grad" in top.name:
            items.append(Item(k.start, k.end, "unpack", top))
        else:
            items.append(Item(k.start, k.end, "other", None))
    return sorted(items, key=lambda i: i.start)


def is_collective(e):
    return e.cat == "kernel" and (e.name.startswith("nccl") or "Collective name" in e.args)


def communication(trace, mark, next_mark, launches):
    """The transfers of this step's launches, in order of launch: (launch, start, end, bytes)."""
    if trace.gpu:
        launch_of = {e.args["correlation"]: e for e in trace.events
                     if e.cat in ("cuda_runtime", "cuda_driver") and "correlation" in e.args}
        found = []
        for l in launches:
            k = next(k for k in trace.events if is_collective(k)
                     and (c := launch_of.get(k.args.get("correlation"))) is not None
                     and c.tid == l.tid and l.start <= c.start < l.end)
            found.append((l, k.start, k.end, k.args["In msg nelems"] * BYTES[k.args["dtype"]]))
        return found
    spans = [e for e in trace.events if e.cat == "user_annotation" and e.name == "gloo:all_reduce"]
    used, found = set(), []
    for l in launches:
        n = elements(l.args["Input Dims"])
        e = next(e for e in spans if id(e) not in used and e.start >= l.start and elements(e.args["Input Dims"]) == n)
        used.add(id(e))
        found.append((l, e.start, e.end, tensor_bytes(e)))
    return found


def assemble(trace, mark, next_mark, items, layer_ops, belongs, params, launches, comms, forward_start, evaluate):
    s = Step()
    s.name = mark.name
    fwd = [i for i in items if i.phase == "forward"]
    bwd = [i for i in items if i.phase == "backward"]
    opt = [i for i in items if i.phase == "optimizer"]
    if trace.gpu:  # the host runs ahead: a step lasts from its first kernel to the next step's
        begin = items[0].start
        end = max(i.end for i in items)
        s.forward_from = fwd[0].start
    else:
        begin, end = mark.start, mark.end
        # ops without backward ahead of the first layer (buffers broadcast by DDP) are "before forward"
        s.forward_from = layer_ops[0].start
    s.begin, s.end = begin, end
    n = len(layer_ops)

    # forward: a layer lasts from the end of the one before to its own end; the last to backward
    forward, last = [0] * n, s.forward_from
    backward_from = bwd[0].start
    for i in range(n):
        mine = [x.end for x in fwd if x.owner == i]
        stop = max(mine + [last])
        forward[i] += stop - last
        last = stop
    forward[n - 1] += backward_from - last

    # backward: a function lasts until the next starts; the last to its own end
    backward, ready = [0] * n, {}
    s.sequence = []  # (layer, duration, id of the evaluate event), in order of execution
    bounds = [i.start for i in bwd] + [max(i.end for i in bwd)]
    backward_to = bounds[-1]
    for k, item in enumerate(bwd):
        layer, e = item.owner
        took = bounds[k + 1] - bounds[k]
        backward[layer] += took
        s.sequence.append([layer, took, id(e)])
        ready[id(e)] = bounds[k + 1] - begin

    nbytes, count, order, when = [0] * n, [0] * n, [], [None] * n
    for e, a in params:
        layer = belongs[id(e)]
        nbytes[layer] += tensor_bytes(a)
        count[layer] += 1
        if id(e) in ready:
            when[layer] = ready[id(e)]
    s.layers = [
        Layer(label(op), forward[i], backward[i], count[i], nbytes[i], when[i], i) for i, op in enumerate(layer_ops)
    ]

    # buckets: parameters whose gradient came since the launch before, up to this launch
    s.buckets, s.position = [], []
    unpack_items = [i for i in items if i.phase == "unpack"]
    at, u = 0, 0
    for b, (l, start, stop, size) in enumerate(comms):
        members = []
        while at < len(params) and params[at][0].start <= l.start:
            members.append(params[at])
            at += 1
        exact = sum(tensor_bytes(a) for _, a in members) == size
        holder = id(l.top)  # the backward function whose hook launched it
        position = max((k for k, q in enumerate(s.sequence) if q[2] == holder), default=None)
        if position is None:  # its kernels are elsewhere: after all that was launched before
            position = max((k for k, q in enumerate(s.sequence) if any(q[2] == id(e) for e, _ in members)), default=0)
        took, filled = 0, 0
        while u < len(unpack_items) and filled < size:
            took += unpack_items[u].end - unpack_items[u].start
            filled += tensor_bytes(unpack_items[u].owner)
            u += 1
        s.position.append(position)
        s.buckets.append(Bucket(size, l.start - begin if not trace.gpu else None, start - begin, stop - begin,
                                exact, len(members), took))

    # parts of the step
    tail_to = opt[0].start if opt else end
    busy = union([(i.start, i.end) for i in items if i.phase in ("unpack", "other")], backward_to, tail_to)
    transfer = union([(c[1], c[2]) for c in comms], backward_to, tail_to)
    exposed = length(subtract(transfer, busy))
    unpack = length(union([(i.start, i.end) for i in unpack_items], backward_to, tail_to))
    opt_from, opt_to = (opt[0].start, max(i.end for i in opt)) if opt else (tail_to, tail_to)
    head_from = max(begin, min(forward_start, s.forward_from)) if not trace.gpu else s.forward_from
    s.parts = {
        "before forward": head_from - begin,
        "DDP before forward": s.forward_from - head_from,
        "forward": backward_from - s.forward_from,
        "backward": backward_to - backward_from,
        "exposed all-reduce": exposed,
        "unpack buckets": unpack,
        "between": (tail_to - backward_to) - exposed - unpack,
        "optimizer": opt_to - opt_from,
        "after": end - opt_to,
    }
    s.duration = end - begin
    assert sum(s.parts.values()) == s.duration, (s.parts, s.duration)
    assert sum(forward) == s.parts["forward"] and sum(backward) == s.parts["backward"]
    s.backward_from = backward_from - begin
    s.pack = sum((e.end - e.start) - (a.end - a.start) for e, a in params) - sum(l.end - l.start for l in launches)
    return s


def label(e):
    dims = [d for d in e.args.get("Input Dims", []) if d][:2]
    return e.name.replace("aten::", "") + " " + " ".join("x".join(map(str, d)) for d in dims if not isinstance(d[0], list))


def union(spans, low, high):
    out = []
    for a, b in sorted((max(a, low), min(b, high)) for a, b in spans):
        if a >= b:
            continue
        if out and a <= out[-1][1]:
            out[-1][1] = max(out[-1][1], b)
        else:
            out.append([a, b])
    return out


def subtract(spans, holes):
    out = []
    for a, b in spans:
        for c, d in holes:
            if d <= a or c >= b:
                continue
            if c > a:
                out.append([a, c])
            a = max(a, d)
        if a < b:
            out.append([a, b])
    return out


def length(spans):
    return sum(b - a for a, b in spans)


# --- medians, fit, replay ------------------------------------------------------------------------

median = lambda xs: statistics.median(xs)


def steps_of(trace):
    marks = trace.step_marks
    steps = [step_of(trace, m, marks[i + 1] if i + 1 < len(marks) else None) for i, m in enumerate(marks)]
    if trace.gpu:  # up to the first kernel of the next step
        for a, b in zip(steps, steps[1:]):
            a.parts["after"] += b.begin - a.end
            a.end, a.duration = b.begin, b.begin - a.begin
    shapes = {(len(s.layers), len(s.buckets), tuple(l.nbytes for l in s.layers)) for s in steps}
    if len(shapes) > 1:  # buckets were rebuilt, or the graph changed: keep the steps like the last
        like = (len(steps[-1].layers), len(steps[-1].buckets), tuple(l.nbytes for l in steps[-1].layers))
        steps = [s for s in steps if (len(s.layers), len(s.buckets), tuple(l.nbytes for l in s.layers)) == like]
    return steps


def transfers(all_steps, bases):
    """Median duration of each bucket's transfer, without waiting for the last rank to come."""
    ranks, out, waits = len(all_steps), [], []
    for b in range(len(all_steps[0][0].buckets)):
        took, wait = [], []
        for k in range(len(all_steps[0])):
            starts = [bases[r] + all_steps[r][k].begin + all_steps[r][k].buckets[b].start for r in range(ranks)]
            ends = [bases[r] + all_steps[r][k].begin + all_steps[r][k].buckets[b].end for r in range(ranks)]
            took.append(statistics.mean(max(0, e - max(starts)) for e in ends))
            wait.append(max(starts) - min(starts))
        out.append(median(took))
        waits.append(median(wait))
    return out, waits


def fit(sizes, times):
    """Least squares of t = a + b x."""
    mx, mt = statistics.mean(sizes), statistics.mean(times)
    var = sum((x - mx) ** 2 for x in sizes)
    b = sum((x - mx) * (t - mt) for x, t in zip(sizes, times)) / var if var else 0
    return mt - b * mx, b


def plan(steps):
    """What one rank does in a step, from one step or as medians of several.

    The sum of medians of layers is less than the median of the sum where noise comes in bursts, so
    the layers are scaled to the median of the whole pass.
    """
    last = steps[-1]
    take = lambda f: median([f(s) for s in steps])
    same = [s for s in steps if len(s.sequence) == len(last.sequence)]
    took = [median([s.sequence[k][1] for s in same]) for k in range(len(last.sequence))]
    scale = take(lambda s: s.parts["backward"]) / sum(took)
    return {
        "begin": 0.0,
        "head": take(lambda s: s.parts["before forward"] + s.parts["DDP before forward"]),
        "forward": take(lambda s: s.parts["forward"]),
        "backward": [t * scale for t in took],
        "position": last.position,
        "unpack": [take(lambda s: s.buckets[b].unpack) for b in range(len(last.buckets))],
        "tail": take(lambda s: s.parts["between"] + s.parts["optimizer"] + s.parts["after"]),
    }


def replay(plans, durations, streams=1):
    """Step time of each rank: layers, buckets on `streams` communication streams, copies back.

    A transfer starts when every rank has launched it and a stream is free.
    """
    ready, done = [], []
    for p in plans:
        t, at = p["begin"] + p["head"] + p["forward"], []
        for d in p["backward"]:
            t += d
            at.append(t)
        ready.append([at[k] for k in p["position"]])
        done.append(t)
    free, ends = [0.0] * streams, []
    for b, d in enumerate(durations):
        s = min(range(streams), key=lambda i: free[i])
        free[s] = max(max(r[b] for r in ready), free[s]) + d
        ends.append(free[s])
    out = []
    for p, t in zip(plans, done):
        for end, unpack in zip(ends, p["unpack"]):  # wait for a bucket, copy it back, the next
            t = max(t, end) + unpack
        out.append(t + p["tail"] - p["begin"])
    return out


def replay_each(all_steps, bases, streams=1):
    """Every step replayed from its own numbers: what the model's structure gets wrong, without noise."""
    errors = []
    for k in range(len(all_steps[0])):
        now = [steps[k] for steps in all_steps]
        first = min(b + s.begin for b, s in zip(bases, now))
        plans = [plan([s]) for s in now]
        for p, s, base in zip(plans, now, bases):
            p["begin"] = float(base + s.begin - first)
        took, _ = transfers([[s] for s in now], bases)
        for r, t in enumerate(replay(plans, took, streams)):
            errors.append((t / now[r].duration - 1, r, k))
    return errors


# --- report ----------------------------------------------------------------------------------------


def main():
    files = [a for a in sys.argv[1:] if not a.startswith("--")]
    streams = int(sys.argv[sys.argv.index("--streams") + 1]) if "--streams" in sys.argv else 1
    if "--streams" in sys.argv:
        files = [f for f in files if f != str(streams)]
    traces = [Trace(f) for f in files]
    ms = lambda ns: f"{ns / 1e6:9.3f}"
    all_steps = [steps_of(t) for t in traces]
    for t, steps in zip(traces, all_steps) if "--json" not in sys.argv else ():
        last = steps[-1]
        print(f"\nrank {t.rank} of {t.ranks}, {t.backend}, {'GPU' if t.gpu else 'CPU'}, {len(steps)} steps "
              f"{[round(s.duration / 1e6, 1) for s in steps]} ms, median {median([s.duration for s in steps]) / 1e6:.1f}, "
              f"mean {statistics.mean(s.duration for s in steps) / 1e6:.1f}")
        for part in last.parts:
            print(f"  {part:22}{ms(statistics.mean(s.parts[part] for s in steps))} ms mean "
                  f"{ms(median([s.parts[part] for s in steps]))} median")
        print(f"  of backward, packing and hooks {ms(median([s.pack for s in steps]))} (host time)")
        print(f"  {len(last.layers)} layers, {sum(l.params for l in last.layers)} parameter tensors, "
              f"{sum(l.nbytes for l in last.layers)} bytes of gradients, {len(last.sequence)} backward functions")
        if "--layers" in sys.argv:
            for i, l in enumerate(last.layers):
                r = [s.layers[i].ready for s in steps if s.layers[i].ready is not None]
                print(f"  {i:4} {l.name:48} fwd {ms(median([s.layers[i].forward for s in steps]))} "
                      f"bwd {ms(median([s.layers[i].backward for s in steps]))} {l.nbytes:10} bytes "
                      f"{'ready ' + ms(median(r)) if r else ''}")
        for b in range(len(last.buckets)):
            g = lambda f: ms(median([f(s.buckets[b]) for s in steps]))
            k = last.buckets[b]
            launch = g(lambda x: x.launch) if k.launch is not None else "        -"
            print(f"  bucket {b}: {k.nbytes:9} bytes, {k.params:3} tensors{'' if k.exact else ' (sizes differ)'}, launch {launch} "
                  f"start {g(lambda x: x.start)} end {g(lambda x: x.end)} took {g(lambda x: x.end - x.start)} unpack {g(lambda x: x.unpack)}")
    if "--json" in sys.argv:  # whole nanoseconds, to compare another reader with
        print(json.dumps([[{
            "step": s.name, "duration": s.duration, "parts": s.parts,
            "layers": [{"name": l.name, "forward": l.forward, "backward": l.backward, "params": l.params,
                        "bytes": l.nbytes, "ready": l.ready} for l in s.layers],
            "buckets": [b._asdict() for b in s.buckets],
        } for s in steps] for steps in all_steps]))
        return
    if not all_steps[0][0].buckets:
        print("no all-reduces")
        return
    n = min(map(len, all_steps))
    all_steps = [s[-n:] for s in all_steps]
    took, waits = transfers(all_steps, [t.base_ns for t in traces])
    sizes = [b.nbytes for b in all_steps[0][-1].buckets]
    print("\ntransfers without waiting for the other rank:", [round(t / 1e6, 2) for t in took], "ms; ranks apart:",
          [round(w / 1e6, 2) for w in waits], "ms")
    if len(set(sizes)) > 1:
        a, b = fit(sizes, took)
        r = traces[0].ranks
        print(f"fit t = {a / 1e3:.1f} us + bytes / {1 / b if b else float('inf'):.3f} GB/s; as a ring of {r}: "
              f"alpha {a / (2 * (r - 1)) / 1e3:.1f} us, beta {b * r / (2 * (r - 1)):.4f} ns a byte")
    plans = [plan(steps) for steps in all_steps]
    options = [("measured transfers", took)]
    if len(set(sizes)) > 1:
        options.append(("fitted transfers", [a + b * x for x in sizes]))
    for title, d in options:
        for t, steps, p in zip(traces, all_steps, replay(plans, d, streams)):
            m = median([s.duration for s in steps])
            print(f"replay with {title}, {streams} stream: rank {t.rank} {p / 1e6:.3f} ms, measured median {m / 1e6:.3f}, "
                  f"error {100 * (p / m - 1):+.1f} %; mean {statistics.mean(s.duration for s in steps) / 1e6:.3f}")
    each = replay_each(all_steps, [t.base_ns for t in traces], streams)
    print("each step replayed from its own numbers, error in %:",
          [[round(100 * e, 2) for e, r, _ in each if r == i] for i in range(len(traces))])


if __name__ == "__main__":
    main()
