"""A Qwen2 body of the 0.5B size with random weights and the small tokenizer of Tests/Goldens, for Tools/peers-*."""

import json
import os
import shutil

import numpy as np
from safetensors.numpy import save_file

TOKENIZER = os.path.join(os.path.dirname(__file__), "../Tests/Goldens/llave/model/tokenizer.json")
WIDTH, LAYERS, INNER, KEYS, VOCABULARY = 896, 24, 4864, 128, 151936


def write(folder, layers=LAYERS, vocabulary=VOCABULARY):
    """The same checkpoint, in half precision, each time; with fewer layers and tokens where they cost too much."""
    r = np.random.default_rng(1)
    tensors = {
        "model.embed_tokens.weight": r.standard_normal((vocabulary, WIDTH), dtype=np.float32) * 0.02,
        "model.norm.weight": np.ones(WIDTH, np.float32),
    }
    shapes = {
        "self_attn.q_proj": (WIDTH, WIDTH),
        "self_attn.k_proj": (KEYS, WIDTH),
        "self_attn.v_proj": (KEYS, WIDTH),
        "self_attn.o_proj": (WIDTH, WIDTH),
        "mlp.gate_proj": (INNER, WIDTH),
        "mlp.up_proj": (INNER, WIDTH),
        "mlp.down_proj": (WIDTH, INNER),
    }
    for layer in range(layers):
        stem = f"model.layers.{layer}."
        for name, shape in shapes.items():
            scale = np.float32(shape[1] ** -0.5)
            tensors[f"{stem}{name}.weight"] = r.standard_normal(shape, dtype=np.float32) * scale
        for name in ("q", "k", "v"):
            size = shapes[f"self_attn.{name}_proj"][0]
            tensors[f"{stem}self_attn.{name}_proj.bias"] = r.standard_normal(size, dtype=np.float32) * 0.1
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{stem}{name}.weight"] = np.ones(WIDTH, np.float32)
    config = {
        "model_type": "qwen2",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": vocabulary,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "max_position_embeddings": 32768,
    }
    os.makedirs(folder, exist_ok=True)
    save_file({name: array.astype(np.float16) for name, array in tensors.items()}, f"{folder}/model.safetensors")
    with open(f"{folder}/config.json", "w") as file:
        json.dump(config, file)
    shutil.copyfile(TOKENIZER, f"{folder}/tokenizer.json")
