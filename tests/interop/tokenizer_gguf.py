#!/usr/bin/env python3
"""Makes tokenizer.json of the byte-level BPE vocabularies in GGUF files, for tokenizer_ids.py: real vocabularies of
published models lie in llama.cpp's sources (models/ggml-vocab-*.gguf; its Python package's source archive has them).

usage: tokenizer_gguf.py DIR FILE.gguf...     (Python with `gguf` and `tokenizers`)
"""
import os
import sys

from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

import tokenizer_corpus as corpus

CUTS = {"gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False), "llama-bpe": corpus.split(corpus.LLAMA3),
        "qwen2": corpus.split(corpus.LLAMA3.replace("{1,3}", ""))}
NORMAL, CONTROL = 1, 3


def main():
    for path in sys.argv[2:]:
        name = os.path.basename(path).removeprefix("ggml-vocab-").removesuffix(".gguf")
        field = GGUFReader(path).fields
        value = {k.removeprefix("tokenizer.ggml."): f.contents() for k, f in field.items() if k.startswith("tokenizer.ggml.")}
        if value["model"] != "gpt2" or value.get("pre") not in CUTS:
            print(f"{name}: left out ({value['model']}, {value.get('pre')})")
            continue
        tokens, types = value["tokens"], value["token_type"]
        tok = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in value["merges"]],
                                   ignore_merges=value["pre"] == "llama-bpe"))
        tok.pre_tokenizer = CUTS[value["pre"]]
        tok.decoder = decoders.ByteLevel()
        for t, kind in zip(tokens, types):
            if kind != NORMAL:
                tok.add_special_tokens([t]) if kind == CONTROL else tok.add_tokens([AddedToken(t, normalized=False)])
        corpus.save(tok, sys.argv[1], name)
        print(f"{name}: {tok.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
