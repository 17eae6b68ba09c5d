#!/usr/bin/env python3
"""Makes tests/golden/models/vit/: a tiny ViTForImageClassification as `transformers` saves it, and
what PyTorch computes with it: logits, loss, the gradient of every parameter, and positions resized
to another grid. tests/golden/test_vit.c compares ours with them. And tests/golden/models/resnet-*/:
two tiny ResNets, with the logits of evaluation, then logits, loss, gradients and running statistics
of a training pass (test_resnet.c).

    /tmp/venv/bin/python tools/make_image_goldens.py tests/golden/models
"""
import os
import sys

import torch
import transformers
from safetensors.torch import save_file


def vit(out):
    g = torch.Generator().manual_seed(5)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        image_size=12, patch_size=4, num_channels=3, layer_norm_eps=1e-3, hidden_dropout_prob=0,
        attention_probs_dropout_prob=0, num_labels=5, attn_implementation="eager")
    model = transformers.ViTForImageClassification(config).eval()
    for name, p in model.named_parameters():
        gain = p.dim() == 1 and name.endswith("weight")
        p.data = torch.randn(p.shape, generator=g) * (0.2 if p.dim() == 1 else 0.25)
        p.data += 1 if gain else 0
        p.data = p.data.bfloat16().float()
    folder = os.path.join(out, "vit")
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
    saved = set()
    for line in open(os.path.join(folder, "model.safetensors"), "rb").read()[8:].split(b'"'):
        saved.add(line.decode("latin-1"))
    for name, p in model.named_parameters():
        if name not in saved:  # libraries may have other names inside than in files
            print("not a name in the file:", name, file=sys.stderr)
        tensors["grad." + name] = p.grad
    save_file(tensors, os.path.join(folder, "golden.safetensors"))


def resnet(out, name, **sizes):
    g = torch.Generator().manual_seed(6)
    config = transformers.ResNetConfig(num_channels=3, num_labels=5, **sizes)
    model = transformers.ResNetForImageClassification(config)
    for key, p in list(model.named_parameters()) + list(model.named_buffers()):
        if p.dtype != torch.float32:
            continue
        positive = key.endswith("running_var") or (p.dim() == 1 and key.endswith("weight"))
        scale = 0.2 if p.dim() == 1 else (2 / p[0].numel()) ** 0.5
        p.data = torch.randn(p.shape, generator=g) * scale + (1 if positive else 0)
        p.data = p.data.bfloat16().float()
    folder = os.path.join(out, name)
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


vit(sys.argv[1])
resnet(sys.argv[1], "resnet-basic", embedding_size=6, hidden_sizes=[6, 10], depths=[2, 1],
       layer_type="basic")
resnet(sys.argv[1], "resnet-bottleneck", embedding_size=4, hidden_sizes=[8, 12, 16],
       depths=[1, 2, 1], layer_type="bottleneck", downsample_in_first_stage=True)
