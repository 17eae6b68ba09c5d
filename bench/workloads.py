"""The table of workloads of compare.py: what runs on each side. Both sides of a row get the same
shapes, vocabulary, optimizer, clipping and document lengths."""
import math
import random

GPT2_124M = dict(kind="gpt2", layers=12, dim=768, heads=12, vocab=50304)
GPT_14M = dict(kind="gpt2", layers=6, dim=384, heads=6, vocab=8192)
BERT_BASE = dict(kind="bert", layers=12, dim=768, heads=12, vocab=30528)
ENCODER_22M = dict(kind="bert", layers=6, dim=384, heads=12, vocab=30528)
# DeiT-Tiny's sizes on pictures of 32 x 32 in patches of 4: 65 tokens. The residual network is that
# of the preset resnet-cifar.
VIT_TINY = dict(layers=12, dim=192, heads=3, patch=4, side=32)
RESNET = dict(stem=32, depths=[2, 2, 2], widths=[64, 128, 256], side=32)
MASK_RATE = 0.15

# The peer of a restricted CPU is restricted by every switch that it has.
AVX2 = {"tilth": {"TILTH_CPU": "avx2"},
        "peer": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
                 "DNNL_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
                 "OPENBLAS_CORETYPE": "Haswell"}}


class Workload:
    """peers: name -> arguments of its program; those of `main` run in every repeat, the others in
    the first one only. steps: (warm-up, timed), for about 8 s of a peer. unit: what the rate counts.
    flops: per unit, for the share of the peak. allocator: PyTorch's best one for it. dtype: auto is
    the faster one of the machine."""

    def __init__(self, name, title, tilth, peers, main, steps, unit="tokens", dtype="bf16", flops=0,
                 restrict=None, vocab=0, allocator="jemalloc"):
        self.name, self.title, self.tilth, self.peers, self.main = name, title, tilth, peers, main
        self.steps, self.allocator = steps, allocator
        self.unit, self.dtype, self.flops = unit, dtype, flops
        self.restrict = restrict or {"tilth": {}, "peer": {}}
        self.first_loss = math.log(vocab) if vocab else None


def documents(kind):
    """Lengths in tokens, the same on every machine. mixed: documents of a web corpus cut at 128;
    sentences: single sentences."""
    rng = random.Random(20)
    if kind == "mixed":
        return [max(8, min(128, int(rng.lognormvariate(3.9, 0.8)))) for _ in range(6000)]
    return [max(4, min(128, int(rng.lognormvariate(3.1, 0.6)))) for _ in range(6400)]


def attended(lens):
    """Mean number of positions that a token sees, over all tokens."""
    return sum(n * n for n in lens) / sum(lens)


def flops_per_token(m, span, masked=0.0, head=True):
    """Multiply-adds of a step, forward and backward, times two; span: positions that a token
    attends to on average. Embedding look-ups, norms and the optimizer are not counted."""
    d, per_layer = m["dim"], 12 * m["dim"] ** 2
    n = m["layers"] * per_layer + (m["vocab"] * d * (masked or 1.0) if head else 0)
    if masked:
        n += masked * d * d
    return 6 * n + 12 * m["layers"] * d * span


def model_keys(m):
    return [f"model.type={m['kind']}", f"model.layers={m['layers']}", f"model.dim={m['dim']}",
            f"model.heads={m['heads']}", f"model.vocab={m['vocab']}"]


def tilth_step(m, batch, seq, dtype, *more):
    masked = ["objective.type=masked", f"objective.mask_rate={MASK_RATE}"]
    return ["bench", "step", *model_keys(m), f"train.seq_len={seq}", f"train.batch={batch}",
            f"run.dtype={dtype}", "optim.type=adamw", *(masked if m["kind"] == "bert" else []),
            *more]


def torch_lm(m, batch, seq, dtype, *more):
    return ["torch_lm.py", "--kind", m["kind"], "--layers", str(m["layers"]), "--dim",
            str(m["dim"]), "--heads", str(m["heads"]), "--vocab", str(m["vocab"]), "--batch",
            str(batch), "--seq", str(seq), "--dtype", dtype, *more]


def pretraining(name, title, m, batch, seq, steps, dtype="bf16", peers=("torch", "torch-compile"),
                restrict=None):
    causal = m["kind"] == "gpt2"
    args = torch_lm(m, batch, seq, dtype)
    table = {p: args + ["--compile"] if p == "torch-compile" else
             [] if p == "llm.c" else args for p in peers}
    span = (seq + 1) / 2 if causal else seq
    return Workload(name, title, tilth_step(m, batch, seq, dtype), table,
                    ["torch", "torch-compile"], steps,
                    dtype=dtype, flops=flops_per_token(m, span, 0 if causal else MASK_RATE),
                    restrict=restrict, vocab=m["vocab"],
                    allocator="glibc" if m is GPT_14M else "jemalloc")


def mixed_masked():
    m, lens = BERT_BASE, documents("mixed")
    args = torch_lm(m, 8, 128, "bf16", "--lengths", "{mixed}")
    return Workload("bert-mixed", "BERT-base masked LM, 1,024 tokens of documents of 8 to 128",
                    tilth_step(m, 8, 128, "bf16", "--lengths", "{mixed}"), {"torch": args},
                    ["torch"], (3, 5), flops=flops_per_token(m, attended(lens), MASK_RATE),
                    vocab=m["vocab"])


