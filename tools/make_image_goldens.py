#!/usr/bin/env python3
"""Makes tests/golden/models/vit/ and vit_mae/: a tiny ViTForImageClassification and a tiny
ViTMAEForPreTraining as `transformers` saves them, and what PyTorch computes with them: logits, loss,
the gradient of every parameter, and positions resized to another grid. tests/golden/test_vit.c and
test_mae.c compare ours with them. And tests/golden/models/resnet-*/: two tiny ResNets, with the
logits of evaluation, then logits, loss, gradients and running statistics of a training pass
(test_resnet.c).

    /tmp/venv/bin/python tools/make_image_goldens.py tests/golden/models [vit] [vit_mae] ...
"""
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


def resnet(folder, **sizes):
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


makers = {
    "vit": vit,
    "vit_mae": vit_mae,
    "resnet-basic": lambda folder: resnet(
        folder, embedding_size=6, hidden_sizes=[6, 10], depths=[2, 1], layer_type="basic"),
    "resnet-bottleneck": lambda folder: resnet(
        folder, embedding_size=4, hidden_sizes=[8, 12, 16], depths=[1, 2, 1],
        layer_type="bottleneck", downsample_in_first_stage=True),
}
for kind in sys.argv[2:] or makers:
    makers[kind](os.path.join(sys.argv[1], kind))
