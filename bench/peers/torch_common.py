"""Model and training step in PyTorch, written as its users would and with its own best parts:
fused QKV, scaled_dot_product_attention, fused AdamW. Runs on PyTorch 1.13 and 2.x."""
import contextlib

import torch
import torch.nn as nn
import torch.nn.functional as F

HAVE_SDPA = hasattr(F, "scaled_dot_product_attention")


def setup(args):
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)


def attend(q, k, v, mask, causal):
    if HAVE_SDPA:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    s = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if causal:
        t = q.shape[-2]
        s = s.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), float("-inf"))
    if mask is not None:
        s = s.masked_fill(~mask, float("-inf"))
    return F.softmax(s, -1) @ v


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x, mask, causal):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = attend(q, k, v, mask, causal)
        return self.out(y.transpose(1, 2).reshape(b, t, d))


class Block(nn.Module):
    """pre: norms before (GPT-2, ViT), else after the residual sums (BERT). causal: GPT-2."""

    def __init__(self, dim, heads, pre, causal):
        super().__init__()
        self.pre, self.causal, self.gelu = pre, causal, "tanh" if causal else "none"
        self.attn = Attention(dim, heads)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def mlp(self, x):
        return self.down(F.gelu(self.up(x), approximate=self.gelu))

    def forward(self, x, mask):
        if self.pre:
            x = x + self.attn(self.norm1(x), mask, self.causal and mask is None)
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.attn(x, mask, False))
        return self.norm2(x + self.mlp(x))


class Model(nn.Module):
    """kind gpt2: decoder, loss on all positions. bert: encoder, loss on the given positions alone.
    classes > 0: a classifier on the first position instead."""

    def __init__(self, kind, layers, dim, heads, vocab, max_len, classes=0, loss_chunks=1):
        super().__init__()
        self.kind, self.vocab, self.loss_chunks = kind, vocab, loss_chunks
        self.tok, self.pos = nn.Embedding(vocab, dim), nn.Embedding(max_len, dim)
        if kind == "bert":
            self.segment, self.norm_in = nn.Embedding(2, dim), nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(
            Block(dim, heads, kind == "gpt2", kind == "gpt2") for _ in range(layers))
        if kind == "gpt2":
            self.norm = nn.LayerNorm(dim)
        elif not classes:
            self.head, self.head_norm = nn.Linear(dim, dim), nn.LayerNorm(dim)
            self.out_bias = nn.Parameter(torch.zeros(vocab))
        if classes:
            self.pool, self.classify = nn.Linear(dim, dim), nn.Linear(dim, classes)
        for p in self.modules():
            if isinstance(p, (nn.Linear, nn.Embedding)):
                nn.init.normal_(p.weight, std=0.02)
                if isinstance(p, nn.Linear):
                    nn.init.zeros_(p.bias)

    def body(self, ids, pos, mask):
        x = self.tok(ids) + self.pos(pos)
        if self.kind == "bert":
            x = self.norm_in(x + self.segment.weight[0])
        for b in self.blocks:
            x = b(x, mask)
        return x

    def loss_of(self, x, targets):
        """Mean cross entropy of rows x with the tied output matrix, in chunks of rows if asked."""
        bias = self.out_bias if self.kind == "bert" else None
        if self.loss_chunks == 1:
            return F.cross_entropy(F.linear(x, self.tok.weight, bias).float(), targets)
        total = 0
        for xs, ts in zip(x.chunk(self.loss_chunks), targets.chunk(self.loss_chunks)):
            total = total + torch.utils.checkpoint.checkpoint(
                lambda a, b: F.cross_entropy(F.linear(a, self.tok.weight, bias).float(), b,
                                             reduction="sum"), xs, ts, use_reentrant=False)
        return total / targets.numel()

    def forward(self, ids, pos, mask, where, targets):
        x = self.body(ids, pos, mask)
        if hasattr(self, "classify"):
            return F.cross_entropy(self.classify(torch.tanh(self.pool(x[:, 0]))).float(), targets)
        x = x.reshape(-1, x.shape[-1])
        if self.kind == "bert":
            x = self.head_norm(F.gelu(self.head(x[where])))
        else:
            x = self.norm(x)
        return self.loss_of(x, targets)


class Trainer:
    """One step: forward, backward, clipping at norm 1, update, in the given precision."""

    def __init__(self, args, model, make_optimizers):
        self.dtype = args.dtype
        self.masters = None
        self.params = list(model.parameters())
        if args.dtype == "bf16-master":
            self.masters = [nn.Parameter(p.detach().clone()) for p in self.params]
            model.bfloat16()
            self.params = list(model.parameters())
        self.optimizers = make_optimizers(self.masters or self.params)
        self.model = torch.compile(model) if args.compile else model

    def autocast(self):
        if self.dtype != "bf16":
            return contextlib.nullcontext()
        return torch.autocast("cpu", torch.bfloat16)

    def step(self, *batch):
        with self.autocast():
            loss = self.model(*batch)
        loss.backward()
        if self.masters:
            for m, p in zip(self.masters, self.params):
                m.grad = p.grad.float()
                p.grad = None
        updated = self.masters or self.params
        nn.utils.clip_grad_norm_(updated, 1.0)
        for o in self.optimizers:
            o.step()
        for p in updated:
            p.grad = None
        if self.masters:
            with torch.no_grad():
                torch._foreach_copy_(self.params, self.masters)
        return loss.item()


def adamw(params, **kw):
    """AdamW in its fastest form: fused where this PyTorch has it for CPUs, else over lists."""
    try:
        return torch.optim.AdamW(params, fused=True, **kw)
    except (RuntimeError, TypeError):
        return torch.optim.AdamW(params, foreach=True, **kw)


def optimizers(kind):
    def make(params):
        kw = dict(lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1)
        if kind == "adamw":
            return [adamw(params, **kw)]
        # Embeddings have far more rows than columns; the blocks' matrices go to Muon.
        matrix = [p for p in params if p.ndim == 2 and p.shape[0] <= 4 * p.shape[1]
                  and p.shape[0] % p.shape[1] == 0 or p.ndim == 2 and p.shape[1] > p.shape[0]]
        ids = {id(p) for p in matrix}
        return [torch.optim.Muon(matrix, lr=0.02, momentum=0.95, weight_decay=0.1),
                adamw([p for p in params if id(p) not in ids], **kw)]
    return make


def versions():
    return {"torch": torch.__version__, "blas": "MKL" if torch.backends.mkl.is_available() else "other"}