def finetuning():
    m = ENCODER_22M
    tilth = ["bench", "finetune", *model_keys(m), "train.seq_len=128", "train.batch=32",
             "run.dtype=bf16", "--lengths", "{sentences}"]
    args = ["torch_finetune.py", "--layers", str(m["layers"]), "--dim", str(m["dim"]), "--heads",
            str(m["heads"]), "--vocab", str(m["vocab"]), "--batch", "32", "--lengths",
            "{sentences}"]
    return Workload("finetune", "Fine-tuning a 22M encoder, 32 sentences of 4 to 128", tilth,
                    {"torch": args}, ["torch"], (5, 25),
                    flops=flops_per_token(m, attended(documents("sentences")), head=False))


def vit_flops(m):
    tokens = (m["side"] // m["patch"]) ** 2 + 1
    per_token = flops_per_token(dict(m, vocab=0), tokens, head=False)
    return tokens * per_token + (tokens - 1) * 6 * 3 * m["patch"] ** 2 * m["dim"]


def resnet_flops(m):
    """6 for each multiply-add of the forward pass; the stem has no gradient of its input."""
    side, width = m["side"], m["stem"]
    n = 4 * 27 * width * side ** 2
    for depth, out in zip(m["depths"], m["widths"]):
        side //= 2
        per_pixel = (9 + 1) * width * out + (2 * depth - 1) * 9 * out * out
        n, width = n + 6 * per_pixel * side ** 2, out
    return n


def pictures(name, title, args, tilth, flops, steps):
    """Both sides in the type that is the faster one on the machine: Tilth finds it out, of the peer
    every one is measured."""
    tilth = ["bench", "step", *tilth, "train.batch=128", "optim.type=adamw", "task.dropout=0",
             "run.dtype=auto"]
    args = ["torch_images.py", *args, "--batch", "128"]
    peers = {f"torch{d}{c}": args + ["--dtype", "bf16" if d else "f32"] + ["--compile"] * bool(c)
             for d in ("", "-bf16") for c in ("", "-compile")}
    return Workload(name, title, tilth, peers, ["torch", "torch-compile"], steps, unit="images",
                    dtype="auto", flops=flops, vocab=10)


def vit():
    m = VIT_TINY
    sizes = {k: str(m[k]) for k in ("layers", "dim", "heads", "patch")}
    return pictures("vit-tiny", "ViT-Tiny, B128 of 32 x 32, patches of 4",
                    ["--kind", "vit", *(x for k, v in sizes.items() for x in ("--" + k, v))],
                    ["model.type=vit", f"model.image_size={m['side']}",
                     *(f"model.{k}={v}" for k, v in sizes.items())], vit_flops(m), (1, 4))


def resnet():
    return pictures("resnet-cifar", "ResNet of resnet-cifar, B128 of 32 x 32", ["--kind", "resnet"],
                    ["--preset", "resnet-cifar"], resnet_flops(RESNET), (2, 12))


def optimizer(name, title, m, optim, steps):
    """Tilth's side is the share of the optimizer and of the gradients' norm in its own steps."""
    tilth = ["bench", "step", *model_keys(m), "train.seq_len=64", "train.batch=1", "--profile",
             "run.dtype=bf16", f"optim.type={optim}"]
    args = ["torch_optim.py", "--layers", str(m["layers"]), "--dim", str(m["dim"]), "--heads",
            str(m["heads"]), "--vocab", str(m["vocab"]), "--seq", "64", "--optim", optim]
    return Workload(name, title, tilth, {"torch": args}, ["torch"], steps, unit="updates")


def generation(name, title, dtype):
    m = GPT2_124M
    tilth = ["bench", "generate", *model_keys(m), "train.seq_len=1024", f"run.dtype={dtype}"]
    peers = {"llama.cpp": ["llama_generate.py", "--model", "{peers}/gpt2-" + dtype + ".gguf"],
             "transformers": ["torch_generate.py", "--dtype", dtype]}
    return Workload(name, title, tilth, peers, ["llama.cpp"], (1, 4), dtype=dtype)


def table():
    """In order of importance: what an interrupted comparison has is what matters most."""
    every = ("torch", "torch-compile", "torch-1.13")
    return [
        pretraining("gpt2-t256", "GPT-2 124M, B4 x T256", GPT2_124M, 4, 256, (2, 4), peers=every),
        pretraining("gpt2-t64", "GPT-2 124M, B4 x T64", GPT2_124M, 4, 64, (3, 10),
                    peers=(*every, "llm.c")),
        pretraining("gpt-14m", "GPT 13.9M, B16 x T256", GPT_14M, 16, 256, (2, 6), peers=every),
        pretraining("bert", "BERT-base masked LM, B8 x T128", BERT_BASE, 8, 128, (2, 5)),
        mixed_masked(),
        pretraining("gpt2-t1024", "GPT-2 124M, B4 x T1024", GPT2_124M, 4, 1024, (1, 2),
                    peers=("torch",)),
        finetuning(),
        vit(),
        resnet(),
        generation("generate", "Generation, GPT-2 124M, 16 + 128 tokens", "bf16"),
        optimizer("adamw", "AdamW and clipping alone, 124M", GPT2_124M, "adamw", (3, 20)),
        optimizer("muon", "Muon and clipping alone, 124M", GPT2_124M, "muon", (1, 2)),
        pretraining("gpt-14m-f32", "GPT 13.9M, B16 x T256, f32", GPT_14M, 16, 256, (1, 3), "f32",
                    peers=every),
        pretraining("gpt2-t256-f32", "GPT-2 124M, B4 x T256, f32", GPT2_124M, 4, 256, (1, 2), "f32",
                    peers=("torch", "torch-1.13")),
        pretraining("gpt-14m-avx2", "GPT 13.9M, B16 x T256, f32, AVX2 only", GPT_14M, 16, 256,
                    (1, 3), "f32", peers=("torch", "torch-1.13"), restrict=AVX2),
        generation("generate-f32", "Generation, GPT-2 124M, 16 + 128 tokens, f32", "f32"),
    ]
