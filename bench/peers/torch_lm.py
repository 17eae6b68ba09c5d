"""Pretraining steps of a GPT-2-like decoder or a BERT-like encoder (masked LM) in PyTorch."""
import common
import torch
import torch.utils.checkpoint
import torch_common as tc

p = common.parser(__doc__)
p.add_argument("--kind", default="gpt2", choices=["gpt2", "bert"])
p.add_argument("--layers", type=int, default=12)
p.add_argument("--dim", type=int, default=768)
p.add_argument("--heads", type=int, default=12)
p.add_argument("--vocab", type=int, default=50304)
p.add_argument("--batch", type=int, default=4)
p.add_argument("--seq", type=int, default=64)
p.add_argument("--max-len", type=int, default=0, help="rows of the position table (0: --seq)")
p.add_argument("--optim", default="adamw", choices=["adamw", "muon"])
p.add_argument("--mask-rate", type=float, default=0.15)
p.add_argument("--loss-chunks", type=int, default=1)
p.add_argument("--lengths", help="file of document lengths: batch * seq real tokens each step")
p.add_argument("--batching", default="group", choices=["pad", "group", "pack"],
               help="documents padded in given order; grouped by length; packed into full windows")
args = p.parse_args()
tc.setup(args)


def targets_of(ids, real):
    """Inputs, where the loss is, and its targets. real: mask of real tokens, or None."""
    flat = ids.reshape(-1)
    if args.kind == "gpt2":
        return ids, None, torch.randint(0, args.vocab, flat.shape)
    candidates = torch.arange(flat.numel()) if real is None else real.reshape(-1).nonzero()[:, 0]
    n = max(1, int(candidates.numel() * args.mask_rate))
    where = candidates[torch.randperm(candidates.numel())[:n]].sort()[0]
    inputs = flat.clone()
    inputs[where] = 3
    return inputs.view_as(ids), where, flat[where]


def fixed_batch():
    ids = torch.randint(4, args.vocab, (args.batch, args.seq))
    pos = torch.arange(args.seq).expand(args.batch, -1).contiguous()
    ids, where, targets = targets_of(ids, None)
    return (ids, pos, None, where, targets), args.batch * args.seq


def padded_batch(lens):
    t = -(-max(lens) // args.pad_to) * args.pad_to
    real = torch.arange(t)[None, :] < torch.tensor(lens)[:, None]
    ids = torch.randint(4, args.vocab, real.shape) * real
    pos = torch.arange(t).expand(len(lens), -1).contiguous()
    mask = None if min(lens) == t else real[:, None, None, :]
    ids, where, targets = targets_of(ids, real)
    return (ids, pos, mask, where, targets), sum(lens)


def packed_batches(lens):
    """Windows of seq tokens filled with documents (cut where a window ends); a block-diagonal mask."""
    docs, row, n, rows = [], [], 0, []
    for x in lens:
        while x:
            k = min(x, args.seq - n)
            row.append(k)
            n, x = n + k, x - k
            if n == args.seq:
                rows.append(row)
                row, n = [], 0
    for i in range(0, len(rows) - args.batch + 1, args.batch):
        part = rows[i:i + args.batch]
        doc = torch.stack([torch.repeat_interleave(torch.arange(len(r)), torch.tensor(r))
                           for r in part])
        pos = torch.stack([torch.cat([torch.arange(k) for k in r]) for r in part])
        ids, where, targets = targets_of(torch.randint(4, args.vocab, doc.shape), None)
        docs.append(((ids, pos, doc[:, None, :, None] == doc[:, None, None, :], where, targets),
                     doc.numel()))
    return docs


def mixed_batches():
    lens = [min(n, args.seq) for n in common.lengths(args.lengths)]
    if args.batching == "pack":
        return packed_batches(lens)
    return [padded_batch(b)
            for b in common.batches_by_length(lens, args.batch * args.seq, args.batching)]


model = tc.Model(args.kind, args.layers, args.dim, args.heads, args.vocab,
                 args.max_len or args.seq, loss_chunks=args.loss_chunks)
n_params = sum(p.numel() for p in model.parameters())
trainer = tc.Trainer(args, model, tc.optimizers(args.optim))
data = mixed_batches() if args.lengths else [fixed_batch() for _ in range(8)]


def step(i):
    batch, tokens = data[i % len(data)]
    return trainer.step(*batch), tokens


result = common.time_steps(args, step)
result.update(parameters=n_params, versions=tc.versions(), settings=vars(args))
if args.lengths:
    shapes = [d[0][0].numel() for d in data]
    result["padding"] = 1 - sum(d[1] for d in data) / sum(shapes)
common.emit(result)
