"""Writes a GPT-2 saved by torch_generate.py --save as GGUF for llama.cpp.
usage: gguf_gpt2.py MODEL_FOLDER OUT.gguf bf16|f16|f32|q8_0"""
import json
import os
import sys

import gguf
import numpy as np
from safetensors import safe_open

folder, out, kind = sys.argv[1:4]
with open(os.path.join(folder, "config.json")) as f:
    c = json.load(f)
quant = {"bf16": gguf.GGMLQuantizationType.BF16, "f16": gguf.GGMLQuantizationType.F16,
         "f32": gguf.GGMLQuantizationType.F32, "q8_0": gguf.GGMLQuantizationType.Q8_0}[kind]
w = gguf.GGUFWriter(out, "gpt2")
w.add_block_count(c["n_layer"])
w.add_context_length(c["n_positions"])
w.add_embedding_length(c["n_embd"])
w.add_feed_forward_length(4 * c["n_embd"])
w.add_head_count(c["n_head"])
w.add_layer_norm_eps(c["layer_norm_epsilon"])
w.add_vocab_size(c["vocab_size"])
w.add_tokenizer_model("gpt2")
w.add_tokenizer_pre("gpt-2")
w.add_token_list([f"t{i}" for i in range(c["vocab_size"])])
w.add_token_types([gguf.TokenType.NORMAL] * c["vocab_size"])
w.add_token_merges(["t 0"])
w.add_bos_token_id(0)
w.add_eos_token_id(0)

NAMES = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
         "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
CONV1D = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # stored [in, out]


def add(name, t):
    if t.ndim == 2 and name != "position_embd.weight" and kind != "f32":
        w.add_tensor(name, gguf.quants.quantize(t, quant), raw_dtype=quant)
    else:
        w.add_tensor(name, t)


with safe_open(os.path.join(folder, "model.safetensors"), "np") as f:
    for key in f.keys():
        t = f.get_tensor(key).astype(np.float32)
        name = key.removeprefix("transformer.")
        if name == "wte.weight":
            add("token_embd.weight", t)
            add("output.weight", t)
        elif name == "wpe.weight":
            add("position_embd.weight", t)
        elif name.startswith("ln_f."):
            add("output_norm." + name[5:], t)
        elif name.startswith("h."):
            _, i, rest = name.split(".", 2)
            part, field = rest.rsplit(".", 1)
            if part in NAMES:
                add(f"blk.{i}.{NAMES[part]}.{field}",
                    np.ascontiguousarray(t.T) if name.endswith(CONV1D) else t)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
