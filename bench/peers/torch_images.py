"""Training steps of a picture classifier in PyTorch: a vision transformer, or a residual network in
the memory format that is the faster one for it (channels_last)."""
import common
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch_common as tc


class ViT(nn.Module):
    """As published (DeiT's sizes): a class token, learned positions, norms before."""

    def __init__(self, side, patch, layers, dim, heads, classes):
        super().__init__()
        self.patch = nn.Conv2d(3, dim, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, dim) * 0.02)
        self.blocks = nn.ModuleList(tc.Block(dim, heads, True, False) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, std=0.02)
                nn.init.zeros_(m.bias)

    def forward(self, x, targets):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.pos
        for b in self.blocks:
            x = b(x, None)
        return F.cross_entropy(self.head(self.norm(x[:, 0])).float(), targets)


def conv_norm(inputs, outputs, kernel, stride):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
                         nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = conv_norm(inputs, outputs, 3, stride)
        self.second = conv_norm(outputs, outputs, 3, 1)
        same = inputs == outputs and stride == 1
        self.around = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride)

    def forward(self, x):
        return F.relu(self.second(F.relu(self.first(x))) + self.around(x))


class ResNet(nn.Module):
    """A 3 x 3 stem, then stages of residual layers, each on half the side of the one before."""

    def __init__(self, stem, depths, widths, classes):
        super().__init__()
        self.stem = conv_norm(3, stem, 3, 1)
        inputs = [stem, *widths]
        self.layers = nn.Sequential(*(
            Residual(inputs[s] if i == 0 else w, w, 2 if i == 0 else 1)
            for s, w in enumerate(widths) for i in range(depths[s])))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x, targets):
        x = self.layers(F.relu(self.stem(x))).mean((2, 3))
        return F.cross_entropy(self.head(x).float(), targets)


def numbers(text):
    return [int(x) for x in text.split(",")]


p = common.parser(__doc__)
p.add_argument("--kind", default="vit", choices=["vit", "resnet"])
p.add_argument("--side", type=int, default=32)
p.add_argument("--patch", type=int, default=4)
p.add_argument("--layers", type=int, default=12)
p.add_argument("--dim", type=int, default=192)
p.add_argument("--heads", type=int, default=3)
p.add_argument("--stem", type=int, default=32)
p.add_argument("--depths", type=numbers, default=[2, 2, 2])
p.add_argument("--widths", type=numbers, default=[64, 128, 256])
p.add_argument("--classes", type=int, default=10)
p.add_argument("--batch", type=int, default=128)
args = p.parse_args()
tc.setup(args)

pictures = torch.randn(args.batch, 3, args.side, args.side)
targets = torch.randint(0, args.classes, (args.batch,))
if args.kind == "vit":
    model = ViT(args.side, args.patch, args.layers, args.dim, args.heads, args.classes)
else:
    model = ResNet(args.stem, args.depths, args.widths, args.classes)
    model = model.to(memory_format=torch.channels_last)
    pictures = pictures.to(memory_format=torch.channels_last)
n_params = sum(p.numel() for p in model.parameters())
trainer = tc.Trainer(args, model, tc.optimizers("adamw"))
result = common.time_steps(args, lambda i: (trainer.step(pictures, targets), args.batch))
result.update(parameters=n_params, versions=tc.versions(), settings=vars(args))
common.emit(result)
