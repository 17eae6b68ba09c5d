#!/usr/bin/env python3
"""Makes a corpus of mixed text and tokenizer.json files of the common families.

usage: tokenizer_corpus.py DIR        (Python with `tokenizers`; for sentencepiece's table also `sentencepiece`)
DIR gets corpus.txt (one document a line, UTF-8) and one folder for each family. The corpus is made of what
this machine has: /usr/share (documentation, translations, source), ../shared/data, and of generated lines
(every script's letters, emoji, white space, ill-formed bytes replaced as errors="replace" does).
"""
import glob
import gzip
import os
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
RANGES = [(0x21, 0x7e), (0xa0, 0x24f), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x52f), (0x531, 0x58a), (0x591, 0x5f4),
          (0x600, 0x6ff), (0x900, 0x97f), (0x980, 0x9fb), (0xa01, 0xa74), (0xb82, 0xbfa), (0xc00, 0xc6f), (0xe01, 0xe5b),
          (0xe81, 0xedf), (0xf00, 0xfbc), (0x1000, 0x109f), (0x10a0, 0x10ff), (0x1100, 0x11ff), (0x1200, 0x135a),
          (0x13a0, 0x13f5), (0x1780, 0x17dd), (0x1e00, 0x1fff), (0x2000, 0x206f), (0x2070, 0x20bf), (0x2100, 0x218b),
          (0x2190, 0x23ff), (0x2460, 0x24ff), (0x2500, 0x27bf), (0x3000, 0x30ff), (0x3130, 0x318e), (0x3200, 0x33ff),
          (0x4e00, 0x9fa5), (0xac00, 0xd7a3), (0xf900, 0xfad9), (0xfb00, 0xfb4f), (0xfe20, 0xfe6b), (0xff01, 0xffee),
          (0x1d400, 0x1d7ff), (0x1f100, 0x1f1ff), (0x1f300, 0x1f9ff), (0x20000, 0x20100), (0x10300, 0x1031f)]
CONTROL = "\t\r\x00\x01\x0b\x7f\x85\u00ad\u200b\u200c\u200d\u200e\u2028\u2029\ufeff\ufffd\u3000\u00a0\u180e\u2581 "


def generated(rng, n):
    """Lines that mix scripts, marks, emoji sequences, spaces, code and bytes that are no UTF-8."""
    lines = []
    for _ in range(n):
        parts = []
        for _ in range(rng.randint(1, 12)):
            kind = rng.randrange(9)
            lo, hi = rng.choice(RANGES)
            if kind < 4:
                parts.append("".join(chr(rng.randint(lo, hi)) for _ in range(rng.randint(1, 9))))
            elif kind == 4:
                parts.append("e\u0301 A\u030a \u0130stanbul na\u00efve \u1e69 s\u0323\u0307 \ufb01n".split(" ")[rng.randrange(7)])
            elif kind == 5:
                parts.append(rng.choice(["\U0001F468\u200d\U0001F469\u200d\U0001F467", "\U0001F44D\U0001F3FD", "\U0001F1E9\U0001F1EA",
                                         "\u2764\ufe0f", "1\ufe0f\u20e3", "\U0001F3F4\U000E0067\U000E0062\U000E007F"]))
            elif kind == 6:
                parts.append("".join(rng.choice(CONTROL) for _ in range(rng.randint(1, 5))))
            elif kind == 7:
                parts.append(bytes(rng.randrange(256) for _ in range(rng.randint(1, 8))).decode("utf-8", "replace"))
            else:
                parts.append(rng.choice(["don't WE'LL I'M it's 'S", "x += 0x1F;  // 12345678", "<s> </s> <unk>", "[CLS]a[SEP]", "$3.50",
                                         "<|endoftext|>", "<|begin_of_text|>", "<extra_id_0>", "a_b__c", "http://x.y/z?q=1&r=%20", "   ", "..."]))
        lines.append(rng.choice(["", " "]).join(parts))
    return lines


