"""The optimizer's part of a step alone (clipping and update) on the shapes of a GPT-2 in PyTorch.
One "token" is one step."""
import common
import torch
import torch_common as tc

p = common.parser(__doc__)
p.add_argument("--layers", type=int, default=12)
p.add_argument("--dim", type=int, default=768)
p.add_argument("--heads", type=int, default=12)
p.add_argument("--vocab", type=int, default=50304)
p.add_argument("--seq", type=int, default=1024)
p.add_argument("--optim", default="adamw", choices=["adamw", "muon"])
args = p.parse_args()
tc.setup(args)
model = tc.Model("gpt2", args.layers, args.dim, args.heads, args.vocab, args.seq)
params = list(model.parameters())
for q in params:
    q.grad = torch.randn_like(q) * 1e-3
optimizers = tc.optimizers(args.optim)(params)


def update():
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    for o in optimizers:
        o.step()


run = torch.compile(update) if args.compile else update


def step(i):
    run()
    return 0, 1


result = common.time_steps(args, step)
result.update(parameters=sum(q.numel() for q in params), versions=tc.versions(),
              settings=vars(args))
common.emit(result)
