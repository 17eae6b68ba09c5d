#!/usr/bin/env python3
"""Makes tests/golden/gguf/blocks.gguf: random blocks of the quantized types, and their values as the `gguf` package
reads them.

usage: gguf_goldens.py     (in the repository, Python with `gguf`)
"""
import os

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, GGUFWriter
from gguf.quants import dequantize

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../golden/gguf")
SCALES = {T.Q8_0: [0], T.Q4_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.BF16: []}  # halves in a block

os.makedirs(OUT, exist_ok=True)
random = np.random.RandomState(1)
w = GGUFWriter(os.path.join(OUT, "blocks.gguf"), "none")
for kind, scales in SCALES.items():
    elements, size = GGML_QUANT_SIZES[kind]
    n = 3 if elements > 1 else 32
    blocks = random.randint(0, 256, (n, size)).astype(np.uint8)
    if kind == T.BF16:
        blocks[:, 1] &= 0xBF  # no infinities
    for at in scales:
        blocks[:, at:at + 2] = random.normal(0, 0.01, n).astype(np.float16).view(np.uint8).reshape(n, 2)
    blocks = blocks.reshape(1, -1)
    w.add_tensor(kind.name, blocks, raw_dtype=kind)
    w.add_tensor(kind.name + ".values", dequantize(blocks, kind).astype(np.float32))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
