#!/usr/bin/env python3
"""Makes tests/golden/models/vit/ and vit_mae/: a tiny ViTForImageClassification and a tiny
ViTMAEForPreTraining as `transformers` saves them, and what PyTorch computes with them: logits, loss,
the gradient of every parameter, and positions resized to another grid. tests/golden/test_vit.c and
test_mae.c compare ours with them. And tests/golden/models/resnet-*/: two tiny ResNets, with the
logits of evaluation, then logits, loss, gradients and running statistics of a training pass; the
same of a tiny U-Net, written here (test_convnets.c).

    /tmp/venv/bin/python tools/make_image_goldens.py tests/golden/models [vit] [vit_mae] ...
"""
import json
import os
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file


def randomize(model, g):
    """Weights that bfloat16 holds, so that the files are small and both sides read the same."""
    for name, p in model.named_parameters():
        gain = p.dim() == 1 and name.endswith("weight")
        p.data = torch.randn(p.shape, generator=g) * (0.2 if p.dim() == 1 else 0.25)
        p.data += 1 if gain else 0
        p.data = p.data.bfloat16().float()


def save_gradients(model, folder, tensors):
    saved = set()
    for line in open(os.path.join(folder, "model.safetensors"), "rb").read()[8:].split(b'"'):
        saved.add(line.decode("latin-1"))
    for name, p in model.named_parameters():
        if name not in saved:  # libraries may have other names inside than in files
            print("not a name in the file:", name, file=sys.stderr)
        if p.grad is not None:
            tensors["grad." + name] = p.grad
    save_file(tensors, os.path.join(folder, "golden.safetensors"))


def vit(folder):
    g = torch.Generator().manual_seed(5)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        image_size=12, patch_size=4, num_channels=3, layer_norm_eps=1e-3, hidden_dropout_prob=0,
        attention_probs_dropout_prob=0, num_labels=5, attn_implementation="eager")
    model = transformers.ViTForImageClassification(config).eval()
    randomize(model, g)
    model.bfloat16().save_pretrained(folder)
    model = model.float()
    pictures = torch.randn(3, 3, 12, 12, generator=g)
    targets = torch.tensor([4, 0, 2])
    logits = model(pixel_values=pictures).logits
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    loss.backward()
    pos = model.vit.embeddings.position_embeddings
    grid = pos[0, 1:].T.reshape(1, 32, 3, 3)
    resized = torch.nn.functional.interpolate(grid, size=(5, 5), mode="bicubic", align_corners=False)
    tensors = {"pictures": pictures, "targets": targets.int(), "logits": logits.detach(),
               "loss": loss.detach().reshape(1),
               "resized": resized[0].reshape(32, 25).T.contiguous().detach()}
    save_gradients(model, folder, tensors)


def publish_names(folder):
    """transformers 5 reads the names of published files, but writes others for the decoder."""
    path = os.path.join(folder, "model.safetensors")
    tensors = {name.replace("decoder_encoder.layer.", "decoder_layers."): t
               for name, t in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})


def vit_mae(folder):
    g = torch.Generator().manual_seed(6)
    config = transformers.ViTMAEConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48,
        image_size=12, patch_size=4, num_channels=3, layer_norm_eps=1e-3, decoder_hidden_size=24,
        decoder_num_hidden_layers=2, decoder_num_attention_heads=2, decoder_intermediate_size=96,
        mask_ratio=0.7, norm_pix_loss=True, attn_implementation="eager")
    model = transformers.ViTMAEForPreTraining(config).eval()
    randomize(model, g)
    model.bfloat16().save_pretrained(folder)
    publish_names(folder)
    model = transformers.ViTMAEForPreTraining.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()
    pictures = torch.randn(3, 3, 12, 12, generator=g)
    noise = torch.rand(3, 9, generator=g)
    out = model(pixel_values=pictures, noise=noise)
    out.loss.backward()
    tensors = {"pictures": pictures, "mask": out.mask.int(), "logits": out.logits.detach().contiguous(),
               "loss": out.loss.detach().reshape(1)}
    save_gradients(model, folder, tensors)


def randomize_convolutions(model, g):
    """The same where there are batch norms, and variances."""
    for key, p in list(model.named_parameters()) + list(model.named_buffers()):
        if p.dtype != torch.float32:
            continue
        positive = key.endswith("running_var") or (p.dim() == 1 and key.endswith("weight"))
        scale = 0.2 if p.dim() == 1 else (2 / p[0].numel()) ** 0.5
        p.data = torch.randn(p.shape, generator=g) * scale + (1 if positive else 0)
        p.data = p.data.bfloat16().float()


def resnet(folder, **sizes):
    g = torch.Generator().manual_seed(6)
    config = transformers.ResNetConfig(num_channels=3, num_labels=5, **sizes)
    model = transformers.ResNetForImageClassification(config)
    randomize_convolutions(model, g)
    model.bfloat16().save_pretrained(folder)
    model = model.float()
    pictures = torch.randn(4, 3, 37, 37, generator=g)
    targets = torch.tensor([4, 0, 2, 2])
    tensors = {"pictures": pictures, "targets": targets.int(),
               "plain": model.eval()(pixel_values=pictures).logits.detach()}
    logits = model.train()(pixel_values=pictures).logits
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    loss.backward()
    tensors |= {"logits": logits.detach(), "loss": loss.detach().reshape(1)}
    tensors |= {"grad." + key: p.grad for key, p in model.named_parameters()}
    tensors |= {"after." + key: p for key, p in model.named_buffers() if "running" in key}
    save_file(tensors, os.path.join(folder, "golden.safetensors"))


