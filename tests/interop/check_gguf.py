"""GGUF files as the `gguf` package and llama.cpp see them: the same tensors, the same greedy text."""
import numpy as np
import torch
import transformers
from gguf import GGUFReader
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from common import check, finish, logits, near, path, text_lines, tilth

try:
    import llama_cpp
except ImportError:
    llama_cpp = None


def tokenizer(folder, vocab=400):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(text_lines(), trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tok, bos_token="<|endoftext|>", eos_token="<|endoftext|>").save_pretrained(folder)
    return tok.get_vocab_size()


def make(name, folder):
    torch.manual_seed(3)
    vocab = tokenizer(folder)
    if name == "gpt2":
        m = transformers.GPT2LMHeadModel(transformers.GPT2Config(
            n_embd=64, n_layer=3, n_head=4, vocab_size=vocab, n_positions=128))
    else:
        rope = {"rope_type": "default", "rope_theta": 5000.0}
        if name == "llama3":
            rope.update(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                        original_max_position_embeddings=32)
        common = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                      intermediate_size=128, vocab_size=vocab + 8, max_position_embeddings=128,
                      rope_parameters=rope, tie_word_embeddings=name != "llama", head_dim=16)
        kind = transformers.Qwen3Config if name == "qwen3" else transformers.LlamaConfig
        if name == "llama3":
            common.update(attention_bias=True)
        m = transformers.AutoModelForCausalLM.from_config(kind(**common))
    for p in m.parameters():  # values that bf16 and half precision hold exactly
        p.data = (p.data * (3 if p.dim() > 1 else 1)).bfloat16().half().float()
    for n, p in m.named_parameters():
        if p.dim() == 1:
            p.data += (torch.randn(p.shape) * 0.1).bfloat16().float()
    m.save_pretrained(folder)
    return m


def greedy(model, ids, n):
    out = list(ids)
    for _ in range(n):
        out.append(int(logits(model, [out])[0][-1].argmax()))
    return out[len(ids):]


def check_llama_cpp(name, folder, file, dtype, prompts):
    llm = llama_cpp.Llama(file, n_ctx=128, n_threads=2, logits_all=True, verbose=False)
    tok = transformers.AutoTokenizer.from_pretrained(folder)
    for text in text_lines(60):
        have, want = llm.tokenize(text.encode(), add_bos=False, special=False), tok(text)["input_ids"]
        if have != want:
            check(False, f"{name} {dtype}: llama.cpp reads {text!r} as {have}, not {want}")
            break
    same = 0
    for ids in prompts:
        llm.reset()
        have = [t for t, _ in zip(llm.generate(list(ids), temp=0, top_k=1), range(24))]
        same += have == greedy(folder, ids, 24)
    if dtype != "q8_0":
        check(same == len(prompts), f"{name} {dtype}: {same} of {len(prompts)} greedy texts are llama.cpp's")
    llm.reset()
    llm.eval(list(prompts[0]))
    have = np.array(llm.scores[:len(prompts[0])])
    want = logits(folder, [prompts[0]])[0]
    # llama.cpp computes products of 16-bit weights in 16 bits; keys and values are halves, too
    near(have, want, f"{name} {dtype}: llama.cpp's logits", {"f32": 2e-3, "f16": 1e-2, "bf16": 0.05, "q8_0": 0.2}[dtype])


for name in ["gpt2", "llama", "llama3", "qwen3"]:
    folder = path(name)
    model = make(name, folder)
    vocab = model.config.vocab_size
    prompts = [np.random.RandomState(s).randint(5, 300, 9).tolist() for s in range(4)]
    for dtype in ["f32", "f16", "bf16", "q8_0"]:
        file = path(f"{name}-{dtype}.gguf")
        tilth("export", folder, "--to", "gguf", "--dtype", dtype, "--out", file)
        r = GGUFReader(file)
        t = {x.name: x for x in r.tensors}
        emb = model.get_input_embeddings().weight.detach().numpy()
        check(list(t["token_embd.weight"].shape) == [emb.shape[1], emb.shape[0]], f"{name} {dtype}: gguf reads it")
        if dtype == "f32":
            near(t["token_embd.weight"].data, emb, f"{name}: embeddings", 0)
        check(len(r.fields["tokenizer.ggml.tokens"].data) == vocab, f"{name} {dtype}: {vocab} tokens")
        if llama_cpp:
            check_llama_cpp(name, folder, file, dtype, prompts)
if not llama_cpp:
    print("skipped llama.cpp: the package llama-cpp-python is not there")
finish()
