#!/usr/bin/env python3
"""Makes tests/golden/models/: a tiny model of each architecture as Hugging Face's `transformers`
saves it (Tilth's own encoder-decoder: by hand), and what PyTorch computes with it: logits, loss and the gradient of every parameter.
tests/golden/test_models.c compares ours with them.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install torch transformers
    /tmp/venv/bin/python tools/make_model_goldens.py tests/golden/models

The sequences are run one by one, without padding; Tilth packs them into one batch. Weights are
rounded to bf16, so that the files are small and a bf16 run reads the same weights.
"""
import json
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
    if name == "llama3":  # stretched positions, biases everywhere, tied
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(
            **COMMON, num_key_value_heads=1, rms_norm_eps=1e-3, tie_word_embeddings=True,
            attention_bias=True, mlp_bias=True,
            rope_parameters={"rope_type": "llama3", "rope_theta": 50.0, "factor": 4.0,
                             "low_freq_factor": 0.5, "high_freq_factor": 2.0,
                             "original_max_position_embeddings": 12},
            attn_implementation="eager")), False
    if name == "qwen3":  # ours with model.qk_norm
        return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(
            **COMMON, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-3, tie_word_embeddings=True,
            rope_parameters={"rope_type": "linear", "rope_theta": 50.0, "factor": 2.0},
            attn_implementation="eager")), False
    if name == "roberta":
        return transformers.RobertaForMaskedLM(transformers.RobertaConfig(
            **{**COMMON, "max_position_embeddings": 20}, type_vocab_size=1, layer_norm_eps=1e-3,
            pad_token_id=2, bos_token_id=0, eos_token_id=3, hidden_dropout_prob=0,
            attention_probs_dropout_prob=0, attn_implementation="eager")), True
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


def randomize(model, generator, scale=0.25):
    for name, p in model.named_parameters():
        gain = p.dim() == 1 and name.endswith("weight")
        p.data = torch.randn(p.shape, generator=generator) * (0.2 if p.dim() == 1 else scale)
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


