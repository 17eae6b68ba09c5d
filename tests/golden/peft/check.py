"""Adapters both ways against Hugging Face's peft.

usage: python check.py TILTH     (needs torch, transformers, peft)

1. peft -> Tilth: tiny random models of each family with a random LoRA or DoRA adapter that peft saved;
   what Tilth computes of base + adapter, of the adapter's folder alone and of the merged model must equal
   what peft computes, within 1e-4.
2. Tilth -> peft: adapters that `tilth finetune` saved, opened by peft, give the same probabilities.
"""
import json, os, subprocess, sys, tempfile
import numpy as np
import torch
import transformers as tr
from peft import LoraConfig, PeftModel, get_peft_model

tr.logging.set_verbosity_error()
tr.utils.logging.disable_progress_bar()
TILTH = os.path.abspath(sys.argv[1])
TEXTS = ["the sun is here", "a moon", "numbers 1 2 3 and more of them"]
failed = 0


def tilth(*args):
    r = subprocess.run([TILTH, *args], capture_output=True, text=True)
    if r.returncode:
        raise SystemExit(f"tilth {' '.join(args)}: {r.stderr}")
    return r.stdout


def close(name, a, b, tol=1e-4):
    global failed
    d = float(np.abs(np.asarray(a) - np.asarray(b)).max())
    failed += not d <= tol
    print(f"{'ok    ' if d <= tol else 'FAILED'} {name}: {d:.1e}")


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


def byte_ids(tok_dir, text):
    """The ids that Tilth's tokenizer in this folder gives, specials included, as it embeds them."""
    import tokenizers
    t = tokenizers.Tokenizer.from_file(os.path.join(tok_dir, "tokenizer.json"))
    return t.encode(text).ids


def hidden_mean(model, ids):
    with torch.no_grad():
        h = model(torch.tensor([ids]), output_hidden_states=True)
        h = h.last_hidden_state if hasattr(h, "last_hidden_state") else h.hidden_states[-1]
    return h[0].mean(0).numpy()


def embed(name, tmp, *more):
    out = os.path.join(tmp, "x.npy")
    tilth("embed", name, *more, "--data", os.path.join(tmp, "texts.txt"), "--out", out, "--raw",
          "--dtype", "f32")
    return np.load(out)


def incoming(tmp, tok_dir):
    for family, (config, plain, wide) in FAMILIES.items():
        torch.manual_seed(1)
        base = os.path.join(tmp, family)
        model = tr.AutoModel.from_config(config)
        model.save_pretrained(base)
        for f in os.listdir(tok_dir):
            if f.startswith("tokenizer"):
                open(os.path.join(base, f), "wb").write(open(os.path.join(tok_dir, f), "rb").read())
        for kind in ["lora", "rslora", "dora"]:
            c = LoraConfig(r=4, lora_alpha=12, target_modules=plain if kind != "dora" else wide,
                           use_rslora=kind == "rslora", use_dora=kind == "dora",
                           fan_in_fan_out=family == "gpt2")
            p = get_peft_model(tr.AutoModel.from_pretrained(base), c).eval()
            randomize(p, 7)
            d = os.path.join(tmp, f"{family}-{kind}")
            p.save_pretrained(d)
            want = np.stack([hidden_mean(p, i) for i in IDS[0]])
            close(f"{family} {kind}: peft -> tilth, --adapter", embed(base, tmp, "--adapter", d), want)
            close(f"{family} {kind}: the adapter's folder", embed(d, tmp), want)
            merged = d + "-merged"
            tilth("merge", base, d, "--out", merged)
            close(f"{family} {kind}: merged", embed(merged, tmp), want)
            again = tr.AutoModel.from_pretrained(merged).eval()
            close(f"{family} {kind}: merged, in transformers", [hidden_mean(again, i) for i in IDS[0]],
                  want)


IDS = [None]


def outgoing(tmp):
    rows = [("day", "the sun"), ("night", "the moon"), ("day", "a sun here"), ("night", "moon now")] * 4
    data = os.path.join(tmp, "c.tsv")
    with open(data, "w") as f:
        f.write("label\ttext\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    for family in FAMILIES:
        base = os.path.join(tmp, family)
        for kind in ["lora", "dora"]:
            tilth("finetune", "--from", base, "--data", data, "--adapt", kind, "train.steps=6",
                  "optim.lr=3e-2", "adapt.rank=4", f"run.dir={tmp}/runs", f"run.name={family}-{kind}",
                  "task.max_len=48", "run.dtype=f32")
            runs = os.path.join(tmp, "runs")
            d = [os.path.join(runs, r, "model") for r in os.listdir(runs)
                 if r.startswith(f"{family}-{kind}-")][0]
            lines = tilth("predict", d, "--data", data, "--json", "--dtype", "f32").splitlines()
            got = [[json.loads(x)["probabilities"][k] for k in ("day", "night")] for x in lines[:4]]
            b = tr.AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
            b.config.pad_token_id = 0
            p = PeftModel.from_pretrained(b, d).eval()
            want = []
            for _, text in rows[:4]:
                with torch.no_grad():
                    want.append(torch.softmax(p(torch.tensor([byte_ids(base, text)])).logits[0], -1).tolist())
            close(f"{family} {kind}: tilth -> peft", got, want)


with tempfile.TemporaryDirectory() as tmp:
    tok = os.path.join(tmp, "tok")
    with open(os.path.join(tmp, "texts.txt"), "w") as f:
        f.write("\n".join(TEXTS) + "\n")
    tilth("tokenizer", "train", "--type", "wordpiece", "--vocab-size", "250", "--out", tok,
          os.path.abspath(__file__))
    IDS[0] = [byte_ids(tok, t) for t in TEXTS]
    incoming(tmp, tok)
    outgoing(tmp)
sys.exit(failed > 0)
