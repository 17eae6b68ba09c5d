#!/usr/bin/env python3
"""Tilth beside its peers: runs the workloads of workloads.py on each side in turn, in fresh
processes, and writes medians, ratios and spread to docs/performance.md.

Peers are found through the environment or in the folder that setup-peers.sh makes
(TILTH_PEERS, by default ~/.cache/tilth-peers):
  TILTH_PEER_PYTHON       Python with a current PyTorch and transformers
  TILTH_PEER_PYTHON113    Python with PyTorch 1.13
  TILTH_PEER_LLAMA        Python with llama-cpp-python
  LLMC                    llm.c's train_gpt2, as its Makefile builds it, beside its files; it runs
                          in its own folder with its own batch (4 x 64) and is stopped early
A peer that is absent is named; one that fails is reported with its messages."""
import argparse
import json
import os
import platform
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import report
import workloads

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PEERS = os.environ.get("TILTH_PEERS", os.path.expanduser("~/.cache/tilth-peers"))
# Variables of the caller that would slow a peer down or change what is measured.
CLEARED = ("OPENBLAS_", "OMP_", "GOMP_", "KMP_", "MKL_", "ONEDNN_", "DNNL_", "ATEN_", "TILTH_CPU")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--tilth", default=os.environ.get("TILTH", os.path.join(ROOT, "build/tilth")))
    p.add_argument("--only", action="append", metavar="NAME", help="this workload (repeatable)")
    p.add_argument("--peer", action="append", metavar="NAME", help="this peer (repeatable)")
    p.add_argument("--repeat", type=int, default=3, help="runs of each side (default 3)")
    p.add_argument("--steps", type=int, help="timed steps of a run (default: by workload)")
    p.add_argument("--peer-python", default=os.environ.get(
        "TILTH_PEER_PYTHON", os.path.join(PEERS, "torch/bin/python")))
    p.add_argument("--out", default=os.path.join(HERE, "results.json"),
                   help="results; finished workloads in it are not run again")
    p.add_argument("--fresh", action="store_true", help="run all again")
    p.add_argument("--page", default=os.path.join(ROOT, "docs/performance.md"),
                   help="page whose marked block is written ('' for none)")
    p.add_argument("--wrap", default="", help="command in front of every run (numactl ...)")
    p.add_argument("--list", action="store_true", help="list the workloads and stop")
    return p.parse_args()


class Side:
    """One program: how it is started, or why it cannot be."""

    def __init__(self, start=None, env=None, missing=None):
        self.start, self.env, self.missing = start, env or {}, missing


def python_side(python, env, how):
    if not os.path.exists(python):
        return Side(missing=f"{python} not found; {how}")
    return Side(lambda args: [python, os.path.join(HERE, "peers", args[0]), *args[1:]], env)


GLIBC = {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=17179869184:"
                           "glibc.malloc.mmap_threshold=17179869184:glibc.malloc.top_pad=536870912"}


def allocator(kind):
    """PyTorch's allocations go back to the kernel at every step unless the allocator keeps them."""
    for lib in (os.path.join(PEERS, "lib/libjemalloc.so.2"),
                "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"):
        if kind == "jemalloc" and os.path.exists(lib):
            return {"LD_PRELOAD": lib,
                    "MALLOC_CONF": "oversize_threshold:0,metadata_thp:auto,dirty_decay_ms:-1,"
                                   "muzzy_decay_ms:-1,thp:always"}
    return GLIBC


def sides(args):
    setup = "bench/setup-peers.sh installs it"
    tuned = {"TORCHINDUCTOR_CACHE_DIR": os.path.join(PEERS, "inductor")}
    torch = python_side(args.peer_python, tuned, setup)
    old = python_side(os.environ.get("TILTH_PEER_PYTHON113", os.path.join(PEERS, "torch113-python")),
                      tuned, setup)
    llama = python_side(os.environ.get("TILTH_PEER_LLAMA",
                                       os.path.join(PEERS, "llama/bin/python")), {}, setup)
    llmc = os.environ.get("LLMC", "")
    return {
        "torch": torch, "torch-compile": torch, "torch-bf16": torch, "torch-bf16-compile": torch,
        "torch-1.13": old,
        "transformers": torch, "llama.cpp": llama,
        "llm.c": Side(lambda a: [llmc, *a]) if llmc else Side(missing="LLMC is not set")}


