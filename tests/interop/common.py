"""What the checks against other libraries share. Run by `make check-interop`."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TQDM_DISABLE", "1")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("BUILD", os.path.join(ROOT, "build")))
TILTH = os.path.join(BUILD, "tilth")
TOLERANCE = 1e-4  # of logits and embeddings in f32

failures = []
work = tempfile.mkdtemp(prefix="tilth-interop-")


def run(*args, fails=False):
    """Runs a program; returns its standard output."""
    r = subprocess.run([str(a) for a in args], capture_output=True, text=True)
    if (r.returncode != 0) != fails:
        raise SystemExit(f"{' '.join(map(str, args))}: exit code {r.returncode}\n{r.stderr[-2000:]}")
    return r.stderr if fails else r.stdout


def tilth(*args, **kw):
    return run(TILTH, *args, **kw)


def path(*names):
    return os.path.join(work, *names)


def check(ok, what):
    print(("ok      " if ok else "FAILED  ") + what)
    if not ok:
        failures.append(what)


def near(a, b, what, tolerance=TOLERANCE):
    d = float(np.abs(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)).max())
    check(d <= tolerance, f"{what}: differs by {d:.2g} at most")


def logits(model, inputs):
    """Tilth's logits, one array per sequence of ids, pair of (source, decoder's) ids, or picture [c, s, s]."""
    if isinstance(inputs[0], np.ndarray):
        np.stack(inputs).astype(np.float32).tofile(path("input"))
        rows = [1] * len(inputs)
    else:
        pairs = isinstance(inputs[0], tuple)
        with open(path("input"), "w") as f:
            for s in inputs:
                f.write(" | ".join(" ".join(map(str, x)) for x in (s if pairs else [s])) + "\n")
        rows = [len(s[1] if pairs else s) for s in inputs]
    run(os.path.join(BUILD, "interop_logits"), model, path("input"), path("logits.npy"))
    return np.split(np.load(path("logits.npy")), np.cumsum(rows)[:-1])


def text_lines(n=400):
    """A little text of several scripts, for tokenizers and training."""
    words = ("the river ran past an old mill while small birds sang about rain, iron and bread; "
             "naïve façade Straße привет мир 東京 の 天気 🙂 x = f(a[3]) 1234 don't we'll").split()
    return [" ".join(words[(i * 7 + j * (1 + i % 5)) % len(words)] for j in range(12)) for i in range(n)]


def read_json(name):
    with open(name) as f:
        return json.load(f)


def write_json(name, o):
    with open(name, "w") as f:
        json.dump(o, f, indent=1)


def finish():
    shutil.rmtree(work, ignore_errors=True)
    print(f"{len(failures)} failed" if failures else "all passed")
    sys.exit(1 if failures else 0)
