#!/usr/bin/env python3
"""Pictures with names from Debian's packages: the emoji of Noto's colour font and what CLDR calls them.

    apt-get download fonts-noto-color-emoji unicode-cldr-core && for f in *.deb; do dpkg-deb -x $f .; done
    experiments/emoji.py usr OUT        # OUT/list.csv (path, caption) and the PNG files beside it

Needs python3-fonttools. docs/results.md says what is trained on them.
"""
import csv
import pathlib
import sys
import xml.etree.ElementTree as ET

from fontTools.ttLib import TTFont


def names_of(cldr):
    """Characters, without variation selectors, to their English short names."""
    names = {}
    for folder in ("annotations", "annotationsDerived"):
        for a in ET.parse(cldr / folder / "en.xml").getroot().iter("annotation"):
            if a.get("type") == "tts":
                names[a.get("cp").replace("\ufe0f", "")] = a.text
    return names


def ligatures_of(font):
    """Sequences of glyphs to the glyph that stands for them."""
    found = {}
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for table in lookup.SubTable:
            table = getattr(table, "ExtSubTable", table)
            for first, group in getattr(table, "ligatures", {}).items():
                for one in group:
                    found[(first, *one.Component)] = one.LigGlyph
    return found


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    usr, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    font = TTFont(usr / "share/fonts/truetype/noto/NotoColorEmoji.ttf")
    glyphs, ligatures, pictures = font.getBestCmap(), ligatures_of(font), font["CBDT"].strikeData[0]
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for text, name in sorted(names_of(usr / "share/unicode/cldr/common").items()):
        sequence = tuple(glyphs.get(ord(c)) for c in text)
        glyph = sequence[0] if len(sequence) == 1 else ligatures.get(sequence)
        if glyph not in pictures:
            continue
        rows.append((f"{len(rows):05d}.png", name))
        (out / rows[-1][0]).write_bytes(pictures[glyph].imageData)
    with open(out / "list.csv", "w", newline="") as f:
        csv.writer(f).writerows([("path", "caption"), *rows])
    print(f"{len(rows)} pictures in {out}")


if __name__ == "__main__":
    main()