def write_inputs(folder):
    """Files of document lengths that both sides read."""
    paths = {"peers": PEERS}
    for kind in ("mixed", "sentences"):
        paths[kind] = os.path.join(folder, f"lengths-{kind}.txt")
        with open(paths[kind], "w") as f:
            f.writelines(f"{n}\n" for n in workloads.documents(kind))
    return paths


def contents(file):
    """All of a file that a child is writing: its place in the file is not touched."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


def tree_peak(pid):
    """Largest peak resident memory in bytes of a process and its children."""
    with open(f"/proc/{pid}/status") as f:
        peak = int(re.search(r"VmHWM:\s*(\d+)", f.read()).group(1)) * 1024
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return max([peak, *(tree_peak(int(c)) for c in f.read().split())])


def wait(child, out, stop):
    """Waits for the process; stop: (pattern, count), to end it after so many matches in its output.
    Returns (exit status, or 0 if ended by us; peak resident bytes)."""
    ended = 0
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG if stop and not ended else 0)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return (0, ended) if ended else (child.returncode, usage.ru_maxrss * 1024)
        if len(re.findall(stop[0], contents(out))) >= stop[1]:
            ended = tree_peak(child.pid)
            os.killpg(child.pid, signal.SIGTERM)
        time.sleep(0.1)


def run(command, env, wrap, stop=None):
    """One process. Returns (output, peak resident bytes, None) or (None, 0, what went wrong)."""
    full = {k: v for k, v in os.environ.items() if not k.startswith(CLEARED)}
    prefix = shlex.split(wrap) + ["env", *(f"{k}={v}" for k, v in env.items())]
    folder = os.path.dirname(command[0]) if stop else None
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            child = subprocess.Popen(prefix + command, stdout=out, stderr=err, env=full, cwd=folder,
                                     start_new_session=bool(stop))
        except OSError as e:
            return None, 0, str(e)
        status, peak = wait(child, out, stop)
        if status:
            return None, 0, f"exit {status}: {contents(err)[-1500:].strip()}"
        return contents(out), peak, None


LLMC_STEP = r"step \d+: train loss ([\d.]+) \(took ([\d.]+) ms"
LLMC_TOKENS = 4 * 64


def parse_llmc(text):
    steps = [(float(x), float(ms) / 1000) for x, ms in re.findall(LLMC_STEP, text)]
    median = statistics.median(t for _, t in steps[1:])
    return {"tokens_per_second": LLMC_TOKENS / median, "median_seconds": median,
            "first_loss": steps[0][0], "last_loss": steps[-1][0],
            "versions": {"llm.c": "train_gpt2.c, f32"}}


def parse_tilth(text, unit):
    """The fields of `tilth bench ... --json` under the peers' names. With a profile, the rate is
    that of the optimizer's part alone."""
    d = json.loads(text)
    rate = d["pieces_per_s" if unit == "images" else "tokens_per_s"]
    out = {"tokens_per_second": rate, "median_seconds": d.get("median"),
           "first_loss": d.get("loss"), "parameters": d.get("parameters"),
           "first_step_seconds": d.get("to_first_step_end"),
           "ready_seconds": d.get("to_first_step")}
    if d.get("profile"):
        part = sum(r["seconds"] for r in d["profile"]["rows"]
                   if r["name"] in ("optimizer", "gradient norm"))
        out.update(tokens_per_second=1 / part, median_seconds=part, first_loss=None)
    return out


def parse(name, text, unit):
    if name == "tilth":
        return parse_tilth(text, unit)
    if name == "llm.c":
        return parse_llmc(text)
    return json.loads(text.strip().splitlines()[-1])


KEPT = ("median_seconds", "first_loss", "last_loss", "first_step_seconds", "ready_seconds",
        "padding", "parameters", "versions", "environment")


def measure(name, command, env, wrap, unit):
    stop = (LLMC_STEP, 4) if name == "llm.c" else None
    text, rss, wrong = run(command, env, wrap, stop)
    if wrong:
        return {"error": wrong, "command": " ".join(command)}
    try:
        fields = parse(name, text, unit)
        result = {k: fields.get(k) for k in KEPT}
        result["rate"] = float(fields["tokens_per_second"])
    except (ValueError, KeyError, IndexError, TypeError, statistics.StatisticsError) as e:
        return {"error": f"output not understood ({e!r}): {text[-500:]}",
                "command": " ".join(command)}
    result.update(peak_rss_bytes=rss, command=" ".join(command))
    return result