class EncoderDecoder(torch.nn.Module):
    """Tilth's own architecture, which transformers does not have, out of torch's functions."""

    CONFIG = {"architectures": ["TilthEncoderDecoder"], "model_type": "tilth-encdec",
              "hidden_size": 32, "encoder_layers": 1, "decoder_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 16,
              "max_position_embeddings": 24, "rms_norm_eps": 1e-3, "rope_theta": 50.0,
              "hidden_act": "silu", "vocab_size": VOCAB, "tie_word_embeddings": True,
              "tilth": {"qk_norm": True}}

    def __init__(self):
        super().__init__()
        c = self.CONFIG
        d, ff, hd = c["hidden_size"], c["intermediate_size"], 8
        kv = c["num_key_value_heads"] * hd
        self.tensors = torch.nn.ParameterDict()

        def add(name, *shape):
            self.tensors[name.replace(".", "/")] = torch.nn.Parameter(torch.empty(shape))

        add("model.embed_tokens.weight", VOCAB, d)
        add("model.embed_norm.weight", d)
        for side in ["encoder", "decoder"]:
            for i in range(c[side + "_layers"]):
                at = f"model.{side}.layers.{i}."
                for part in ["self_attn", "cross_attn"][:1 if side == "encoder" else 2]:
                    add(at + part + "_norm.weight", d)
                    add(at + part + ".q_proj.weight", d, d)
                    add(at + part + ".k_proj.weight", kv, d)
                    add(at + part + ".v_proj.weight", kv, d)
                    add(at + part + ".o_proj.weight", d, d)
                    add(at + part + ".q_norm.weight", hd)
                    add(at + part + ".k_norm.weight", hd)
                add(at + "mlp_norm.weight", d)
                add(at + "mlp.gate_proj.weight", ff, d)
                add(at + "mlp.up_proj.weight", ff, d)
                add(at + "mlp.down_proj.weight", d, ff)
            add(f"model.{side}.norm.weight", d)

    def named(self):
        return [(n.replace("/", "."), p) for n, p in self.tensors.items()]

    def w(self, name):
        return self.tensors[name.replace(".", "/")]

    def norm(self, x, name):
        return torch.nn.functional.rms_norm(x, x.shape[-1:], self.w(name), 1e-3)

    def rope(self, x):
        n, hd = x.shape[1:]
        angle = torch.arange(n)[:, None] * 50.0 ** (-torch.arange(0, hd, 2) / hd)[None]
        a, b = x[..., :hd // 2], x[..., hd // 2:]
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)

    def attend(self, x, memory, at, rotate, causal):
        def heads(y, name):
            return (y @ self.w(at + name + "_proj.weight").T).unflatten(1, (-1, 8)).transpose(0, 1)

        q = self.norm(heads(x, ".q"), at + ".q_norm.weight")
        k = self.norm(heads(memory, ".k"), at + ".k_norm.weight")
        v = heads(memory, ".v")
        if rotate:
            q, k = self.rope(q), self.rope(k)
        k, v = k.repeat_interleave(2, 0), v.repeat_interleave(2, 0)
        score = q @ k.transpose(1, 2) / 8 ** 0.5
        if causal:
            score += torch.full(score.shape[1:], -torch.inf).triu(1)
        out = (score.softmax(-1) @ v).transpose(0, 1).flatten(1)
        return out @ self.w(at + ".o_proj.weight").T

    def side(self, ids, side, memory):
        x = self.norm(self.w("model.embed_tokens.weight")[ids], "model.embed_norm.weight")
        for i in range(self.CONFIG[side + "_layers"]):
            at = f"model.{side}.layers.{i}."
            h = self.norm(x, at + "self_attn_norm.weight")
            x = x + self.attend(h, h, at + "self_attn", True, memory is not None)
            if memory is not None:
                h = self.norm(x, at + "cross_attn_norm.weight")
                x = x + self.attend(h, memory, at + "cross_attn", False, False)
            h = self.norm(x, at + "mlp_norm.weight")
            gate = torch.nn.functional.silu(h @ self.w(at + "mlp.gate_proj.weight").T)
            up = h @ self.w(at + "mlp.up_proj.weight").T
            x = x + (gate * up) @ self.w(at + "mlp.down_proj.weight").T
        return self.norm(x, f"model.{side}.norm.weight")

    def logits(self, source, ids):
        memory = self.side(source, "encoder", None)
        return self.side(ids, "decoder", memory) @ self.w("model.embed_tokens.weight").T


def encoder_decoder(folder, generator):
    model = EncoderDecoder()
    for name, p in model.named():
        scale = 0.2 if p.dim() == 1 else 0.25
        p.data = torch.randn(p.shape, generator=generator) * scale + (p.dim() == 1)
        p.data = p.data.bfloat16().float()
    tokens, targets, sources, logits, loss = [], [], [], [], 0
    source_lengths = [5, 11, 1]
    for n, n_source in zip(LENGTHS, source_lengths):
        ids = torch.randint(5, VOCAB, (n + 1,), generator=generator)
        source = torch.randint(5, VOCAB, (n_source,), generator=generator)
        out = model.logits(source, ids[:-1])
        loss = loss + torch.nn.functional.cross_entropy(out, ids[1:], reduction="sum")
        tokens.append(ids[:-1])
        targets.append(ids[1:])
        sources.append(source)
        logits.append(out)
    loss = loss / sum(LENGTHS)
    loss.backward()
    result = {"tokens": torch.cat(tokens).int(), "targets": torch.cat(targets).int(),
              "lengths": torch.tensor(LENGTHS, dtype=torch.int32),
              "source": torch.cat(sources).int(),
              "source_lengths": torch.tensor(source_lengths, dtype=torch.int32),
              "logits": torch.cat(logits).detach(), "loss": loss.detach()[None]}
    for name, p in model.named():
        result["grad/" + name] = p.grad.clone()
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(model.CONFIG, f, indent=2)
    save_file({n: p.data.bfloat16() for n, p in model.named()},
              os.path.join(folder, "model.safetensors"))
    return {k: v.contiguous() for k, v in result.items()}


