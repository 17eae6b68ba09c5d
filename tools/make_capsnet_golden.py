#!/usr/bin/env python3
"""Makes tests/golden/capsnet.safetensors: what PyTorch computes in f64, from the paper's equations
written down once more, for a tiny CapsNet: lengths, loss, reconstructions and gradients. Weights and
pictures are a formula of their place, which tests/golden/test_capsnet.c has too, so they need no file;
of gradients larger than 4,096 values every 997th is kept.

    python tools/make_capsnet_golden.py tests/golden/capsnet.safetensors
"""
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

N, SIZE, CHANNELS, DIM, MAPS, CLASSES, ITERATIONS, WEIGHT = 4, 20, 3, 5, 2, 3, 3, 0.02
GRID = ((SIZE - 8) - 9) // 2 + 1
PIXELS = SIZE * SIZE * CHANNELS


def values(salt, shape, scale, offset=0.0):
    """(hash(i, salt) / 2^16 - 0.5) * scale + offset, in f32"""
    i = np.arange(int(np.prod(shape)), dtype=np.uint32)
    h = (i * np.uint32(2654435761) + np.uint32(salt * 40503)).astype(np.uint32)
    h ^= h >> np.uint32(15)
    h = (h * np.uint32(2246822519)).astype(np.uint32)
    v = (h >> np.uint32(16)).astype(np.float32) / np.float32(65536) - np.float32(0.5)
    v = v * np.float32(scale) + np.float32(offset)
    return torch.tensor(v.reshape(shape), dtype=torch.float64, requires_grad=True)


def squash(s):
    q = (s * s).sum(-1, keepdim=True)
    return q / (1 + q) * s / q.sqrt()


def main(path):
    p = {"capsnet.layer.0.weight": values(1, (DIM, CHANNELS, 9, 9), 0.4),
         "capsnet.layer.0.bias": values(2, (DIM,), 0.2),
         "capsnet.layer.1.weight": values(3, (MAPS * 8, DIM, 9, 9), 0.3),
         "capsnet.layer.1.bias": values(4, (MAPS * 8,), 0.2),
         "classifier.weight": values(5, (GRID * GRID * MAPS, 8, CLASSES, 16), 2.0),
         "decoder.in.weight": values(6, (512, CLASSES * 16), 1.0),
         "decoder.in.bias": values(7, (512,), 0.2),
         "decoder.hidden.weight": values(8, (1024, 512), 0.2),
         "decoder.hidden.bias": values(9, (1024,), 0.2),
         "decoder.out.weight": values(10, (PIXELS, 1024), 0.1),
         "decoder.out.bias": values(11, (PIXELS,), 0.2)}
    pictures = values(12, (N, CHANNELS, SIZE, SIZE), 1.0, 0.5).detach()
    label = torch.arange(N) % CLASSES
    targets = torch.nn.functional.one_hot(label, CLASSES).double()
    x = torch.relu(torch.nn.functional.conv2d(pictures, p["capsnet.layer.0.weight"],
                                              p["capsnet.layer.0.bias"]))
    x = torch.nn.functional.conv2d(x, p["capsnet.layer.1.weight"], p["capsnet.layer.1.bias"], stride=2)
    u = squash(x.reshape(N, MAPS, 8, GRID, GRID).permute(0, 3, 4, 1, 2).reshape(N, -1, 8))
    u_hat = torch.einsum("nik,ikjd->nijd", u, p["classifier.weight"])
    b = torch.zeros(N, u.shape[1], CLASSES, dtype=torch.float64)
    for _ in range(ITERATIONS):
        c = b.softmax(-1)
        v = squash((c[..., None] * u_hat).sum(1))
        b = b + (u_hat * v[:, None]).sum(-1)
    length = (v * v).sum(-1).sqrt()
    margin = targets * torch.relu(0.9 - length) ** 2 + 0.5 * (1 - targets) * torch.relu(length - 0.1) ** 2
    y = (v * targets[..., None]).reshape(N, -1)
    for name in ("in", "hidden"):
        y = torch.relu(y @ p[f"decoder.{name}.weight"].T + p[f"decoder.{name}.bias"])
    y = torch.sigmoid(y @ p["decoder.out.weight"].T + p["decoder.out.bias"])
    error = (y - pictures.permute(0, 2, 3, 1).reshape(N, -1)) ** 2
    loss = margin.sum() + WEIGHT * error.sum()
    loss.backward()
    out = {"lengths": length, "loss": loss.reshape(1), "capsules": v, "made": y}
    for name, w in p.items():
        g = w.grad.flatten()
        out["grad." + name] = g if len(g) <= 4096 else g[::997]
    save_file({k: np.ascontiguousarray(t.detach().numpy().astype(np.float32)) for k, t in out.items()}, path)
    print("loss", loss.item(), "lengths", length[0].tolist())


main(sys.argv[1])
