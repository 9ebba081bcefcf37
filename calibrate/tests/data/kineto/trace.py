"""Records Kineto traces of data-parallel ResNet-50 training on CPUs (gloo, DDP).

    python trace.py --active 3 --batch 4 --size 128 --out .

One process a rank; writes rank{r}.json and timing{r}.json. Synthetic data, made beforehand.
"""
import argparse, json, os, statistics, time
import torch, torch.distributed as dist, torch.multiprocessing as mp, torch.nn as nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.profiler import ProfilerActivity, profile, schedule


def setup(rank, a):
    """Makes the network of this rank; returns what does one step of training."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(a.port), GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    if a.pin:
        os.sched_setaffinity(0, {rank % os.cpu_count()})
    dist.init_process_group("gloo", rank=rank, world_size=a.ranks)
    torch.manual_seed(1)
    import torchvision
    model = getattr(torchvision.models, a.model)()
    net = DDP(model, bucket_cap_mb=a.bucket_mb) if not a.plain else model
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, foreach=a.foreach)
    loss_of = nn.CrossEntropyLoss()
    torch.manual_seed(10 + rank)
    images = torch.randn(a.batch, 3, a.size, a.size)
    labels = torch.randint(0, 1000, (a.batch,))

    def step():
        optimizer.zero_grad()
        loss = loss_of(net(images), labels)
        loss.backward()
        optimizer.step()

    for _ in range(4):  # DDP rebuilds its buckets after the first
        step()
    dist.barrier()
    return step


def measure(rank, a, step):
    def timed(n):
        took = []
        for _ in range(n):
            begin = time.perf_counter()
            step()
            took.append(1e3 * (time.perf_counter() - begin))
        return took

    before = timed(5)
    dist.barrier()
    profiled, total = [], a.wait + a.warmup + a.active
    with profile(
        activities=[ProfilerActivity.CPU],
        schedule=schedule(wait=a.wait, warmup=a.warmup, active=a.active, repeat=1),
        on_trace_ready=lambda p: p.export_chrome_trace(f"{a.out}/rank{rank}.json"),
        record_shapes=True,
        with_stack=False,
        with_modules=False,
    ) as p:
        for i in range(total):
            begin = time.perf_counter()
            step()
            took = 1e3 * (time.perf_counter() - begin)
            if i >= a.wait + a.warmup:
                profiled.append(took)
            p.step()
    dist.barrier()
    after = timed(5)
    dist.barrier()
    summary = {
        "rank": rank, "unprofiled_before_ms": before, "unprofiled_after_ms": after,
        "profiled_ms": profiled, "unprofiled_mean_ms": statistics.mean(before + after),
        "profiled_mean_ms": statistics.mean(profiled),
    }
    json.dump(summary, open(f"{a.out}/timing{rank}.json", "w"))
    print({k: v for k, v in summary.items() if "mean" in k or k == "profiled_ms"}, flush=True)
    return summary


def run(rank, a):
    measure(rank, a, setup(rank, a))
    dist.destroy_process_group()


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--ranks", type=int, default=2)
    p.add_argument("--model", default="resnet50")
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--size", type=int, default=128)
    p.add_argument("--wait", type=int, default=1)
    p.add_argument("--warmup", type=int, default=2)
    p.add_argument("--active", type=int, default=6)
    p.add_argument("--bucket-mb", type=float, default=None, help="bucket_cap_mb; None: 25, the first 1")
    p.add_argument("--foreach", type=lambda s: s == "true", default=None)
    p.add_argument("--plain", action="store_true", help="without DDP: no communication")
    p.add_argument("--pin", action="store_true")
    p.add_argument("--port", type=int, default=29511)
    p.add_argument("--out", default=".")
    return p.parse_args()


if __name__ == "__main__":
    arguments = arguments()
    mp.spawn(run, args=(arguments,), nprocs=arguments.ranks)