def files():
    pats = ["/usr/share/doc/*/*", "/usr/share/common-licenses/*", "/usr/share/perl/5*/*.pl", "/usr/share/perl/5*/**/*.pm",
            "/usr/lib/python3*/*.py", "/usr/lib/python3*/test/*.py", "/usr/include/*.h", "/usr/share/i18n/locales/*",
            "/usr/share/locale/*/LC_MESSAGES/*.mo", "/usr/share/zoneinfo/*.tab", "/usr/share/vim/**/*.txt", "/usr/share/info/*",
            "/usr/share/man/*/man1/*.gz", "/usr/share/iso-codes/**/*.json"]
    for p in pats:
        yield from sorted(glob.glob(p, recursive=True))


def read(path):
    try:
        data = open(path, "rb").read(1 << 17)
        return gzip.decompress(open(path, "rb").read()) if path.endswith(".gz") else data
    except (OSError, EOFError):
        return b""


def make_corpus(path, size=12 << 20):
    rng = random.Random(7)
    docs = generated(rng, 20000)
    total = sum(len(d.encode()) for d in docs)
    shared = os.environ.get("TILTH_DATA", "/work/shared/data")
    sources = [f for f in files() if os.path.isfile(f)]
    rng.shuffle(sources)
    extra = sorted(glob.glob(shared + "/**/*.txt", recursive=True))[:20]
    for f in extra + sources:
        if total > size:
            break
        text = read(f).replace(b"\0", b"\n").decode("utf-8", "replace")
        for block in text.split("\n\n"):
            if block.strip():
                docs.append(block)
                total += len(block.encode())
    rng.shuffle(docs)
    with open(path, "w", encoding="utf-8", newline="") as f:
        # One document a record; records end with 0x1E, which no document has.
        for d in docs:
            f.write(d.replace("\x1e", " ") + "\x1e")
    print(f"{path}: {len(docs)} documents, {os.path.getsize(path)} bytes")
    return docs


def save(tok, out, name):
    os.makedirs(f"{out}/{name}", exist_ok=True)
    tok.save(f"{out}/{name}/tokenizer.json")


def byte_bpe(docs, out, name, pre, normalizer, specials, vocab, **model):
    tok = Tokenizer(models.BPE(**model))
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(docs, trainers.BpeTrainer(vocab_size=vocab, special_tokens=specials, show_progress=False,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    if specials and len(specials) > 1:
        tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
            single=f"{specials[0]} $A", pair=f"{specials[0]} $A {specials[0]} $B:1", special_tokens=[(specials[0], 0)])])
    save(tok, out, name)


def split(regex, **kw):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated", **kw),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def wordpiece(docs, out, name, lower):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    tok.train_from_iterator(docs, trainers.WordPieceTrainer(vocab_size=12000, show_progress=False,
                                                            special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    tok.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    save(tok, out, name)


def charsmap():
    """SentencePiece's nmt_nfkc table, out of a model trained on a few words."""
    import base64
    import io
    import sentencepiece as spm
    from sentencepiece import sentencepiece_model_pb2 as pb
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(["soil and seed", "the harvest"] * 50), model_writer=model,
                                   vocab_size=16, normalization_rule_name="nmt_nfkc", minloglevel=2)
    proto = pb.ModelProto()
    proto.ParseFromString(model.getvalue())
    return proto.normalizer_spec.precompiled_charsmap, base64


def some_of(docs):
    """Documents of few distinct characters: a unigram vocabulary holds all that it is trained on. No NUL."""
    docs = [d.replace("\0", " ") for d in docs]
    return [d for d in docs[::3] if d.isascii()] + [d for d in docs if not d.isascii() and max(map(ord, d)) < 0x500]