def t5(folder, generator, gated):
    """T5 1.0 (plain ReLU, tied output, scaled logits) or 1.1 (gated, an output matrix of its own).
    Heads are wider than dim / heads, distances beyond the last bucket occur."""
    config = transformers.T5Config(
        vocab_size=VOCAB, d_model=32, d_kv=12, d_ff=16, num_layers=1, num_decoder_layers=2, num_heads=4,
        relative_attention_num_buckets=8, relative_attention_max_distance=9, layer_norm_epsilon=1e-3,
        dropout_rate=0, decoder_start_token_id=3, tie_word_embeddings=not gated,
        feed_forward_proj="gated-gelu" if gated else "relu")
    model = transformers.T5ForConditionalGeneration(config)
    if gated:
        model.lm_head.weight = torch.nn.Parameter(torch.empty(VOCAB, 32))
    randomize(model, generator, 0.35)  # larger: what it writes is no repetition
    for name, p in model.named_parameters():
        if name.endswith(".q.weight"):
            p.data /= 4  # scores are not scaled: a softmax that is saturated magnifies rounding
    tokens, targets, sources, logits, written, loss = [], [], [], [], [], 0
    source_lengths = [5, 17, 1]
    for n, n_source in zip(LENGTHS, source_lengths):
        source = torch.randint(5, VOCAB, (n_source,), generator=generator)
        ids = torch.randint(5, VOCAB, (n + 1,), generator=generator)
        out = model(input_ids=source[None], decoder_input_ids=ids[None, :-1]).logits[0]
        loss = loss + torch.nn.functional.cross_entropy(out, ids[1:], reduction="sum")
        tokens.append(ids[:-1])
        targets.append(ids[1:])
        sources.append(source)
        logits.append(out)
        model.eval()
        best = model.generate(source[None], max_new_tokens=20, num_beams=1, do_sample=False, use_cache=False,
                              eos_token_id=1, pad_token_id=0, decoder_start_token_id=3)[0, 1:]
        model.train()
        written.append(torch.nn.functional.pad(best, (0, 20 - len(best)), value=1))
    loss = loss / sum(LENGTHS)
    loss.backward()
    result = {"tokens": torch.cat(tokens).int(), "targets": torch.cat(targets).int(),
              "lengths": torch.tensor(LENGTHS, dtype=torch.int32),
              "source": torch.cat(sources).int(),
              "source_lengths": torch.tensor(source_lengths, dtype=torch.int32),
              "greedy": torch.stack(written).int(),
              "logits": torch.cat(logits).detach(), "loss": loss.detach()[None]}
    for name, p in model.named_parameters():
        result["grad/" + name] = p.grad.clone()
    save(model, folder)
    return {k: v.contiguous() for k, v in result.items()}


def save(model, folder):
    model.bfloat16().save_pretrained(folder)
    extra = os.path.join(folder, "generation_config.json")
    if os.path.exists(extra):
        os.remove(extra)


def report(name, result):
    print(f"{name}: loss {result['loss'].item():.5f}, logits std {result['logits'].std():.3f}")


def main():
    out, only = sys.argv[1], sys.argv[2:]  # names: these only
    if not only or "encdec" in only:
        result = encoder_decoder(os.path.join(out, "encdec"), torch.Generator().manual_seed(7))
        save_file(result, os.path.join(out, "encdec", "golden.safetensors"))
        report("encdec", result)
    for name in ["t5", "t5-gated"]:
        if only and name not in only:
            continue
        result = t5(os.path.join(out, name), torch.Generator().manual_seed(12 + (name != "t5")), name != "t5")
        save_file(result, os.path.join(out, name, "golden.safetensors"))
        report(name, result)
    for name in ["gpt2", "llama", "bert", "modernbert", "roberta", "llama3", "qwen3"]:
        if only and name not in only:
            continue
        generator = torch.Generator().manual_seed(7)
        model, encoder = make(name)
        model.train()  # dropout is 0 everywhere
        randomize(model, generator)
        result = golden(model, encoder, generator)
        folder = os.path.join(out, name)
        save(model, folder)
        save_file(result, os.path.join(folder, "golden.safetensors"))
        report(name, result)


main()
