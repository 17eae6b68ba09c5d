"""Search by meaning: each line of the standard input is answered with the nearest lines of a file.

    echo "a man plays a flute" | python3 embed.py MODEL sentences.txt """

import sys

import tilth

model, file = sys.argv[1:]
with open(file, encoding="utf-8") as f:
    lines = [line.strip() for line in f if line.strip()]
embedder = tilth.Embedder(model)
vectors = embedder.embed(lines)
for question in sys.stdin:
    cosine = vectors @ embedder.embed([question.strip()])[0]
    for i in (-cosine).argsort(kind="stable")[:3]:
        print(f"{cosine[i]:.3f} {lines[i]}")
