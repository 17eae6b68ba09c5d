#!/usr/bin/env python3
"""Makes tests/golden/metrics/: what scikit-learn, SciPy, seqeval and sacreBLEU say of random
predictions, tags and texts. tests/unit/test_metrics*.c compare ours with them.

    python3 -m venv VENV && VENV/bin/pip install scikit-learn scipy seqeval sacrebleu
    VENV/bin/python tools/make_metric_goldens.py tests/golden/metrics

Other sets for a closer look, which the same tests read instead when TILTH_METRIC_GOLDENS names
their folder:

    VENV/bin/python tools/make_metric_goldens.py DIR --seed 7 --times 20 --lines some/text.en
"""
import argparse
import json
import math
import os
import unicodedata
import warnings

import numpy as np
from scipy import stats
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as entity_prf
from seqeval.metrics.v1 import precision_recall_fscore_support as strict_prf
from seqeval.scheme import IOB1, IOB2, IOBES, Entities
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from sacrebleu.metrics import BLEU, CHRF

warnings.filterwarnings("ignore")
SCHEMES = {"bio": IOB2, "iob1": IOB1, "bioes": IOBES}
AVERAGES = ["micro", "macro", "weighted"]


def plain(x):
    """JSON's own types; NaN becomes null."""
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple, np.ndarray)):
        return [plain(v) for v in x]
    if isinstance(x, np.integer):
        return int(x)
    if isinstance(x, (float, np.floating)):
        return None if math.isnan(x) else float(x)
    return x


# --- Classes ---
def class_case(rng, n, k, skill):
    truth = rng.choice(k, n, p=rng.dirichlet(np.ones(k)))
    pred = np.where(rng.random(n) < skill, truth, rng.integers(0, k, n))
    labels = list(range(k))
    p, r, f, s = sk.precision_recall_fscore_support(truth, pred, labels=labels, zero_division=0)
    want = {"accuracy": sk.accuracy_score(truth, pred), "matthews": sk.matthews_corrcoef(truth, pred),
            "balanced": sk.balanced_accuracy_score(truth, pred), "precision": p, "recall": r, "f1": f,
            "confusion": sk.confusion_matrix(truth, pred, labels=labels).ravel()}
    for a in AVERAGES:
        want[a] = sk.precision_recall_fscore_support(truth, pred, average=a, zero_division=0)[:3]
    return {"k": k, "truth": truth, "pred": pred, "want": want}


def multilabel_case(rng, n, k, skill):
    truth = (rng.random((n, k)) < rng.random(k) * 0.6).astype(int)
    pred = np.where(rng.random((n, k)) < skill, truth, rng.integers(0, 2, (n, k)))
    if k > 2:
        truth[:, 1] = pred[:, 1] = 0
    want = {"subset": sk.accuracy_score(truth, pred)}
    for a in AVERAGES:
        want[a] = sk.precision_recall_fscore_support(truth, pred, average=a, zero_division=0)[:3]
    return {"k": k, "truth": truth.ravel(), "pred": pred.ravel(), "want": want}


# --- Real values, scores, probabilities ---
def real_case(rng, n, ties, scale, shift):
    x = rng.normal(size=n)
    y = 0.6 * x + rng.normal(size=n)
    if ties:
        x, y = np.round(x * 2) / 2, np.round(y * 2) / 2
    x, y = x * scale + shift, y * scale - shift
    return {"x": x, "y": y, "want": {"pearson": stats.pearsonr(x, y)[0],
            "spearman": stats.spearmanr(x, y)[0], "mse": sk.mean_squared_error(x, y)}}


def binary_case(rng, n, ties, skill):
    truth = rng.integers(0, 2, n)
    truth[:2] = [0, 1]
    score = rng.normal(size=n) + skill * truth
    if ties:
        score = np.round(score * 2) / 2
    return {"truth": truth, "score": score, "want": {"auc": sk.roc_auc_score(truth, score),
            "average_precision": sk.average_precision_score(truth, score)}}


def reliability(confidence, correct, n_bins):
    """Bins as scikit-learn's calibration_curve has them, with their sizes."""
    acc, conf = calibration_curve(correct, confidence, n_bins=n_bins)
    edges = np.linspace(0, 1, n_bins + 1)
    ids = np.searchsorted(edges[1:-1], confidence)
    sizes = np.bincount(ids, minlength=n_bins)
    rows, k = [], 0
    for s in sizes:
        rows.append([s, conf[k], acc[k]] if s else [0, 0.0, 0.0])
        k += s > 0
    return rows, sum(s * abs(c - a) for s, c, a in rows) / len(correct)


