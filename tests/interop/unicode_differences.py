#!/usr/bin/env python3
"""Code points that the `tokenizers` library classes otherwise than utf8proc, for src/text/tok_unicode_diff.inc.

usage: unicode_differences.py > src/text/tok_unicode_diff.inc     (Python with `tokenizers`; libutf8proc)
The library's parts follow several older versions of Unicode; what they do is found by asking them.
"""
import ctypes
import ctypes.util
import unicodedata

from tokenizers import normalizers, pre_tokenizers

utf8proc = ctypes.CDLL(ctypes.util.find_library("utf8proc"))
utf8proc.utf8proc_category_string.restype = ctypes.c_char_p
COMPAT, DECOMPOSE = 1 << 2, 1 << 4
cat = [utf8proc.utf8proc_category_string(c).decode() for c in range(0x110000)]
points = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000 and cat[c] != "Co"]


def decomposes(c):
    """Has utf8proc a compatible decomposition of it?"""
    out, last = (ctypes.c_int32 * 32)(), ctypes.c_int(0)
    n = utf8proc.utf8proc_decompose_char(c, out, 32, COMPAT | DECOMPOSE, ctypes.byref(last))
    return out[:n] != [c]


def ranges(name, says, cps):
    runs = []
    for c in sorted(cps):
        if runs and runs[-1][1] == c - 1:
            runs[-1][1] = c
        else:
            runs.append([c, c])
    print(f"/* {says} */\nstatic const tok_range {name}[] = {{")
    line = "   "
    for a, b in runs:
        item = f" {{0x{a:X}, 0x{b:X}}},"
        if len(line + item) > 96:
            print(line)
            line = "   "
        line += item
    print(line + "\n};")


def main():
    bert = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    strip = normalizers.BertNormalizer(**{**bert, "strip_accents": True})
    clean = normalizers.BertNormalizer(**{**bert, "clean_text": True})
    marks, pre = normalizers.StripAccents(), pre_tokenizers.BertPreTokenizer()
    mn = {c for c in points if strip.normalize_str(chr(c)) == ""}
    ours_mn = {c for c in points if cat[c] == "Mn"}
    m = {c for c in points if marks.normalize_str(chr(c)) == ""}
    ours_m = {c for c in points if cat[c][0] == "M"}
    control = {c for c in points if c >= 0x80 and c != 0xFFFD and clean.normalize_str(chr(c)) == ""}
    ours_control = {c for c in points if c >= 0x80 and cat[c] in ("Cc", "Cf", "Cs")}
    spaces = {0x85}
    punct = {c for c in points if c >= 0x80 and len(pre.pre_tokenize_str(f"a{chr(c)}b")) == 3}
    ours_punct = {c for c in points if c >= 0x80 and cat[c][0] == "P"}
    nfd, low, high = normalizers.NFD(), "\u0334", "\u0345"
    nfkd = normalizers.NFKD()
    whole = {c for c in points if decomposes(c) and nfkd.normalize_str(chr(c)) == chr(c)}
    order = {c for c in points if unicodedata.combining(chr(c)) and len(unicodedata.normalize("NFD", chr(c))) == 1 and
             nfd.normalize_str("a" + chr(c) + low) == "a" + chr(c) + low and
             nfd.normalize_str("a" + high + chr(c)) == "a" + high + chr(c) and unicodedata.combining(chr(c)) != 240}
    print("/* Made by tests/interop/unicode_differences.py. */\n")
    ranges("diff_mn", "Nonspacing mark here or there, not in both.", mn ^ ours_mn)
    ranges("diff_mark", "Mark.", m ^ ours_m)
    ranges("diff_control", "Control.", (control ^ ours_control) - spaces)
    ranges("diff_order", "Marks with a combining class that the library's normal forms do not know.", order)
    ranges("diff_whole", "Characters with a decomposition that they do not know.", whole)
    ranges("diff_punct", "Punctuation.", punct ^ ours_punct)


main()
