"""Folders of each architecture between `transformers` and Tilth, both ways: logits within 1e-4 in f32.

there: transformers writes, Tilth reads. back: Tilth writes (imports, exports in shards), transformers
reads. Unknown keys must survive; nothing may be missing or unexpected to transformers."""
import os

import numpy as np
import torch
import transformers

from common import check, finish, logits, near, path, read_json, tilth, write_json

VOCAB = 96
COMMON = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=80,
              vocab_size=VOCAB, max_position_embeddings=64, initializer_range=0.2)
ROPE = {"rope_type": "default", "rope_theta": 700.0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 700.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
T5 = dict(d_model=64, d_kv=12, d_ff=80, num_layers=2, num_decoder_layers=3, num_heads=4, vocab_size=VOCAB,
          decoder_start_token_id=0)
T = transformers
CASES = {
    "gpt2": (T.GPT2Config(n_embd=64, n_layer=3, n_head=4, vocab_size=VOCAB, n_positions=64,
                          initializer_range=0.2), T.GPT2LMHeadModel),
    "llama": (T.LlamaConfig(**COMMON, num_key_value_heads=2, rope_parameters=ROPE), T.LlamaForCausalLM),
    "llama-tied-bias": (T.LlamaConfig(**COMMON, num_key_value_heads=1, rope_parameters=ROPE,
                                      attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
                        T.LlamaForCausalLM),
    "llama-3": (T.LlamaConfig(**COMMON, num_key_value_heads=4, rope_parameters=LLAMA3), T.LlamaForCausalLM),
    "llama-linear": (T.LlamaConfig(**COMMON, rope_parameters={"rope_type": "linear", "rope_theta": 700.0,
                                                              "factor": 4.0}), T.LlamaForCausalLM),
    "qwen3": (T.Qwen3Config(**COMMON, num_key_value_heads=2, head_dim=16, rope_parameters=ROPE),
              T.Qwen3ForCausalLM),
    "bert": (T.BertConfig(**COMMON), T.BertForMaskedLM),
    "roberta": (T.RobertaConfig(**COMMON, type_vocab_size=1, pad_token_id=1), T.RobertaForMaskedLM),
    "modernbert": (T.ModernBertConfig(**COMMON, global_attn_every_n_layers=3, local_attention=8,
                                      pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1,
                                      sep_token_id=2, attn_implementation="eager"),
                   T.ModernBertForMaskedLM),
    "modernbert-silu": (T.ModernBertConfig(**COMMON, local_attention=8, pad_token_id=0, bos_token_id=1,
                                           eos_token_id=2, cls_token_id=1, sep_token_id=2,
                                           hidden_activation="silu", classifier_activation="silu",
                                           attn_implementation="eager"), T.ModernBertForMaskedLM),
    "t5": (T.T5Config(**T5, feed_forward_proj="relu", relative_attention_num_buckets=8,
                      relative_attention_max_distance=20), T.T5ForConditionalGeneration),
    "t5-gated": (T.T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
                 T.T5ForConditionalGeneration),
    "vit": (T.ViTConfig(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=80,
                        image_size=16, patch_size=4, num_labels=5, initializer_range=0.2),
            T.ViTForImageClassification),
    "vit-grey": (T.ViTConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=80,
                             image_size=14, patch_size=7, num_channels=1, num_labels=3, qkv_bias=True,
                             initializer_range=0.2), T.ViTForImageClassification),
}


def inputs_for(config, rng):
    if config.model_type == "vit":
        return [rng.randn(config.num_channels, config.image_size, config.image_size).astype(np.float32)
                for _ in range(3)]
    sequences = [rng.randint(5, VOCAB, n).tolist() for n in (40, 1, 17)]
    if config.model_type == "t5":
        return [(s, rng.randint(5, VOCAB, n).tolist()) for s, n in zip(sequences, (9, 30, 1))]
    return sequences


def theirs(model, inputs):
    model.eval()
    with torch.no_grad():
        if isinstance(inputs[0], np.ndarray):
            return [model(pixel_values=torch.tensor(x)[None]).logits.numpy() for x in inputs]
        if isinstance(inputs[0], tuple):
            return [model(input_ids=torch.tensor([s]), decoder_input_ids=torch.tensor([d])).logits[0].numpy()
                    for s, d in inputs]
        return [model(input_ids=torch.tensor([s])).logits[0].numpy() for s in inputs]


def randomize(model):
    for name, p in model.named_parameters():
        if p.dim() == 1:
            p.data += torch.randn(p.shape) * 0.1


def read_back(kind, folder, name):
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    bad = {k: v for k, v in info.items() if v}
    check(not bad, f"{name}: transformers finds nothing missing or unexpected {bad or ''}")
    return model.float()


def main():
    rng = np.random.RandomState(0)
    for name, (config, kind) in CASES.items():
        inputs = inputs_for(config, rng)
        torch.manual_seed(1)
        model = kind(config).float()
        randomize(model)
        folder = path(name)
        model.save_pretrained(folder)
        o = read_json(os.path.join(folder, "config.json"))
        o["somebody_elses_key"] = {"a": [1, None, "x"]}
        write_json(os.path.join(folder, "config.json"), o)
        want = theirs(model, inputs)
        near(np.concatenate(logits(folder, inputs)), np.concatenate(want), f"{name}: there")
        tilth("import", folder, "--out", path(name + "-in"))
        tilth("export", path(name + "-in"), "--max-shard-size", "50KB", "--out", path(name + "-out"))
        check(len([f for f in os.listdir(path(name + "-out")) if f.endswith(".safetensors")]) > 1,
              f"{name}: shards")
        for where in ("-in", "-out"):
            again = read_back(kind, path(name + where), name + where)
            near(np.concatenate(theirs(again, inputs)), np.concatenate(want), f"{name}: back{where}")
            check(read_json(path(name + where, "config.json")).get("somebody_elses_key")
                  == o["somebody_elses_key"], f"{name}{where}: an unknown key survives")
        near(np.concatenate(logits(path(name + "-out"), inputs)), np.concatenate(want),
             f"{name}: its own shards")


if __name__ == "__main__":
    main()
    finish()
