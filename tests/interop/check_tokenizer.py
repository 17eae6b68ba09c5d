"""Token ids against `tokenizers`: files of the common families, made with that library, and our trained ones, opened
there. INTEROP_MB says how much mixed text is compared (default 2)."""
import os

import tokenizer_corpus
import tokenizer_ids
from common import check, finish, path, tilth

docs = tokenizer_corpus.make_corpus(path("corpus.txt"), int(float(os.environ.get("INTEROP_MB", "2")) * 1e6))
tokenizer_corpus.make_tokenizers(docs, path())
with open(path("lines.txt"), "w", encoding="utf-8", newline="") as f:
    f.write("".join(d.translate(dict.fromkeys(map(ord, "\0\r\n"), " ")) + "\n" for d in docs[::4]))
for kind in ["bpe", "wordpiece", "unigram", "bytes"]:
    size = [] if kind == "bytes" else ["-n", "2000"]
    tilth("tokenizer", "train", "--type", kind, *size, "--unit", "line", "--out", path("ours-" + kind), path("lines.txt"))
for name, n, wrong in tokenizer_ids.compare(path(), []):
    check(wrong == 0, f"{name}: {wrong} of {n} documents differ")
finish()