def probability_case(rng, n, k, grid):
    truth = rng.integers(0, k, n)
    truth[:k] = range(k)
    prob = rng.dirichlet(np.ones(k) * 0.5, n)
    prob[np.arange(n), truth] += 0.5
    if grid:  # values on the edges of bins, and ties
        prob = np.round(prob * 15) + (np.arange(k) == 0)
    prob /= prob.sum(axis=1, keepdims=True)
    confidence, correct = prob.max(axis=1), (prob.argmax(axis=1) == truth).astype(int)
    if grid:
        confidence = np.round(confidence * 15) / 15
    bins, ece = reliability(confidence, correct, 15)
    onehot = (truth[:, None] == np.arange(k)).astype(float)
    want = {"bins": bins, "ece": ece,
            "brier": sk.brier_score_loss(truth, prob[:, 1]) if k == 2 else
            sk.brier_score_loss(truth, prob, labels=list(range(k))),
            "auc_ovr": np.mean([sk.roc_auc_score(onehot[:, c], prob[:, c]) for c in range(k)])}
    if k > 2:
        again = sk.roc_auc_score(truth, prob, multi_class="ovr", labels=list(range(k)))
        assert abs(want["auc_ovr"] - again) < 1e-12
    return {"k": k, "truth": truth, "prob": prob.ravel(), "confidence": confidence,
            "correct": correct, "want": want}


# --- Entities ---
def random_tags(rng, lengths, prefixes, types, p_outside):
    def tag():
        if rng.random() < p_outside:
            return "O"
        prefix = str(rng.choice(prefixes))
        return prefix if prefix == "O" else prefix + str(rng.choice(types))
    return [[tag() for _ in range(n)] for n in lengths]


def disturbed(rng, tags, share, prefixes, types):
    fresh = random_tags(rng, [len(s) for s in tags], prefixes, types, 0.3)
    return [[f if rng.random() < share else t for t, f in zip(s, g)] for s, g in zip(tags, fresh)]


def entity_results(truth, pred, scheme):
    run = entity_prf if scheme == "tolerant" else strict_prf
    extra = {} if scheme == "tolerant" else {"scheme": SCHEMES[scheme]}
    try:
        p, r, f, s = run(truth, pred, average=None, **extra)
        want = {a: run(truth, pred, average=a, **extra)[:3] for a in AVERAGES}
    except (ValueError, KeyError):
        return {"error": True}
    if scheme == "tolerant":
        flat = [t for sentence in truth for t in sentence + ["O"]]
        where = [None if last else i for s in range(len(truth)) for i, last in
                 [(sum(map(len, truth[:s])) + j, j == len(truth[s])) for j in range(len(truth[s]) + 1)]]
        found = [[t, where[b], where[e] + 1] for t, b, e in get_entities(flat)]
        names = sorted({e[0] for e in get_entities(flat)} |
                       {e[0] for e in get_entities([t for q in pred for t in q + ["O"]])})
    else:
        ents = Entities(truth, SCHEMES[scheme])
        starts = np.cumsum([0] + [len(q) for q in truth])
        found = [[e.tag, e.start + starts[e.sent_id], e.end + starts[e.sent_id]]
                 for q in ents.entities for e in q]
        names = sorted(ents.unique_tags | Entities(pred, SCHEMES[scheme]).unique_tags)
    return dict(want, types=names, precision=p, recall=r, f1=f, support=s, entities=found)


