"""Writes a BERT checkpoint with random weights: make-bert.py BF16|F32 FOLDER LAYERS VOCABULARY (hidden 1024)."""
import json
import os
import struct
import sys

import numpy as np

kind, folder, layers, vocabulary = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
hidden, inner = 1024, 4096
os.makedirs(folder)
shapes = {"embeddings.word_embeddings.weight": (vocabulary, hidden), "embeddings.position_embeddings.weight": (512, hidden),
          "embeddings.token_type_embeddings.weight": (2, hidden), "embeddings.LayerNorm.weight": (hidden,),
          "embeddings.LayerNorm.bias": (hidden,)}
for layer in range(layers):
    prefix = f"encoder.layer.{layer}."
    for part, out, width in (("attention.self.query", hidden, hidden), ("attention.self.key", hidden, hidden),
                             ("attention.self.value", hidden, hidden), ("attention.output.dense", hidden, hidden),
                             ("intermediate.dense", inner, hidden), ("output.dense", hidden, inner)):
        shapes[prefix + part + ".weight"], shapes[prefix + part + ".bias"] = (out, width), (out,)
    for part in ("attention.output.LayerNorm", "output.LayerNorm"):
        shapes[prefix + part + ".weight"], shapes[prefix + part + ".bias"] = (hidden,), (hidden,)
header, at, width = {}, 0, 2 if kind == "BF16" else 4
for name, shape in shapes.items():
    size = int(np.prod(shape)) * width
    header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + size]}
    at += size
text = json.dumps(header).encode()
rng = np.random.default_rng(0)
with open(folder + "/model.safetensors", "wb") as out:
    out.write(struct.pack("<Q", len(text)) + text)
    for shape in shapes.values():
        values = rng.standard_normal(int(np.prod(shape)), dtype=np.float32) * 0.05
        out.write((values.view(np.uint32) >> 16).astype("<u2").tobytes() if width == 2 else values.tobytes())
json.dump({"model_type": "bert", "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": 16,
           "intermediate_size": inner, "vocab_size": vocabulary, "max_position_embeddings": 512, "type_vocab_size": 2},
          open(folder + "/config.json", "w"))
open(folder + "/vocab.txt", "w").write("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
