#!/usr/bin/env python3
"""Makes tests/golden/tokenizer/chain-*.json and chains.json: small tokenizers of the common families, trained on the
text of cases.json, and the ids that the `tokenizers` library gives its strings and some harder ones.

usage: tokenizer_goldens.py     (in the repository, Python with `tokenizers`)
"""
import json
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tokenizer_corpus as c
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../golden/tokenizer/")
HARD = ["e\u0301\u0323 \u212b \ufb01n \u0130 \u01c5", "\u0e81\u0eba\u0eb9 \uac00\u11a8", "WE'LL'S 'Re \u2019s 12345 \t\n \n x\r\n\r\n  y",
        "<s>a</s> <|begin_of_text|> harvest_moon harvest_moons a FARM b", "\U0001F468\u200d\U0001F469 \U0001F1E9\U0001F1EA 1\ufe0f\u20e3",
        "  two  spaces ", "\u3000\u00a0\u2028x\ufeff\u200b", "", " ", "\u2581a\u2581\u2581b", "a.b!c?? d-e_f", "\ufffd\ufffd x", "\u2480 a", "\u2480", " \u2474x", "\u00b4a", "x\u32ff\u3300",
        "\u4e2dA \u4e2dABc \u00c0B'S HELLO'll \u0301ABC x\u0301'd \u02b0A ABC\u02b0D camelCaseXMLParser", "a/\r\n/b ://\n//\n \u0ecex"]


def main():
    cases = json.load(open(OUT + "cases.json"))
    text, strings = cases["text"] * 3, cases["strings"] + HARD
    with tempfile.TemporaryDirectory() as d:
        c.byte_bpe(text, d, "llama3", c.split(c.LLAMA3), None, ["<|begin_of_text|>", "<|end_of_text|>"], 330, ignore_merges=True)
        c.byte_bpe(text, d, "gpt4o", c.split(c.O200K), normalizers.NFC(), ["<|endoftext|>"], 330)
        c.byte_bpe(text, d, "roberta", pre_tokenizers.ByteLevel(add_prefix_space=True), None, ["<s>", "</s>"], 330)
        c.char_bpe(text * 8, d, "llama2")
        c.clip_like(text * 8, d, "clip")
        c.unigram(text * 8, d, "t5", normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]),
                  pre_tokenizers.Metaspace(), size=260)
        c.mixed(text * 8, d, "mixed", size=260)
        ids, back = {}, {}
        for name in sorted(os.listdir(d)):
            shutil.copy(f"{d}/{name}/tokenizer.json", f"{OUT}chain-{name}.json")
            j = json.load(open(f"{OUT}chain-{name}.json"))
            json.dump(j, open(f"{OUT}chain-{name}.json", "w"), ensure_ascii=True, separators=(",", ":"))
            tok = Tokenizer.from_file(f"{OUT}chain-{name}.json")
            ids["chain-" + name] = [tok.encode(s).ids for s in strings]
            back["chain-" + name] = [tok.decode(tok.encode(s).ids) for s in strings]
    json.dump({"strings": strings, "ids": ids, "back": back}, open(OUT + "chains.json", "w"), ensure_ascii=True, separators=(",", ":"))


main()
