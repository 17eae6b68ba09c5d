"""Adapters both ways against Hugging Face's peft.

there: tiny random models of each family with a random LoRA, rank-stabilized LoRA or DoRA adapter that peft saved; what
Tilth computes of base + adapter, of the adapter's folder alone and of the merged model is what peft computes.
back: adapters that `tilth finetune` saved, opened by peft, give the same probabilities.
"""
import glob
import json
import os
import shutil

import numpy as np
import tokenizers
import torch
import transformers as tr

from common import check, finish, near, path, tilth

try:
    from peft import LoraConfig, PeftModel, get_peft_model
except ImportError:
    print("skipped: the package peft is not there")
    raise SystemExit(77)

TEXTS = ["the sun is here", "a moon", "numbers 1 2 3 and more of them"]
FAMILIES = {
    "gpt2": (tr.GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=2, n_positions=64),
             ["c_attn", "c_fc"], ["c_attn", "c_proj"]),
    "llama": (tr.LlamaConfig(vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64),
              ["q_proj", "v_proj"], ["o_proj", "down_proj", "gate_proj"]),
    "bert": (tr.BertConfig(vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                           num_attention_heads=2, max_position_embeddings=64),
             ["query", "value"], ["key", "output.dense"]),
    "modernbert": (tr.ModernBertConfig(vocab_size=320, hidden_size=32, intermediate_size=48,
                                       num_hidden_layers=2, num_attention_heads=2,
                                       max_position_embeddings=64, pad_token_id=0, bos_token_id=1,
                                       eos_token_id=2, cls_token_id=1, sep_token_id=2),
                   ["Wqkv"], ["Wo", "Wi"]),
}


def randomize(model, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for n, p in model.named_parameters():
            if "lora_" in n:
                p.add_(torch.randn(p.shape, generator=g) * 0.1)


def ids_of(folder, text):
    return tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json")).encode(text).ids


def hidden_mean(model, ids):
    with torch.no_grad():
        h = model(torch.tensor([ids]), output_hidden_states=True)
        h = h.last_hidden_state if hasattr(h, "last_hidden_state") else h.hidden_states[-1]
    return h[0].mean(0).numpy()


def embed(name, *more):
    tilth("embed", name, *more, "--data", path("texts.txt"), "--out", path("x.npy"), "--raw", "--dtype", "f32")
    return np.load(path("x.npy"))


def there(family, base, plain, wide):
    ids = [ids_of(base, t) for t in TEXTS]
    for kind in ["lora", "rslora", "dora"]:
        c = LoraConfig(r=4, lora_alpha=12, target_modules=wide if kind == "dora" else plain,
                       use_rslora=kind == "rslora", use_dora=kind == "dora", fan_in_fan_out=family == "gpt2")
        p = get_peft_model(tr.AutoModel.from_pretrained(base), c).eval()
        randomize(p, 7)
        adapter = path(f"{family}-{kind}")
        p.save_pretrained(adapter)
        want = np.stack([hidden_mean(p, i) for i in ids])
        near(embed(base, "--adapter", adapter), want, f"{family} {kind}: there, --adapter")
        near(embed(adapter), want, f"{family} {kind}: there, the adapter's folder")
        tilth("merge", base, adapter, "--out", adapter + "-merged")
        near(embed(adapter + "-merged"), want, f"{family} {kind}: there, merged")
        again = tr.AutoModel.from_pretrained(adapter + "-merged").eval()
        near([hidden_mean(again, i) for i in ids], want, f"{family} {kind}: merged, in transformers")


def back(family, base):
    rows = [("day", "the sun"), ("night", "the moon"), ("day", "a sun here"), ("night", "moon now")] * 4
    with open(path("c.tsv"), "w") as f:
        f.write("label\ttext\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    for kind in ["lora", "dora"]:
        name = f"{family}-{kind}"
        tilth("finetune", "--from", base, "--data", path("c.tsv"), "--adapt", kind, "train.steps=6", "optim.lr=3e-2",
              "adapt.rank=4", f"run.dir={path('runs')}", f"run.name={name}", "task.max_len=48", "run.dtype=f32")
        adapter = glob.glob(path("runs", name + "-*", "model"))[0]
        lines = tilth("predict", adapter, "--data", path("c.tsv"), "--json", "--dtype", "f32").splitlines()
        have = [[json.loads(x)["probabilities"][k] for k in ("day", "night")] for x in lines[:4]]
        b = tr.AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
        b.config.pad_token_id = 0
        p = PeftModel.from_pretrained(b, adapter).eval()
        with torch.no_grad():
            want = [torch.softmax(p(torch.tensor([ids_of(base, text)])).logits[0], -1).tolist() for _, text in rows[:4]]
        near(have, want, f"{family} {kind}: back, probabilities in peft")
        check(np.abs(np.array(have)[:, 0] - 0.5).max() > 0.01, f"{family} {kind}: it learnt something to compare")


tilth("tokenizer", "train", "--type", "wordpiece", "--vocab-size", "250", "--out", path("tok"), os.path.abspath(__file__))
with open(path("texts.txt"), "w") as f:
    f.write("\n".join(TEXTS) + "\n")
for name, (config, plain, wide) in FAMILIES.items():
    torch.manual_seed(1)
    folder = path(name)
    tr.AutoModel.from_config(config).save_pretrained(folder)
    for file in glob.glob(path("tok", "tokenizer*")):
        shutil.copy(file, folder)
    there(name, folder, plain, wide)
    back(name, folder)
finish()
