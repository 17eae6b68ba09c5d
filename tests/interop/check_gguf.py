"""GGUF files as the `gguf` package, SentencePiece and llama.cpp see them: the same tensors, ids and greedy text."""
import numpy as np
import sentencepiece
import torch
import transformers
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import load_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

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


def sentencepiece_model():
    """SentencePiece's BPE with byte fallback, as Llama 2's was trained."""
    with open(path("text"), "w") as f:
        f.write("\n".join(text_lines()))
    sentencepiece.SentencePieceTrainer.train(
        input=path("text"), model_prefix=path("sp"), model_type="bpe", vocab_size=420, byte_fallback=True,
        character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False,
        add_dummy_prefix=True, split_digits=True, minloglevel=2)
    return sentencepiece.SentencePieceProcessor(path("sp.model"))


def llama_tokenizer(folder):
    """The same as tokenizer.json, in the form that Llama 2's has: all pairs of a piece are merges, by its score."""
    sp = sentencepiece_model()
    vocab = {sp.id_to_piece(i): i for i in range(sp.get_piece_size())}
    merges = [(a, b) for piece in sorted(vocab, key=lambda p: (-sp.get_score(vocab[p]), vocab[p]))
              for a, b in sorted((piece[:k], piece[k:]) for k in range(1, len(piece)))
              if a in vocab and b in vocab]
    tok = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.add_special_tokens(["<unk>", "<s>", "</s>"])
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                     decoders.Strip(" ", 1, 0)])
    tok.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tok, bos_token="<s>", eos_token="</s>", unk_token="<unk>").save_pretrained(folder)
    return tok.get_vocab_size()


def check_sentencepiece(file):
    """The scores of pieces that are made of others are SentencePiece's own, and so are the ids of what comes back."""
    sp = sentencepiece.SentencePieceProcessor(path("sp.model"))
    fields = GGUFReader(file).fields
    field = lambda name: fields["tokenizer.ggml." + name].contents()
    n = sp.get_piece_size()
    check(field("tokens")[:n] == [sp.id_to_piece(i) for i in range(n)], "llama2: SentencePiece's pieces")
    kinds = [6 if sp.is_byte(i) else 3 if sp.is_control(i) else 2 if sp.is_unknown(i) else 1 for i in range(n)]
    check(field("token_type")[:n] == kinds, "llama2: SentencePiece's kinds of tokens")
    made = [i for i in range(n) if kinds[i] == 1 and len(sp.id_to_piece(i)) > 1]
    check(len(made) > 50 and [field("scores")[i] for i in made] == [sp.get_score(i) for i in made],
          f"llama2: {len(made)} scores are SentencePiece's")
    check(field("add_bos_token") and not field("add_eos_token") and field("add_space_prefix"), "llama2: what is added")
    same = 0
    texts = text_lines(60) + ["a  b", " two  spaces ", "▁", "日本語\t🙂", "<s> </s> <0x41>"]
    for text in texts:
        have = tilth("tokenizer", "encode", file, "--text", text).split()
        same += [int(x) for x in have] == sp.encode(text)
    check(same == len(texts), f"llama2: the ids of {same} of {len(texts)} texts are SentencePiece's")


def make(name, folder, **sizes):
    torch.manual_seed(3)
    vocab = llama_tokenizer(folder) if name == "llama2" else tokenizer(folder)
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
        common.update(sizes)
        common.update(head_dim=common["hidden_size"] // 4)
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
    for text in text_lines(60) + ["a  b", " two  spaces ", "\n\tdéjà 🙂"]:
        have, want = (llm.tokenize(text.encode(), add_bos=False, special=False),
                      tok(text, add_special_tokens=False)["input_ids"])
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


def check_quantized():
    """Files that llama.cpp quantized: its own values of each tensor, and nearly its logits."""
    folder, file = path("wide"), path("wide.gguf")
    make("llama2", folder, hidden_size=256, intermediate_size=512, num_hidden_layers=2)
    tilth("export", folder, "--to", "gguf", "--out", file)
    ids = list(range(5, 30))
    for ftype, kinds in [("Q4_0", "Q4_0 Q6_K"), ("Q4_K_M", "Q4_K Q6_K"), ("Q5_K_M", "Q5_K Q6_K")]:
        small, back = path(ftype + ".gguf"), path(ftype)
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = getattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_" + ftype)
        check(llama_cpp.llama_model_quantize(file.encode(), small.encode(), params) == 0, f"{ftype}: llama.cpp writes it")
        tilth("import", small, "--out", back)
        have = load_file(path(ftype, "model.safetensors"))
        seen = set()
        for t in GGUFReader(small).tensors:
            seen.add(t.tensor_type.name)
            want = dequantize(t.data, t.tensor_type)
            where = {"token_embd.weight": "model.embed_tokens.weight", "output.weight": "lm_head.weight",
                     "blk.1.ffn_down.weight": "model.layers.1.mlp.down_proj.weight",
                     "blk.0.attn_v.weight": "model.layers.0.self_attn.v_proj.weight",
                     "blk.1.attn_output.weight": "model.layers.1.self_attn.o_proj.weight"}.get(t.name)
            if where in have:
                near(have[where], want, f"{ftype}: {t.name}, {t.tensor_type.name}", 0)
        check(set(kinds.split()) <= seen, f"{ftype}: has {' '.join(sorted(seen))}")
        llm = llama_cpp.Llama(small, n_ctx=128, n_threads=2, logits_all=True, verbose=False)
        llm.eval(ids)
        theirs, ours = np.array(llm.scores[:len(ids)]), logits(small, [ids])[0]
        # llama.cpp rounds what it multiplies with these weights to 8 bits: up to 0.032 was measured
        near(ours / np.abs(theirs).max(), theirs / np.abs(theirs).max(), f"{ftype}: llama.cpp's logits, of the largest", 0.06)


for name in ["gpt2", "llama", "llama2", "llama3", "qwen3"]:
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
        if name == "llama2" and dtype == "f32":
            check_sentencepiece(file)
        if llama_cpp:
            check_llama_cpp(name, folder, file, dtype, prompts)
if llama_cpp:
    check_quantized()
else:
    print("skipped llama.cpp: the package llama-cpp-python is not there")
finish()
