"""Fine-tuning steps of an encoder with a classifier on sentences of mixed length in PyTorch."""
import common
import torch
import torch_common as tc

p = common.parser(__doc__)
p.add_argument("--layers", type=int, default=6)
p.add_argument("--dim", type=int, default=384)
p.add_argument("--heads", type=int, default=12)
p.add_argument("--vocab", type=int, default=30528)
p.add_argument("--max-len", type=int, default=128)
p.add_argument("--classes", type=int, default=2)
p.add_argument("--batch", type=int, default=32)
p.add_argument("--lengths", required=True, help="file of sentence lengths")
p.add_argument("--batching", default="group", choices=["pad", "group"])
args = p.parse_args()
tc.setup(args)


def batch_of(lens):
    t = -(-max(lens) // args.pad_to) * args.pad_to
    real = torch.arange(t)[None, :] < torch.tensor(lens)[:, None]
    ids = torch.randint(4, args.vocab, real.shape) * real
    pos = torch.arange(t).expand(len(lens), -1).contiguous()
    mask = None if min(lens) == t else real[:, None, None, :]
    return (ids, pos, mask, None, torch.randint(0, args.classes, (len(lens),))), sum(lens)


def batches():
    lens = [min(n, args.max_len) for n in common.lengths(args.lengths)]
    if args.batching == "group":
        lens = common.grouped(lens, 50 * args.batch)
    return common.spread([lens[i:i + args.batch]
                          for i in range(0, len(lens) - args.batch + 1, args.batch)])


model = tc.Model("bert", args.layers, args.dim, args.heads, args.vocab, args.max_len, args.classes)
n_params = sum(p.numel() for p in model.parameters())
trainer = tc.Trainer(args, model, tc.optimizers("adamw"))
data = [batch_of(b) for b in batches()]


def step(i):
    batch, tokens = data[i % len(data)]
    return trainer.step(*batch), tokens


result = common.time_steps(args, step)
result.update(parameters=n_params, versions=tc.versions(), settings=vars(args),
              padding=1 - sum(d[1] for d in data) / sum(d[0][0].numel() for d in data))
common.emit(result)
