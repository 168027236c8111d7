"""In the place of `from sentence_transformers import SentenceTransformer`:

    from llvconv.sentence_transformer import SentenceTransformer

    model = SentenceTransformer("minilm-8bit.llv")
    model.similarity(model.encode_query("a fox"), model.encode_document(["a red fox", "a whale"]))

Encoding alone: a model is not trained here, and has no modules or tokenizer to change. What cannot be done is refused.
"""
from __future__ import annotations

import os
from typing import Any, Literal, Optional, Sequence

import numpy as np

from .errors import UnsupportedError
from .model import Item, Model, Precision, unit


class SentenceTransformer:
    """A model with sentence-transformers' names for what it does."""

    def __init__(self, model_name_or_path: str | os.PathLike[str], *, device: Optional[str] = None,
                 prompts: Optional[dict[str, str]] = None, default_prompt_name: Optional[str] = None,
                 truncate_dim: Optional[int] = None,
                 similarity_fn_name: Literal["cosine", "dot"] = "cosine", **options: Any):
        """`options` are those of `llvconv.Model`. Of devices, torch's names "cpu" and "cuda" are taken too."""
        own = {"cuda": "gpu", None: None}.get(device, device and device.replace("cuda:", "gpu:"))
        self.model = Model(model_name_or_path, device=own, **options)
        self.prompts = {**self.model.prompts, **(prompts or {})}
        self.default_prompt_name = default_prompt_name
        if default_prompt_name is not None and default_prompt_name not in self.prompts:
            raise ValueError(f"default_prompt_name {default_prompt_name!r} is not one of {sorted(self.prompts)}")
        self.truncate_dim = truncate_dim
        self.similarity_fn_name = similarity_fn_name

    @property
    def max_seq_length(self) -> int:
        return self.model.max_tokens

    def get_embedding_dimension(self) -> int:
        return min(self.truncate_dim or self.model.dimensions, self.model.dimensions)

    get_sentence_embedding_dimension = get_embedding_dimension

    def encode(self, sentences: Item | Sequence[Item], prompt_name: Optional[str] = None, prompt: Optional[str] = None,
               batch_size: int = 32, show_progress_bar: Optional[bool] = None,
               output_value: Optional[str] = "sentence_embedding", precision: Precision = "float32",
               convert_to_numpy: bool = True, convert_to_tensor: bool = False, device: Any = None,
               normalize_embeddings: bool = False, truncate_dim: Optional[int] = None, **options: Any) -> Any:
        """`SentenceTransformer.encode`. `batch_size` only says how often the bar moves; `device` is the model's own."""
        if output_value != "sentence_embedding":
            raise UnsupportedError(f"output_value {output_value!r}: a model gives sentence embeddings alone")
        if options:
            raise UnsupportedError(f"encode takes no {', '.join(sorted(options))}")
        if prompt is None:
            name = prompt_name if prompt_name is not None else self.default_prompt_name
            if name is not None and name not in self.prompts:
                raise ValueError(f"prompt_name {name!r} is not one of {sorted(self.prompts)}")
            prompt = self.prompts.get(name) if name is not None else None
        single = isinstance(sentences, (str, dict)) or not hasattr(sentences, "__len__")
        vectors = self.model.encode(
            [sentences] if single else list(sentences), prompt=prompt, batch_size=max(batch_size, 256),
            show_progress_bar=bool(show_progress_bar), precision=precision, normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim or self.truncate_dim)
        result = vectors[0] if single else vectors
        if convert_to_tensor:
            import torch
            return torch.from_numpy(result)
        if convert_to_numpy:
            return result
        import torch
        return torch.from_numpy(result) if single else list(torch.from_numpy(result))

    def encode_query(self, sentences: Item | Sequence[Item], prompt_name: Optional[str] = None,
                     prompt: Optional[str] = None, **options: Any) -> Any:
        return self.encode(sentences, self._prompt(prompt_name, prompt, "query"), prompt, **options)

    def encode_document(self, sentences: Item | Sequence[Item], prompt_name: Optional[str] = None,
                        prompt: Optional[str] = None, **options: Any) -> Any:
        return self.encode(sentences, self._prompt(prompt_name, prompt, "document", "passage", "corpus"), prompt,
                           **options)

    def _prompt(self, name: Optional[str], prompt: Optional[str], *names: str) -> Optional[str]:
        if name is not None or prompt is not None:
            return name
        return next((name for name in names if name in self.prompts), None)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Of each pair, as a tensor where torch is installed, as sentence-transformers has it."""
        a, b = self._sides(embeddings1, embeddings2)
        return tensor(a @ b.T)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        a, b = self._sides(embeddings1, embeddings2)
        return tensor((a * b).sum(axis=1))

    def _sides(self, *sides: Any) -> list[np.ndarray]:
        arrays = [np.atleast_2d(np.asarray(side, np.float32)) for side in sides]
        return [unit(array) for array in arrays] if self.similarity_fn_name == "cosine" else arrays


def tensor(array: np.ndarray) -> Any:
    try:
        import torch
    except ImportError:
        return array
    return torch.from_numpy(np.ascontiguousarray(array))
