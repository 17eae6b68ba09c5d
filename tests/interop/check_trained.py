"""Models that Tilth pretrains from nothing open in transformers, with the same logits; classifiers
too. Event files are shown by TensorBoard, .npz by NumPy, token files hold what was prepared."""
import glob
import json

import numpy as np
import torch
import transformers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common import check, finish, logits, near, path, run, text_lines, tilth

with open(path("text.txt"), "w") as f:
    f.write("\n".join(text_lines()) + "\n")
with open(path("labels.tsv"), "w") as f:
    for i, line in enumerate(text_lines(80)):
        f.write(f"{'odd' if i % 2 else 'even'}\t{line}\n")

TYPES = {"gpt2": "AutoModelForCausalLM", "llama": "AutoModelForCausalLM",
         "bert": "AutoModelForMaskedLM", "roberta": "AutoModelForMaskedLM",
         "encoder": "AutoModelForMaskedLM"}


def train(kind):
    objective = "next_token" if kind in ("gpt2", "llama") else "masked"
    tilth("train", f"run.name={kind}", f"run.dir={path('runs')}", f"data.text={path('text.txt')}",
          "data.tokenizer=bytes", "data.unit=line", "data.val_fraction=0.2", f"model.type={kind}",
          "model.dim=64", "model.layers=2", "model.heads=4", f"objective.type={objective}",
          "train.seq_len=48", "train.steps=4", "train.batch=4")
    return glob.glob(path("runs", f"{kind}-*"))[0]


for kind, auto in TYPES.items():
    folder = train(kind)
    model, info = getattr(transformers, auto).from_pretrained(folder + "/model", output_loading_info=True)
    bad = {k: v for k, v in info.items() if v}
    check(not bad, f"{kind}: transformers finds nothing missing or unexpected {bad or ''}")
    ids = [list(range(10, 40)), [7, 8]]
    with torch.no_grad():
        want = np.concatenate([model(input_ids=torch.tensor([s])).logits[0].numpy() for s in ids])
    near(np.concatenate(logits(folder + "/model", ids)), want, f"{kind}: pretrained here, logits")

    tilth("finetune", "--from", folder + "/model", "--task", "classify", "--data", path("labels.tsv"),
          f"run.name=ft-{kind}", f"run.dir={path('runs')}", "train.steps=3", "train.batch=4", "task.max_len=40",
          "run.dtype=f32")
    tuned = glob.glob(path("runs", f"ft-{kind}-*"))[0] + "/model"
    model, info = transformers.AutoModelForSequenceClassification.from_pretrained(tuned, output_loading_info=True)
    check(not info["missing_keys"], f"{kind}: a classifier opens in transformers {info['missing_keys'] or ''}")
    check(model.config.id2label == {0: "even", 1: "odd"}, f"{kind}: labels {model.config.id2label}")
    with open(path("one.tsv"), "w") as f:
        f.write("even\tthe old mill\n")
    have = json.loads(tilth("predict", tuned, "--data", path("one.tsv"), "--json", "--dtype", "f32").splitlines()[0])
    tok = transformers.AutoTokenizer.from_pretrained(tuned)
    with torch.no_grad():
        p = model(**{k: v for k, v in tok("the old mill", return_tensors="pt").items()
                     if k in ("input_ids", "attention_mask")}).logits.softmax(-1)[0]
    scores = have.get("probabilities", have)
    near([scores["even"], scores["odd"]], p.numpy(), f"{kind}: a classifier's probabilities", 1e-3)

run_folder = glob.glob(path("runs", "gpt2-*"))[0]
events = EventAccumulator(run_folder + "/tb")
events.Reload()
tags = events.Tags()["scalars"]
check("loss" in tags, f"TensorBoard shows {len(tags)} scalars")
logged = [json.loads(x) for x in open(run_folder + "/metrics.jsonl")]
want = [x["loss"] for x in logged if "loss" in x]
near([e.value for e in events.Scalars("loss")], want, "TensorBoard's losses", 1e-5)

tilth("export", run_folder + "/model", "--to", "npz", "--out", path("m.npz"))
arrays = np.load(path("m.npz"))
from safetensors.numpy import load_file
weights = load_file(run_folder + "/model/model.safetensors")
check(set(arrays.files) == set(weights) and all(np.array_equal(arrays[k], weights[k]) for k in weights),
      f"NumPy reads {len(weights)} arrays of the .npz, bit for bit")

tilth("export", run_folder + "/data", "--to", "nanogpt", "--out", path("bin"))
tilth("export", run_folder + "/data", "--to", "llmc", "--out", path("llmc"))
tokens = np.fromfile(path("bin", "train.bin"), dtype=np.uint16)
head = np.fromfile(path("llmc", "train_000000.bin"), dtype=np.int32, count=256)
rest = np.fromfile(path("llmc", "train_000000.bin"), dtype=np.uint16, offset=1024)
check(head[0] == 20240520 and head[1] == 1 and head[2] == len(rest), "llm.c's header")
check(np.array_equal(tokens, rest) and len(tokens) > 1000, f"{len(tokens)} tokens in both forms")
finish()
