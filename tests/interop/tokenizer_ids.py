#!/usr/bin/env python3
"""Compares ids with the `tokenizers` library on a corpus, and the speed of one thread (in CPU time, which other
programs on the machine take no part of).

usage: tokenizer_ids.py CORPUS_DIR [FAMILY...]     (after tokenizer_corpus.py CORPUS_DIR)
       tokenizer_ids.py --speed CORPUS_DIR [FAMILY...]
BUILD names the folder with interop_tokenizer (build). Exits 1 if any id differs.
"""
import os
import subprocess
import sys
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import numpy as np
from tokenizers import Tokenizer

BUILD = os.environ.get("BUILD", "build")


def families(root, names):
    return names or sorted(d for d in os.listdir(root) if os.path.exists(f"{root}/{d}/tokenizer.json"))


def load(path):
    t = Tokenizer.from_file(path)
    t.no_truncation()
    t.no_padding()
    return t


def ours(tok, corpus, *options):
    """Ids of all documents: a count and the ids of each, uint32."""
    with tempfile.NamedTemporaryFile() as f:
        out = subprocess.run([f"{BUILD}/interop_tokenizer", *options, tok, corpus, f.name], stdout=subprocess.PIPE, text=True)
        if out.returncode:
            sys.exit(f"{tok}: {out.stdout}")
        a = np.fromfile(f.name, dtype=np.uint32)
    docs, i = [], 0
    while i < len(a):
        n = int(a[i])
        docs.append(a[i + 1:i + 1 + n])
        i += 1 + n
    return docs, float(out.stdout.split()[-1])


def compare(root, names):
    """Yields, for each family: its name, the number of documents, and how many of them have other ids."""
    corpus = f"{root}/corpus.txt"
    docs = open(corpus, encoding="utf-8", newline="").read().split("\x1e")[:-1]
    for name in families(root, names):
        tok = load(f"{root}/{name}/tokenizer.json")
        have, _ = ours(f"{root}/{name}", corpus, "--parse", "--wrap")
        wrong = total = 0
        for d, h in zip(docs, have):
            want = tok.encode(d).ids
            total += len(want)
            if len(want) != len(h) or not np.array_equal(np.asarray(want, np.uint32), h):
                wrong += 1
                if wrong <= 3:
                    k = next((i for i, (x, y) in enumerate(zip(want, h)) if x != y), min(len(want), len(h)))
                    print(f"  {name}: {d[:80]!r}: at {k}: {[tok.id_to_token(i) for i in want[k:k + 5]]} "
                          f"ours {[tok.id_to_token(int(i)) for i in h[k:k + 5]]}")
        wrong += abs(len(have) - len(docs))
        print(f"{name:14} {len(docs)} documents, {total} ids, {wrong} documents differ", flush=True)
        yield name, len(docs), wrong


def speed(root, names):
    corpus = f"{root}/corpus.txt"
    docs = open(corpus, encoding="utf-8", newline="").read().split("\x1e")[:-1]
    size = os.path.getsize(corpus)
    cut, n = 0, 0
    while n < len(docs) and cut < size // 10:
        cut += len(docs[n].encode())
        n += 1
    docs = docs[:n]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="") as f:
        f.write("".join(d + "\x1e" for d in docs))
        f.flush()
        for name in families(root, names):
            tok = load(f"{root}/{name}/tokenizer.json")
            best = 1e9
            for call in (lambda: [tok.encode(d) for d in docs], lambda: tok.encode_batch(docs),
                         lambda: tok.encode_batch_fast(docs)):
                t0 = time.process_time()
                call()
                best = min(best, time.process_time() - t0)
            mine = min(ours(f"{root}/{name}", f.name, "--parse", "--wrap")[1] for _ in range(3))
            print(f"{name:14} tilth {cut / mine / 1e6:7.1f} MB/s   tokenizers {cut / best / 1e6:6.2f} MB/s   {best / mine:6.1f}x", flush=True)
    return 0


def main():
    args = sys.argv[1:]
    if args[0] == "--speed":
        sys.exit(speed(args[1], args[2:]))
    sys.exit(1 if sum(wrong for _, _, wrong in compare(args[0], args[1:])) else 0)


if __name__ == "__main__":
    main()