def unigram(docs, out, name, norm, pre, size=12000):
    tok = Tokenizer(models.Unigram())
    tok.normalizer = norm
    tok.pre_tokenizer = pre
    tok.decoder = decoders.Metaspace()
    extra = [f"<extra_id_{i}>" for i in range(10)]
    tok.train_from_iterator(some_of(docs), trainers.UnigramTrainer(vocab_size=size, unk_token="<unk>", show_progress=False,
                                                               special_tokens=["<pad>", "</s>", "<unk>"] + extra))
    tok.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    tok.add_tokens([AddedToken("harvest_moon", single_word=True), AddedToken("FARM", lstrip=True, rstrip=True, normalized=False)])
    save(tok, out, name)


def mixed(docs, out, name, **kw):
    """A chain that nobody uses, of steps that the others lack: the beginning of a text is told from its other pieces."""
    unigram(docs, out, name, normalizers.Sequence([normalizers.Nmt(), normalizers.NFKD(), normalizers.StripAccents(),
                                                   normalizers.Replace(Regex(r" {2,}"), " "), normalizers.Strip()]),
            pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True),
                                     pre_tokenizers.Punctuation("merged_with_previous"),
                                     pre_tokenizers.Metaspace(prepend_scheme="first")]), **kw)


def char_bpe(docs, out, name, **model):
    """Llama-2: BPE on characters, spaces as U+2581, bytes for what is unknown."""
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True, **model))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tok.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    tok.train_from_iterator([d.replace("\0", " ") for d in docs[::8]], trainers.BpeTrainer(
        vocab_size=8000, show_progress=False, limit_alphabet=300,
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]))
    # The byte tokens are the model's, not found in text.
    import json
    j = json.loads(tok.to_str())
    j["added_tokens"] = j["added_tokens"][:3]
    j["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    j["pre_tokenizer"] = None
    os.makedirs(f"{out}/{name}", exist_ok=True)
    json.dump(j, open(f"{out}/{name}/tokenizer.json", "w"), ensure_ascii=False)


def clip_like(docs, out, name):
    """CLIP: BPE with an end of word, a regular expression that PCRE2 runs, NFC and lower case."""
    tok = Tokenizer(models.BPE(unk_token="<|unk|>", end_of_word_suffix="</w>"))
    tok.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tok.pre_tokenizer = pre_tokenizers.Split(Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True)
    tok.decoder = decoders.BPEDecoder("</w>")
    tok.train_from_iterator([d.replace("\0", " ") for d in docs[::8]], trainers.BpeTrainer(vocab_size=8000, special_tokens=["<|unk|>"], end_of_word_suffix="</w>",
                                                          limit_alphabet=600, show_progress=False))
    save(tok, out, name)


def make_tokenizers(docs, out):
    some = docs[::3]
    byte_bpe(some, out, "gpt2", pre_tokenizers.ByteLevel(add_prefix_space=False), None, ["<|endoftext|>"], 16000)
    byte_bpe(some, out, "roberta", pre_tokenizers.ByteLevel(add_prefix_space=True), None, ["<s>", "</s>"], 8000)
    byte_bpe(some, out, "llama3", split(LLAMA3), None, ["<|begin_of_text|>", "<|end_of_text|>"], 16000, ignore_merges=True)
    byte_bpe(some, out, "qwen2", split(LLAMA3.replace("{1,3}", "")), normalizers.NFC(), ["<|endoftext|>"], 8000)
    byte_bpe(some, out, "gpt4o", split(O200K), None, ["<|endoftext|>"], 8000)
    wordpiece(some, out, "bert-uncased", True)
    wordpiece(some, out, "bert-cased", False)
    char_bpe(docs, out, "llama2")
    clip_like(docs, out, "clip")
    try:
        table, _ = charsmap()
        norm = normalizers.Precompiled(table)
    except ImportError:
        print("no sentencepiece: t5 with NFKC in place of its table")
        norm = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    unigram(docs, out, "t5", norm, pre_tokenizers.Metaspace())
    unigram(docs, out, "t5-old", norm, pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]))
    mixed(docs, out, "mixed")


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    make_tokenizers(make_corpus(f"{out}/corpus.txt"), out)


if __name__ == "__main__":
    main()