def entity_cases(rng, times):
    kinds = [("tolerant", "BIO", ["-A", "-B", "-C"]), ("tolerant", "BIOES", ["-A", "-B"]),
             ("tolerant", "BIOESU.P", ["-A", "-B", "", "-", "-A-B", "--C", "A", "-\u00e9"]),
             ("bio", "BI", ["-A", "-B", "-C"]), ("iob1", "BI", ["-A", "-B"]),
             ("bioes", "BIES", ["-A", "-B"]), ("bioes", "BIES", ["-A", "", "-B-", "--B", "-\u00e9"]),
             ("bio", "BIBIBIBIBIBIBIE", ["-A"]), ("iob1", "BI", ["-A", "-B", "-", ""])]
    cases = [{"scheme": "tolerant", "truth": [q], "pred": ["O B-A I-A O"],
              "want": entity_results([q.split(" ")], [["O", "B-A", "I-A", "O"]], "tolerant")}
             for q in ["O .-A I-A O", "O .-A .-B O", "B-A .-A I-A O", "O B-A E-A E-A", "U U-A I-A .-A"]]
    for _ in range(times):
        for scheme, prefixes, types in kinds:
            lengths = rng.integers(0, 9, rng.integers(1, 4))
            args = (list(prefixes), types)
            truth = random_tags(rng, lengths, *args, rng.choice([0.1, 0.4, 0.9, 1.0]))
            pred = disturbed(rng, truth, rng.choice([0.0, 0.2, 0.6]), *args)
            if sum(lengths) == 0:
                continue
            cases.append({"scheme": scheme, "truth": [" ".join(s) for s in truth],
                          "pred": [" ".join(s) for s in pred],
                          "want": entity_results(truth, pred, scheme)})
    return cases


# --- Texts ---
LINES = [
    "The farmer's seed-drill cost $1,250.50 in 1998, didn't it?", "Rain (at last!) fell on Monday.",
    "She said: \"Sow early, reap late\" -- and left...", "A 3-4 hour walk to the field; nothing grew.",
    "It was 5.5, then .5, then 5. No more,really.", "e-mail me@field.example/soil?x=1&y=2 #harvest",
    "Q&amp;A: is 3 &lt; 4 or 4 &gt; 3? &quot;Both&quot; &amp;lt;", "<skipped>The barn, the shed and the mill.",
    "Grü\u00dfe aus K\u00f6ln: \u201eDer Acker\u201c ist gro\u00df \u2013 sehr gro\u00df!", "Le bl\u00e9 co\u00fbte 3\u00a0\u20ac/kg, n'est-ce pas\u202f?",
    "\u0391\u03a3 \u039f\u0394\u039f\u03a3. \u03a3\u03a0\u039f\u03a1\u039f\u03a3, \u03a3.\u0391\u03a3\u0391 \u03a3\u0391\u03a3'", "\u0130stanbul'da TARIM \u0130\u015e\u0130", "\u571f\u5730\u548c\u6c34\u3002\u6536\u83b7\uff1a2026\u5e74\uff01",
    "\u0425\u043b\u0435\u0431 \u2014 \u0432\u0441\u0435\u043c\u0443 \u0433\u043e\u043b\u043e\u0432\u0430, 10,5 %.", "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902 \u0967\u096d \u0916\u0947\u0924\u0964", "seed \U0001f331 + water \U0001f4a7 = crop \u2460\u00b2\u00bd",
    "the the the the the", "tab\there\u3000wide space ", "word-\nbreak and\nnewline", "'quoted' rock-n-roll (hi) ((x)) a. .b",
    "It ended in 1998. ", "half a word-\n", "a\u0085b\u001cc\u2028d\u00a0e\u1680f\u200ag\u205fh\u200bi\u180ej\u001fk",
    "One two three four five six seven eight nine ten.", "one Two THREE four five six, seven eight nine ten!",
]


