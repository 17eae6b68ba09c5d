#!/usr/bin/env python3
"""The cost of scale: training steps over width, depth and length of windows around a base shape.

usage: bench/scale.py [--tilth build/tilth] [--axis width|depth|length]... [--seconds S]

Prints for each axis a Markdown table and two least-squares fits over its points: seconds = a + b FLOPs,
which shows the fixed cost a of a step and the speed 1 / b at which work is done, and seconds = c FLOPs^k,
whose k is 1 when cost is in proportion to work. Points more than 15 % off the first line are named. The
whole takes about two minutes; run it alone on the machine. Uses `tilth bench step` and no other program."""
import argparse
import json
import math
import subprocess
import sys

BASE = {"width": 384, "depth": 6, "length": 256, "tokens": 2048}
AXES = {
    "width": [128, 192, 256, 384, 512, 768, 1024],
    "depth": [2, 4, 6, 8, 12, 16, 24],
    "length": [64, 128, 256, 512, 1024, 2048],
}
OFF = 0.15  # of the fitted time: farther away is named


def measure(tilth, shape, seconds):
    """One shape; steps until about `seconds` are spent, at least 3."""
    keys = [
        f"model.dim={shape['width']}",
        f"model.heads={shape['width'] // 64}",
        f"model.layers={shape['depth']}",
        "model.vocab=8192",
        f"train.seq_len={shape['length']}",
        f"train.batch={max(1, shape['tokens'] // shape['length'])}",
        "model.type=gpt2",
    ]

    def run(steps, warmup):
        command = [tilth, "bench", "step", "--json", "--steps", str(steps), "--warmup", str(warmup), *keys]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    first = run(1, 1)
    return run(max(3, min(50, round(seconds / first["median"]))), 1)


def fit(x, y, weight):
    """Least squares y = a + b x with weights; (a, b)."""
    total = sum(weight)
    mx = sum(w * v for w, v in zip(weight, x)) / total
    my = sum(w * v for w, v in zip(weight, y)) / total
    b = sum(w * (p - mx) * (q - my) for w, p, q in zip(weight, x, y))
    b /= sum(w * (p - mx) ** 2 for w, p in zip(weight, x))
    return my - b * mx, b


def report(axis, values, results):
    print(f"\n### {axis.capitalize()}\n")
    print(f"| {axis} | parameters | GFLOP per step | ms per step | tokens/s | GFLOP/s | % of peak | MiB | off the line |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    work = [r["flops_per_token"] * r["tokens_per_step"] for r in results]
    time = [r["median"] for r in results]
    # Small and large steps count alike: the deviation is relative.
    a, b = fit(work, time, [1 / t**2 for t in time])
    _, k = fit([math.log(w) for w in work], [math.log(t) for t in time], [1] * len(time))
    off = [t / (a + b * w) - 1 for w, t in zip(work, time)]
    for v, r, w, o in zip(values, results, work, off):
        print(
            f"| {v} | {r['parameters'] / 1e6:.1f} M | {w / 1e9:.1f} | {1e3 * r['median']:.1f} "
            f"| {r['tokens_per_s']:.0f} | {r['gflops']:.0f} | {100 * r['mfu']:.0f} "
            f"| {r['peak_rss_bytes'] / 2**20:.0f} | {100 * o:+.0f} % |"
        )
    print(f"\nseconds = {1e3 * a:.1f} ms + FLOPs / {1e-9 / b:.0f} GFLOP/s; log-log exponent {k:.2f}.", end=" ")
    far = [f"{axis} {v} ({100 * o:+.0f} %)" for v, o in zip(values, off) if abs(o) > OFF]
    print("More than 15 % off the line: " + ", ".join(far) + "." if far else "All points lie within 15 % of the line.")
    sys.stdout.flush()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--tilth", default="build/tilth")
    p.add_argument("--axis", action="append", choices=AXES, help="only this one (may be given again)")
    p.add_argument("--seconds", type=float, default=2.0, help="for each point (2)")
    args = p.parse_args()
    base = ", ".join(f"{k} {v}" for k, v in BASE.items() if k != "tokens")
    for n, axis in enumerate(args.axis or AXES):
        results = [measure(args.tilth, {**BASE, axis: v}, args.seconds) for v in AXES[axis]]
        if n == 0:
            r = results[0]
            print(
                f"GPT-2 shape, {base}, vocabulary 8192, {BASE['tokens']} tokens per step, heads of 64; {r['dtype']}, "
                f"{r['threads']} threads, kernels {r['kernels']}, measured peak {r['peak_gflops']:.0f} GFLOP/s."
            )
        report(axis, AXES[axis], results)


if __name__ == "__main__":
    main()
