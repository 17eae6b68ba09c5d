"""The scores that Tilth reports against sacrebleu's and seqeval's, on what its own models say.

A model's predictions are changed here and there and taken for the truth, so that every score lies between 0 and 1."""
import glob
import json
import random

from common import check, finish, near, path, text_lines, tilth

try:
    import sacrebleu
    import seqeval.metrics as seqeval
except ImportError as e:
    print(f"skipped: {e}")
    raise SystemExit(77)

rng = random.Random(5)
KINDS = ["person", "place", "creative-work"]


def lines_to(name, lines):
    with open(path(name), "w", encoding="utf-8") as f:
        f.write("".join(x + "\n" for x in lines))
    return path(name)


def sentences(n):
    """Words with tags: names of three kinds, some side by side, some of several words."""
    out = []
    for line in text_lines(n):
        tags, kind = [], None
        for _ in line.split():
            draw = rng.random()
            if draw < 0.25:
                kind = rng.choice(KINDS)
                tags.append("B-" + kind)
            elif draw < 0.5 and kind:
                tags.append("I-" + kind)
            else:
                kind = None
                tags.append("O")
        out.append((line.split(), tags))
    return out


def conll(name, data):
    return lines_to(name, [line for words, tags in data for line in [f"{w}\t{t}" for w, t in zip(words, tags)] + [""]])


def model(name, *args):
    tilth("finetune", f"run.name={name}", f"run.dir={path('runs')}", "train.batch=4", *args)
    return glob.glob(path("runs", name + "-*", "model"))[0]


def entities():
    data = sentences(60)
    tilth("train", "run.name=body", f"run.dir={path('runs')}", f"data.text={lines_to('body.txt', text_lines())}",
          "data.tokenizer=bytes", "data.unit=line", "data.val_fraction=0.2", "model.type=bert", "model.dim=32", "model.layers=1",
          "model.heads=2", "objective.type=masked", "train.seq_len=96", "train.steps=2", "train.batch=4")
    body = glob.glob(path("runs", "body-*", "model"))[0]
    tagger = model("tags", "--from", body, "--task", "tokens", "--data", conll("train.conll", data), "train.steps=3",
                   "optim.lr=1e-3", "task.max_len=96")
    lines = tilth("predict", tagger, "--data", path("train.conll"), "--json").splitlines()
    have = [json.loads(x)["tags"] for x in lines[:len(data)]]
    # What this model says is no sensible sequence, which is what a score must bear; half of it is its own truth.
    for i, tags in enumerate(have):
        if i % 2:
            data[i] = (data[i][0], [t if rng.random() < 0.8 else "O" for t in tags])
    file = conll("test.conll", data)
    scores = json.loads(tilth("predict", tagger, "--data", file, "--json").splitlines()[-1])
    truth = [tags for _, tags in data]
    value = {k: v["value"] for k, v in scores["scores"].items()}
    near([value["entity_precision"], value["entity_recall"], value["entity_f1"]],
         [f(truth, have) for f in (seqeval.precision_score, seqeval.recall_score, seqeval.f1_score)],
         f"seqeval's precision, recall and F1 {value['entity_f1']:.4f}", 1e-8)
    check(0.02 < value["entity_f1"] < 0.98, "the entities' F1 is neither 0 nor 1")
    want = seqeval.classification_report(truth, have, output_dict=True)
    for row in scores["details"]["labels"]:
        w = want[row["label"]]
        near([row["precision"], row["recall"], row["f1"], row["actual"]],
             [w["precision"], w["recall"], w["f1-score"], w["support"]], f"seqeval's scores of {row['label']}", 1e-8)


def translations():
    source = lines_to("a.en", text_lines(12))
    translator = model("words", "-p", "translate-small", "--data", f"{source},{lines_to('a.de', text_lines(24)[12:])}",
                       "task.tokenizer=bytes", "train.steps=150", "optim.lr=3e-3", "model.dim=64", "model.layers=1",
                       "model.heads=2", "task.max_len=128", "task.eval_beam=1", "run.eval_every=150")
    said = ["translate", translator, "--data", source, "--beam", "1", "--max-len", "128"]
    hyp = tilth(*said).splitlines()
    # Characters that the tokenization treats in ways of their own, and words that the model did not say.
    refs = [" ".join(w for w in (h + " It's 3.5%, “so” — e.g. naïve!").split() if rng.random() < 0.8) for h in hyp]
    have = json.loads(tilth(*said, "--json", "--reference", lines_to("ref.de", refs)).splitlines()[-1])["scores"]
    for name, metric in [("bleu", sacrebleu.BLEU()), ("chrf", sacrebleu.CHRF())]:
        score = metric.corpus_score(hyp, [refs]).score
        near(have[name]["value"], score, f"sacrebleu's {name} {score:.2f}", 1e-6)
        check(5 < score < 95, f"{name} lies between")
        want = str(metric.get_signature()).rsplit("|", 1)[0]
        check(have[name]["signature"].startswith(want + "|version:tilth-"), f"sacrebleu's signature {want}")


entities()
translations()
finish()