def noisy(rng, line, strength):
    words = line.split(" ")
    words = [w for w in words if rng.random() > strength * 0.4]
    if rng.random() < strength and len(words) > 2:
        i = rng.integers(0, len(words) - 1)
        words[i], words[i + 1] = words[i + 1], words[i]
    if rng.random() < strength * 0.5:
        words = words[: len(words) // 2]
    if rng.random() < strength * 0.3:
        words = [w.swapcase() for w in words]
    if rng.random() < 0.3:
        words += ["and", "more."]
    return " ".join(words)


def text_case(rng, lines, n_segments, n_refs, strength):
    base = [lines[i] for i in rng.permutation(len(lines))[:n_segments]]
    hyp = [noisy(rng, b, strength) for b in base]
    refs = [[b if not r else noisy(rng, b, 0.4) for b in base] for r in range(n_refs)]
    want = []
    for tok in ["13a", "intl", "char", "none"]:
        for lc, eff in [(False, False), (True, False), (False, True)]:
            m = BLEU(tokenize=tok, lowercase=lc, effective_order=eff)
            s = m.corpus_score(hyp, refs)
            want.append({"tok": tok, "lc": lc, "eff": eff, "score": s.score, "bp": s.bp,
                         "precisions": s.precisions, "counts": [s.sys_len, s.ref_len] + s.counts + s.totals,
                         "signature": m.get_signature().format().rsplit(":", 1)[0]})
    chrf = []
    for words in [0, 1, 2]:
        for lc in [False, True]:
            m = CHRF(word_order=words, lowercase=lc)
            chrf.append({"words": words, "lc": lc, "score": m.corpus_score(hyp, refs).score,
                         "signature": m.get_signature().format().rsplit(":", 1)[0]})
    return {"hyp": hyp, "refs": [list(r) for r in zip(*refs)], "bleu": want, "chrf": chrf}


def wild_lines(rng, n):
    """Characters of all kinds, half of them ASCII; numbers and punctuation next to each other."""
    wide = [chr(c) for c in range(0x80, 0x1f700) if unicodedata.category(chr(c))[0] in "LMNPSZ"]
    ascii_ = [chr(c) for c in range(1, 128)] + list("0123456789.,-'  ") * 4
    return ["".join(str(rng.choice(ascii_ if rng.random() < 0.6 else wide)) for _ in range(40))
            for _ in range(n)]


def text_cases(rng, lines, times):
    sizes = [(1, 1, 0.3), (1, 1, 0.9), (1, 3, 0.5), (6, 1, 0.0), (8, 1, 0.3), (8, 2, 0.5), (25, 3, 0.2)]
    cases = [text_case(rng, lines, *s) for _ in range(times) for s in sizes]
    cases += [text_case(rng, wild_lines(rng, 8), 8, 2, 0.5) for _ in range(times)]
    cases.append(text_case(rng, ["", ""], 2, 1, 0.0))
    cases.append(text_case(rng, ["a", "b c", "a"], 3, 2, 0.8))
    return cases


def lower_cases():
    """Python's str.lower of every character between letters, where it is not the character."""
    pairs = [[chr(c), chr(c).lower()] for c in range(0x80, 0x1f000)
             if not 0xd800 <= c < 0xe000 and chr(c).lower() != chr(c)]
    joined = "\u03b1\u03a3%s\u03a3 \u03a3%s\u0391 \u0391\u03a3%s\u0391"
    sigma = [[joined % (m, m, m), (joined % (m, m, m)).lower()]
             for m in "'.:\u00b7\u0301\u00ad\u2019^`-_ ,5\u00aa\u2160\u24b6\u0345\u02b0\u0130\u6c34"]
    return [["".join(p[i] for p in pairs) for i in (0, 1)]] + sigma


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("out")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--times", type=int, default=1, help="multiplies the number of cases")
    ap.add_argument("--lines", help="a text whose lines take the place of the built-in ones")
    a = ap.parse_args()
    rng = np.random.default_rng(a.seed)
    t = a.times
    lines = open(a.lines, encoding="utf-8").read().split("\n") if a.lines else LINES
    reals = [(20, 0, 1, 0), (30, 1, 1, 5), (25, 0, 1e-9, 1e-3), (25, 0, 1e150, 0), (2, 0, 1, 0), (40, 1, 3, 100)]
    probs = [(40, 2, 0), (60, 4, 0), (60, 3, 1), (40, 2, 1), (30, 7, 0)]
    files = {
        "classes": [class_case(rng, n, k, s) for _ in range(t) for n, k, s in
                    [(30, 2, .7), (60, 5, .5), (40, 3, 0.), (25, 9, .9), (12, 4, 1.), (5, 30, .2), (1, 2, 0.)]],
        "multilabel": [multilabel_case(rng, n, k, s) for _ in range(t) for n, k, s in
                       [(20, 5, .8), (15, 3, .3), (10, 2, 1.), (40, 6, .6)]],
        "real": [real_case(rng, *r) for _ in range(t) for r in reals],
        "binary": [binary_case(rng, n, q, s) for _ in range(t) for n, q, s in
                   [(20, 0, 1), (30, 1, 1), (40, 1, 0), (2, 0, 3), (50, 0, -1)]],
        "probability": [probability_case(rng, *p) for _ in range(t) for p in probs],
        "entity": entity_cases(rng, 40 * t),
        "text": text_cases(rng, lines, 2 * t),
        "lower": lower_cases(),
    }
    os.makedirs(a.out, exist_ok=True)
    for name, cases in files.items():
        with open(os.path.join(a.out, name + ".json"), "w", encoding="utf-8") as f:
            f.write("[\n" + ",\n".join(json.dumps(plain(c), ensure_ascii=False, separators=(",", ":"))
                                       for c in cases) + "\n]\n")


if __name__ == "__main__":
    main()
