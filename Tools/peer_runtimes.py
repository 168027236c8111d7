"""Other programs that run what llvconv exports, and llvconv itself, for Tools/peers-*: token ids and items to vectors.

llama.cpp by llama-cpp-python (its libmtmd for pictures), transformers with compressed-tensors, mlx-lm. Each is imported
when it is first asked for.
"""

import ctypes
import json
import os
import subprocess
import sys

# Before the libraries that read them: on a busy machine threads that spin cost ten times the work they do.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np

MEAN, LAST = 1, 3  # llama.cpp's numbers of the two ways of pooling

program = ".build/release/llvconv"
threads = 2  # of llama.cpp; 1 on a busy machine, where its threads spin


def command(*words, stdin=None):
    run = subprocess.run([*map(str, words)], capture_output=True, text=True, input=stdin)
    if run.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: {run.returncode}\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    return run.stdout


def llvconv(*words, stdin=None):
    return command(program, *words, stdin=stdin)


def json_lines(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def write_lines(path, lines):
    with open(path, "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def tokens(model, items):
    """The ids that a model sees of each item."""
    return [json.loads(line)["tokens"] for line in embedded(model, items, "--tokens")]


def embed(model, items, *words):
    """Vectors by llvconv."""
    return np.array([json.loads(line)["embedding"] for line in embedded(model, items, *words)])


def embedded(model, items, *words):
    return llvconv("embed", model, *words, stdin="".join(json.dumps(item) + "\n" for item in items)).splitlines()


def normalised(vectors):
    vectors = np.array(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# llama.cpp ----------------------------------------------------------------------------------------------------------


class Llama:
    """A GGUF file, or a pair of them, in llama.cpp."""

    def __init__(self, path, pooling, tower=None, context=512):
        import llama_cpp

        self.api, self.pooling = llama_cpp, pooling
        llama_cpp.llama_log_set(silent(), None)
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        assert self.model, f"llama.cpp cannot load {path}"
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = self.size = context
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.embeddings, parameters.pooling_type = True, pooling
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        self.width = llama_cpp.llama_model_n_embd(self.model)
        if tower:
            import llama_cpp.mtmd_cpp as mtmd

            self.mtmd = mtmd
            mtmd.mtmd_log_set(silent(), None)
            mtmd.mtmd_helper_log_set(silent(), None)
            parameters = mtmd.mtmd_context_params_default()
            parameters.use_gpu, parameters.n_threads, parameters.print_timings = False, threads, False
            self.marker = parameters.media_marker.decode()
            self.tower = mtmd.mtmd_init_from_file(tower.encode(), self.model, parameters)
            assert self.tower, f"libmtmd cannot load {tower}"

    def close(self):
        if hasattr(self, "tower"):
            self.mtmd.mtmd_free(self.tower)
        self.api.llama_free(self.context)
        self.api.llama_model_free(self.model)

    def clear(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)

    def vector(self):
        return np.array(self.api.llama_get_embeddings_seq(self.context, 0)[: self.width])

    def embed(self, ids):
        self.clear()
        held = (self.api.llama_token * len(ids))(*ids)  # the batch only points to it
        assert self.api.llama_decode(self.context, self.api.llama_batch_get_one(held, len(ids))) == 0
        return self.vector()

    def embed_picture(self, prompt, image):
        """`<image>` in the prompt stands for the picture. Also says how many tokens the whole was."""
        self.clear()
        bitmaps = (ctypes.c_void_p * 1)()
        loaded = self.mtmd.mtmd_helper_bitmap_init_from_file(self.tower, image.encode(), False)
        bitmaps[0] = getattr(loaded, "bitmap", loaded)
        text = self.mtmd.mtmd_input_text()
        text.text = prompt.replace("<image>", self.marker).encode()
        text.text_len, text.add_special, text.parse_special = len(text.text), False, True
        chunks = self.mtmd.mtmd_input_chunks_init()
        pointer = ctypes.cast(bitmaps, ctypes.POINTER(ctypes.c_void_p))
        assert self.mtmd.mtmd_tokenize(self.tower, chunks, ctypes.byref(text), pointer, 1) == 0
        parts = [self.mtmd.mtmd_input_chunks_get(chunks, i) for i in range(self.mtmd.mtmd_input_chunks_size(chunks))]
        count = sum(map(self.mtmd.mtmd_input_chunk_get_n_tokens, parts))
        past = ctypes.c_int32(0)
        done = self.mtmd.mtmd_helper_eval_chunks(
            self.tower, self.context, chunks, 0, 0, self.size, True, ctypes.byref(past)
        )
        assert done == 0, f"libmtmd: {done} for {image}"
        self.mtmd.mtmd_input_chunks_free(chunks)
        self.mtmd.mtmd_bitmap_free(bitmaps[0])
        return self.vector(), count


held_callbacks = []


def silent():
    """A function for their logs, which the libraries only point to."""
    import llama_cpp

    if not held_callbacks:
        held_callbacks.append(llama_cpp.llama_log_callback(lambda level, text, data: None))
    return held_callbacks[0]


def llama_embed(path, ids, pooling):
    """Vectors by llama.cpp, a text at a time."""
    model = Llama(path, pooling, context=max(512, max(map(len, ids))))
    vectors = normalised([model.embed(text) for text in ids])
    model.close()
    return vectors


# transformers -------------------------------------------------------------------------------------------------------


def torch_model(folder, pooling=LAST):
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # An encoder's pooler, which no embedding reads, is not in our folders.
    words = {"add_pooling_layer": False} if pooling == MEAN else {}
    return AutoModel.from_pretrained(folder, dtype=torch.float32, **words).eval()


def torch_embed(folder, ids, pooling):
    """Vectors by transformers, a text at a time; and whether inputs are rounded, None where the file does not ask."""
    import torch

    model = torch_model(folder, pooling)

    def embed(text):
        with torch.no_grad():
            states = model(input_ids=torch.tensor([text])).last_hidden_state[0]
        return (states.mean(0) if pooling == MEAN else states[-1]).numpy()

    vectors = normalised([embed(text) for text in ids])
    quantized = [module for module in model.modules() if hasattr(module, "quantization_scheme")]
    if not any(module.quantization_scheme.input_activations for module in quantized):
        return vectors, None
    for module in quantized:
        module.quantization_enabled = False
    return vectors, bool(np.abs(normalised([embed(ids[0])]) - vectors[0]).max() > 1e-5)


def undo_nothing(folder):
    """Leaves the codes in place when transformers loads a folder of ours, as it does with llmcompressor's."""
    with open(f"{folder}/config.json") as file:
        config = json.load(file)
    config["quantization_config"].pop("dequantize", None)
    with open(f"{folder}/config.json", "w") as file:
        json.dump(config, file)


# MLX ----------------------------------------------------------------------------------------------------------------


def mlx_embed(folder, ids):
    """Vectors by mlx-lm, of a language model's last states. Its loader refuses names and shapes that do not fit."""
    from pathlib import Path

    import mlx.core as mx
    from mlx_lm.utils import load_model

    model, _ = load_model(Path(folder), strict=True)
    return normalised([np.array(model.model(mx.array([text]))[0, -1].astype(mx.float32)) for text in ids])
