#!/usr/bin/env python3
"""Makes tests/golden/models/: a tiny model of each architecture as Hugging Face's `transformers`
saves it, and what PyTorch computes with it: logits, loss and the gradient of every parameter.
tests/golden/test_models.c compares ours with them.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install torch transformers
    /tmp/venv/bin/python tools/make_model_goldens.py tests/golden/models

The sequences are run one by one, without padding; Tilth packs them into one batch. Weights are
rounded to bf16, so that the files are small and a bf16 run reads the same weights.
"""
import os
import sys

import torch
import transformers
from safetensors.torch import save_file

LENGTHS = [13, 1, 7]
VOCAB, MASK = 48, 4
COMMON = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
          "intermediate_size": 16, "vocab_size": VOCAB, "max_position_embeddings": 24}


def make(name):
    """The model, and whether it is an encoder. No constant is at its default, so that one that is
    not read from config.json shows."""
    if name == "gpt2":
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(
            n_embd=32, n_layer=2, n_head=4, n_inner=16, vocab_size=VOCAB, n_positions=24,
            layer_norm_epsilon=1e-3, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
            attn_implementation="eager")), False
    if name == "llama":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(
            **COMMON, num_key_value_heads=2, rms_norm_eps=1e-3, tie_word_embeddings=False,
            rope_parameters={"rope_type": "default", "rope_theta": 50.0},
            attn_implementation="eager")), False
    if name == "bert":
        return transformers.BertForMaskedLM(transformers.BertConfig(
            **COMMON, layer_norm_eps=1e-3, hidden_dropout_prob=0, attention_probs_dropout_prob=0,
            attn_implementation="eager")), True
    return transformers.ModernBertForMaskedLM(transformers.ModernBertConfig(
        **COMMON, norm_eps=1e-3, global_attn_every_n_layers=2, local_attention=6,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
        rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 300.0},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 20.0}},
        attn_implementation="eager")), True


def randomize(model, generator):
    for name, p in model.named_parameters():
        gain = p.dim() == 1 and name.endswith("weight")
        p.data = torch.randn(p.shape, generator=generator) * (0.2 if p.dim() == 1 else 0.25)
        p.data += 1 if gain else 0
        p.data = p.data.bfloat16().float()


def golden(model, encoder, generator):
    """Per packed row: token and target (-1: none); then logits of the rows with a target."""
    tokens, targets, logits, loss = [], [], [], 0
    for n in LENGTHS:
        ids = torch.randint(5, VOCAB, (n,), generator=generator)
        if encoder:
            hidden = torch.rand(n, generator=generator) < 0.4
            if not tokens:
                hidden[0] = True
            want = torch.where(hidden, ids, -1)
            ids = torch.where(hidden, MASK, ids)
        else:
            want = torch.cat([ids[1:], torch.tensor([-1])])
        out = model(input_ids=ids[None]).logits[0]
        counted = want >= 0
        loss = loss + torch.nn.functional.cross_entropy(out[counted], want[counted], reduction="sum")
        tokens.append(ids)
        targets.append(want)
        logits.append(out[counted] if encoder else out)
    targets = torch.cat(targets)
    loss = loss / (targets >= 0).sum()
    loss.backward()
    result = {"tokens": torch.cat(tokens).int(), "targets": targets.int(),
              "lengths": torch.tensor(LENGTHS, dtype=torch.int32),
              "logits": torch.cat(logits).detach(), "loss": loss.detach()[None]}
    for name, p in model.named_parameters():
        result["grad/" + name] = p.grad.clone()  # the conversion to bf16 would reach p.grad
    return {k: v.contiguous() for k, v in result.items()}


def main():
    out = sys.argv[1]
    for name in ["gpt2", "llama", "bert", "modernbert"]:
        generator = torch.Generator().manual_seed(7)
        model, encoder = make(name)
        model.train()  # dropout is 0 everywhere
        randomize(model, generator)
        result = golden(model, encoder, generator)
        folder = os.path.join(out, name)
        model.bfloat16().save_pretrained(folder)
        extra = os.path.join(folder, "generation_config.json")
        if os.path.exists(extra):
            os.remove(extra)
        save_file(result, os.path.join(folder, "golden.safetensors"))
        print(f"{name}: loss {result['loss'].item():.5f}, logits std {result['logits'].std():.3f}")


main()