class UNet(torch.nn.Module):
    """The form of src/models/unet.c out of PyTorch's own convolutions: levels of two, pooling on the
    way down, transposed convolutions on the way up. Their weights are kept as ours have them:
    [2 2 outputs][inputs], with a bias for each of the four pixels."""

    def __init__(self, levels, dim, channels, classes):
        super().__init__()
        self.levels, tree, parameter = levels, {}, lambda *s: torch.nn.Parameter(torch.zeros(s))

        def add_level(name, inputs, outputs):
            for i, c in enumerate((inputs, outputs)):
                tree[f"{name}.layer.{i}.convolution"] = torch.nn.Conv2d(
                    c, outputs, 3, padding=1, bias=False)
                tree[f"{name}.layer.{i}.normalization"] = torch.nn.BatchNorm2d(outputs)

        for level in range(levels):
            add_level(f"unet.down.{level}", dim << level >> 1 if level else channels, dim << level)
        for level in range(levels - 1):
            tree[f"unet.up.{level}.expand"] = torch.nn.ParameterDict(
                {"weight": parameter(4 * dim << level, 2 * dim << level),
                 "bias": parameter(4 * dim << level)})
            add_level(f"unet.up.{level}", dim << level, dim << level)
        tree["decode_head.classifier"] = torch.nn.Conv2d(dim, classes, 1)
        self.tree = torch.nn.ModuleDict({k.replace(".", "/"): m for k, m in tree.items()})

    def part(self, name):
        return self.tree[name.replace(".", "/")]

    def level(self, name, x):
        for i in (0, 1):
            x = self.part(f"{name}.layer.{i}.convolution")(x)
            x = self.part(f"{name}.layer.{i}.normalization")(x).relu()
        return x

    def expand(self, name, x):
        part = self.part(name)
        columns, inputs = part["weight"].shape[0] // 4, part["weight"].shape[1]
        weight = part["weight"].reshape(2, 2, columns, inputs).permute(3, 2, 0, 1)
        bias = part["bias"].reshape(2, 2, columns).permute(2, 0, 1)
        y = torch.nn.functional.conv_transpose2d(x, weight, stride=2)
        return y + bias.repeat(1, x.shape[2], x.shape[3])

    def forward(self, x):
        skips = []
        for level in range(self.levels):
            x = self.level(f"unet.down.{level}", x if level == 0 else
                           torch.nn.functional.max_pool2d(x, 2))
            skips.append(x)
        for level in reversed(range(self.levels - 1)):
            x = skips[level] + self.expand(f"unet.up.{level}.expand", x)
            x = self.level(f"unet.up.{level}", x)
        return self.part("decode_head.classifier")(x)


def unet(folder):
    g = torch.Generator().manual_seed(7)
    model = UNet(levels=3, dim=4, channels=3, classes=3)
    ours = lambda key: key.removeprefix("tree.").replace("/", ".")
    rows = lambda t: t.permute(0, 2, 3, 1).reshape(-1, t.shape[1]).contiguous()
    randomize_convolutions(model, g)
    kept = {ours(key): p.detach().bfloat16().squeeze((2, 3)) if "classifier" in key and p.dim() == 4
            else p.detach().bfloat16() for key, p in model.state_dict().items() if "num_" not in key}
    os.makedirs(folder, exist_ok=True)
    save_file(kept, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({"architectures": ["TilthUNetForSemanticSegmentation"], "model_type": "tilth_unet",
                   "hidden_size": 4, "num_hidden_layers": 3, "image_size": 12, "num_channels": 3,
                   "batch_norm_eps": 1e-5, "hidden_act": "relu",
                   "id2label": {str(i): f"LABEL_{i}" for i in range(3)}}, f, indent=2)
    pictures = torch.randn(3, 3, 12, 12, generator=g)
    targets = torch.randint(-1, 3, (3, 12, 12), generator=g)
    weights = torch.tensor([1, 0.5, 2])
    plain = rows(model.eval()(pictures)).detach()
    logits = rows(model.train()(pictures))
    loss = torch.nn.functional.cross_entropy(logits, targets.reshape(-1), weights, ignore_index=-1,
                                             reduction="sum")
    loss.backward()
    tensors = {"pictures": pictures, "targets": targets.int(), "weights": weights, "plain": plain,
               "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    tensors |= {"grad." + ours(key): p.grad for key, p in model.named_parameters()}
    tensors |= {"after." + ours(key): p for key, p in model.named_buffers() if "running" in key}
    save_file(tensors, os.path.join(folder, "golden.safetensors"))


makers = {
    "vit": vit,
    "vit_mae": vit_mae,
    "resnet-basic": lambda folder: resnet(
        folder, embedding_size=6, hidden_sizes=[6, 10], depths=[2, 1], layer_type="basic"),
    "resnet-bottleneck": lambda folder: resnet(
        folder, embedding_size=4, hidden_sizes=[8, 12, 16], depths=[1, 2, 1],
        layer_type="bottleneck", downsample_in_first_stage=True),
    "unet": unet,
}
for kind in sys.argv[2:] or makers:
    makers[kind](os.path.join(sys.argv[1], kind))
