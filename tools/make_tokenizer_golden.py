#!/usr/bin/env python3
"""Makes tests/golden/tokenizer/: small tokenizers trained by Hugging Face's `tokenizers`, and the
ids that it gives for some strings. tests/golden/test_tokenizer_golden.c compares ours with them.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers
    /tmp/venv/bin/python tools/make_tokenizer_golden.py tests/golden/tokenizer
"""
import json
import os
import sys

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SUBJECTS = ["the soil", "A farmer", "Rain", "the café's owner", "Nobody", "we", "土地", "The plough"]
VERBS = ["waits for", "isn't", "turns", "reads about", "we'll see", "has 1234", "grows with", "loves"]
OBJECTS = ["the seed.", "harvest in 2026!", "naïve questions?", "(dry) leaves,", "Groß und klein",
           "unploughed fields...", "rainfall \"today\"", "seedlings and sowing"]
TEXT = [f"{s} {v} {o}" for s in SUBJECTS for v in VERBS for o in OBJECTS]

STRINGS = [
    "the soil isn't ready", "The  farmer\treads\n\nabout rain ", "   leading", "trailing   ", " ",
    "\n", "a", "'s't're've'm'll'd", "we'LL we'll", "1234567 2026", "café CAFÉ cafe\u0301",
    "naïve Groß İstanbul", "土地と水", "한국어 текст हिन्दी", "😀 👨\u200d👩\u200d👧 seed",
    "non\u00a0breaking\u3000wide\u2028line", "a\u200bb\u00adc\ufeffd", "(dry)...!?--\"x\"", "x" * 120,
    "ab" * 40, "harvest" * 8, "\u2581meta \u2581\u2581 x", "##ing [ MASK ] < s >", "\x01\x7f\x85control",
    "tab\tnew\rline\x0bvt\x0cff", "\ufffd \ue000 \u0378", "e\u0301\u0323 \u1e9e \u01c5 ﬁ ①²½ Ⅷ",
]

ROLES = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
BERT_ROLES = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]


def bpe():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=400, min_frequency=2, special_tokens=ROLES, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def wordpiece(lowercase):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.train_from_iterator(TEXT, trainers.WordPieceTrainer(
        vocab_size=180, min_frequency=2, special_tokens=BERT_ROLES, show_progress=False))
    return t


def unigram(lowercase):
    t = Tokenizer(models.Unigram())
    if lowercase:
        t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    t.train_from_iterator(TEXT, trainers.UnigramTrainer(
        vocab_size=160, special_tokens=ROLES, unk_token="<unk>", show_progress=False))
    return t


def main(out):
    os.makedirs(out, exist_ok=True)
    made = {"bpe": bpe(), "wordpiece-uncased": wordpiece(True), "wordpiece-cased": wordpiece(False),
            "unigram": unigram(False), "unigram-uncased": unigram(True)}
    cases = {}
    for name, t in made.items():
        t.save(os.path.join(out, name + ".json"), pretty=False)
        cases[name] = [t.encode(s, add_special_tokens=False).ids for s in STRINGS]
    with open(os.path.join(out, "cases.json"), "w", encoding="utf8") as f:
        json.dump({"text": TEXT, "strings": STRINGS, "ids": cases}, f, ensure_ascii=True)
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/tokenizer")