def compiled(command, env):
    """Fills the compiler's cache by a short run; returns its seconds to the end of the first step."""
    text, _, wrong = run(command + ["--warmup", "0", "--steps", "1"], env, "")
    return None if wrong else parse("torch", text, None)["first_step_seconds"]


def length_of_run(name, w, args):
    if name == "llm.c":
        return []
    warmup, steps = w.steps
    return ["--warmup", str(warmup), "--steps", str(args.steps or steps)] + \
        (["--json"] if name == "tilth" else [])


def run_workload(w, args, paths, programs):
    """All sides in turn, `repeat` times over. Returns name -> list of results."""
    fill = lambda items: [x.format(**paths) for x in items]
    results = {}
    peers = [p for p in w.peers if not args.peer or p in args.peer]
    for i in range(args.repeat):
        for name in ["tilth", *peers]:
            if i and name not in ("tilth", *w.main) or "error" in results.get(name, [{}])[-1]:
                continue
            items = fill(w.tilth if name == "tilth" else w.peers[name])
            side = Side(lambda a: [args.tilth, *a]) if name == "tilth" else programs[name]
            if side.missing:
                results[name] = [{"error": side.missing, "absent": True}]
            else:
                env = {**side.env, **w.restrict["tilth" if name == "tilth" else "peer"]}
                if name.startswith("torch"):
                    env.update(allocator(w.allocator))
                cold = compiled(side.start(items), env) if "--compile" in items else None
                command = side.start(items + length_of_run(name, w, args))
                result = measure(name, command, env, args.wrap, w.unit)
                results.setdefault(name, []).append({**result, "compile_seconds": cold})
            last = results[name][-1]
            said = (f"{last['rate']:.1f} {w.unit}/s, loss {last['first_loss']}"
                    if "rate" in last else last["error"].strip().splitlines()[-1])
            print(f"{w.name:16s} {name:14s} {said}", file=sys.stderr, flush=True)
    return results


def peak_of(args):
    """The machine's peaks as `tilth bench` measures them, per restriction."""
    peaks = {}
    for level in ("", "avx2"):
        env = {"TILTH_CPU": level} if level else {}
        text, _, wrong = run([args.tilth, "bench", "--json", "--seconds", "0.01", "add"], env,
                             args.wrap)
        if not wrong:
            peaks[level or "full"] = json.loads(text)["peak"]
    return peaks


def machine(args):
    with open("/proc/cpuinfo") as f:
        info = f.read()
    version, _, _ = run([args.tilth, "--version"], {}, "")
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"],
                            capture_output=True, text=True)
    return {"cpu": re.search(r"model name\s*: (.*)", info).group(1), "cores": os.cpu_count(),
            "kernel": platform.release(), "tilth": (version or "").strip(),
            "commit": commit.stdout.strip(), "date": time.strftime("%Y-%m-%d"),
            "peaks": peak_of(args)}


def save(path, doc):
    temporary = path + ".new"
    with open(temporary, "w") as f:
        json.dump(doc, f, indent=1)
    os.replace(temporary, path)


def main():
    args = arguments()
    chosen = workloads.table()
    if args.list:
        for w in chosen:
            print(f"{w.name:16s} {w.title}; peers: {', '.join(w.peers)}")
        return 0
    names = {w.name for w in chosen}
    for name in args.only or []:
        if name not in names:
            sys.exit(f"compare.py: no workload '{name}'; --list shows them")
    if not os.access(args.tilth, os.X_OK):
        sys.exit(f"compare.py: {args.tilth} not found; run `make build`")
    doc = {"workloads": {}}
    if os.path.exists(args.out) and not args.fresh:
        with open(args.out) as f:
            doc = json.load(f)
    doc["machine"] = machine(args)
    programs = sides(args)
    for name, side in programs.items():
        if side.missing:
            print(f"peer {name}: {side.missing}", file=sys.stderr)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        paths = write_inputs(folder)
        for w in chosen:
            if args.only and w.name not in args.only:
                continue
            if w.name in doc["workloads"] and not args.only:
                print(f"{w.name:16s} kept from {args.out}", file=sys.stderr)
                continue
            doc["workloads"][w.name] = run_workload(w, args, paths, programs)
            save(args.out, doc)
            if args.page:
                report.rewrite(args.page, chosen, doc)
            failed |= any("error" in r and not r.get("absent")
                          for rs in doc["workloads"][w.name].values() for r in rs)
    print(report.block(chosen, doc))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
