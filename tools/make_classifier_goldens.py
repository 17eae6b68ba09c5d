#!/usr/bin/env python3
"""Makes tests/golden/classifiers/: tiny classifiers of transformers with the logits that they give,
read by tests/golden/test_classifiers.c without Python: ModernBERT with both ways of pooling (its
layers listed one by one, as transformers 5 writes them), pairs of texts for BERT and RoBERTa
(as ids, and as texts with a tokenizer), and base models with LoRA adapters of peft.

    /tmp/venv/bin/python tools/make_classifier_goldens.py tests/golden/classifiers
"""
import json
import os
import sys

import tokenizers
import torch
import transformers as tr
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import save_file

OUT = sys.argv[1]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 16, "vocab_size": 48, "max_position_embeddings": 24, "num_labels": 3}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TEXTS = [[13, 8], [5, 1], [7, 6]]  # lengths; second: of the text's second part


def randomize(model, g, only=""):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if only in name:
                p.copy_((torch.randn(p.shape, generator=g) * 0.25 + name.endswith("norm.weight")).bfloat16())


def golden(folder, model, types, seed=5):
    g = torch.Generator().manual_seed(seed)
    tokens, logits = [], []
    for a, b in TEXTS:
        ids = torch.randint(5, 48, (1, a + b), generator=g)
        more = {"token_type_ids": torch.tensor([[0] * a + [1] * b])} if types else {}
        with torch.no_grad():
            logits.append(model(input_ids=ids, **more).logits[0])
        tokens.append(ids[0])
    save_file({"tokens": torch.cat(tokens).int(), "logits": torch.stack(logits).float(),
               "lengths": torch.tensor(TEXTS).int()}, os.path.join(folder, "golden.safetensors"))


def make(name, model, types=False):
    model.eval()
    randomize(model, torch.Generator().manual_seed(3))
    folder = os.path.join(OUT, name)
    model.save_pretrained(folder)
    golden(folder, model, types)
    return folder


for pool in ["cls", "mean"]:
    config = tr.ModernBertConfig(
        **{**SIZES, "num_hidden_layers": 4}, **IDS, cls_token_id=1, sep_token_id=2, local_attention=6,
        layer_types=["full_attention", "sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 300.0},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 20.0}},
        classifier_pooling=pool, attn_implementation="eager")
    folder = make("modernbert-" + pool, tr.ModernBertForSequenceClassification(config))
    about = json.load(open(os.path.join(folder, "config.json")))
    about.pop("global_attn_every_n_layers", None)
    json.dump(about, open(os.path.join(folder, "config.json"), "w"), indent=2)

bert = tr.BertForSequenceClassification(tr.BertConfig(**SIZES, attn_implementation="eager"))
make("bert-pair", bert, True)
make("roberta-pair", tr.RobertaForSequenceClassification(tr.RobertaConfig(
    **{**SIZES, "max_position_embeddings": 26}, type_vocab_size=1, pad_token_id=1, attn_implementation="eager")))
gpt2 = tr.GPT2ForSequenceClassification(tr.GPT2Config(
    vocab_size=48, n_embd=32, n_layer=2, n_head=4, n_inner=16, n_positions=24, num_labels=3,
    pad_token_id=0, attn_implementation="eager"))
make("gpt2", gpt2)
for base, model, parts in [("bert-pair", bert, ["query", "value"]), ("gpt2", gpt2, ["c_attn", "c_fc"])]:
    p = get_peft_model(model, LoraConfig(task_type=TaskType.SEQ_CLS, r=3, lora_alpha=7,
                                         target_modules=parts, fan_in_fan_out=base == "gpt2")).eval()
    randomize(p, torch.Generator().manual_seed(9), "lora_")
    folder = os.path.join(OUT, "lora-" + base)
    p.save_pretrained(folder)
    golden(folder, p, base == "bert-pair")
    path = os.path.join(folder, "adapter_config.json")
    about = json.load(open(path))
    about["base_model_name_or_path"] = "../" + base
    json.dump(about, open(path, "w"), indent=2)
    if os.path.exists(os.path.join(folder, "README.md")):
        os.remove(os.path.join(folder, "README.md"))

WORDS = "the sun is here, a moon and numbers 1 2 3; they don't hide in the rain"
PAIRS = [["the sun is here", "a moon"], ["numbers 1 2 3 and more", "they don't hide"], ["rain", None]]


def texts(name, model, tok):
    """From texts to probabilities: the tokenizer's order of special tokens counts, too."""
    model.eval()
    randomize(model, torch.Generator().manual_seed(4))
    with torch.no_grad():
        for n, p in model.named_parameters():
            if n.endswith("LayerNorm.weight"):
                p.add_(1)
            if n.startswith("classifier.") and p.dim() > 1:
                p.mul_(4)
    folder = os.path.join(OUT, name)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    ids, probabilities = [], []
    for a, b in PAIRS:
        x = tok(a, b, return_tensors="pt")
        with torch.no_grad():
            logits = model(**x).logits[0]
        ids.append(x["input_ids"][0].tolist())
        probabilities.append(torch.softmax(logits, -1).tolist())
    json.dump({"pairs": PAIRS, "ids": ids, "probabilities": probabilities},
              open(os.path.join(folder, "golden.json"), "w"), indent=1)


def vocabulary(model, trainer, pre):
    t = tokenizers.Tokenizer(model)
    t.pre_tokenizer = pre
    t.train_from_iterator([WORDS] * 4, trainer)
    return json.loads(t.to_str())["model"]


SMALL = {**SIZES, "vocab_size": 304, "max_position_embeddings": 42}
bpe = vocabulary(tokenizers.models.BPE(), tokenizers.trainers.BpeTrainer(
    vocab_size=300, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False),
    tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False))
texts("roberta-texts", tr.RobertaForSequenceClassification(tr.RobertaConfig(
    **SMALL, type_vocab_size=1, pad_token_id=1, attn_implementation="eager")),
    tr.RobertaTokenizer(vocab=bpe["vocab"], merges=[tuple(m) for m in bpe["merges"]]))
pieces = vocabulary(tokenizers.models.WordPiece(unk_token="[UNK]"), tokenizers.trainers.WordPieceTrainer(
    vocab_size=120, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False),
    tokenizers.pre_tokenizers.BertPreTokenizer())
texts("bert-texts", tr.BertForSequenceClassification(tr.BertConfig(**SMALL, attn_implementation="eager")),
      tr.BertTokenizer(vocab=pieces["vocab"]))
