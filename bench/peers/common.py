"""What the peer scripts share: arguments, batches, the timing loop, the line of JSON they print."""
import argparse
import json
import os
import resource
import sys
import time

BOOT = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def since_start():
    """Seconds since this process was started (by the kernel's clock, so imports are counted)."""
    with open("/proc/self/stat") as f:
        ticks = int(f.read().rsplit(")", 1)[1].split()[19])
    return time.time() - BOOT - ticks / os.sysconf("SC_CLK_TCK")


def peak_rss():
    """Peak resident memory of this process in bytes."""
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def parser(doc):
    p = argparse.ArgumentParser(description=doc)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--dtype", default="bf16", choices=["bf16", "bf16-master", "f32"],
                   help="bf16: autocast; bf16-master: a bf16 model with f32 master weights")
    p.add_argument("--warmup", type=int, default=3)
    p.add_argument("--steps", type=int, default=10, help="timed steps")
    p.add_argument("--compile", action="store_true", help="torch.compile")
    p.add_argument("--pad-to", type=int, default=1, help="lengths are rounded up to a multiple")
    p.add_argument("--seed", type=int, default=1)
    return p


def time_steps(args, step):
    """Runs step(i) -> (loss, real tokens). Returns the fields of the result that all scripts have."""
    out = {"ready_seconds": since_start()}
    seconds, tokens, losses = [], [], []
    for i in range(args.warmup + args.steps):
        begin = time.perf_counter()
        loss, n = step(i)
        losses.append(float(loss))
        if i == 0:
            out["first_step_seconds"] = since_start()
        if i >= args.warmup:
            seconds.append(time.perf_counter() - begin)
            tokens.append(n)
    order = sorted(seconds)
    # Steps of equal work: their median. Batches of mixed length differ: all tokens in all the time.
    equal = min(tokens) == max(tokens)
    median = order[len(order) // 2]
    out.update(
        median_seconds=median, seconds=[round(s, 5) for s in seconds],
        tokens=sum(tokens),
        tokens_per_second=tokens[0] / median if equal else sum(tokens) / sum(seconds),
        first_loss=losses[0], last_loss=losses[-1], peak_rss_bytes=peak_rss())
    return out


def lengths(spec):
    """Lengths of the documents: a file with one per line."""
    with open(spec) as f:
        return [int(line) for line in f if line.strip()]


def grouped(lens, mega):
    """Runs of `mega` documents (50 batches) sorted by length, as Hugging Face's group_by_length
    does; every other run upwards, so that no batch has the shortest of one and the longest of the
    next."""
    return [x for i in range(0, len(lens), mega)
            for x in sorted(lens[i:i + mega], reverse=i // mega % 2 == 0)]


def batches_by_length(lens, budget, mode):
    """Batches of documents (lists of lengths) of about `budget` real tokens each.

    pad: in the order given. group: see grouped()."""
    if mode == "group":
        lens = grouped(lens, int(50 * budget / (sum(lens) / len(lens))))
    out, batch = [], []
    for n in lens:
        if batch and sum(batch) + n > budget:
            out.append(batch)
            batch = []
        batch.append(n)
    # The last, incomplete batch is left out: the optimizer's cost is for a full one.
    return spread(out)


def spread(batches):
    """Another order of the same batches, so that any stretch of them has short and long ones."""
    n = len(batches)
    stride = next(s for s in range(max(1, int(n * 0.618)), n + 2) if gcd(s, n) == 1)
    return [batches[i * stride % n] for i in range(n)]


def gcd(a, b):
    while b:
        a, b = b, a % b
    return a


def emit(result):
    result["environment"] = {
        k: os.environ[k] for k in sorted(os.environ)
        if k.startswith(("OMP_", "GOMP_", "KMP_", "MKL_", "ONEDNN_", "DNNL_", "ATEN_", "GLIBC_",
                         "MALLOC_", "LD_PRELOAD", "THP_", "OPENBLAS_", "TORCHINDUCTOR_"))}
    json.dump(result, sys.stdout)
    print()
