"""llvconv models for mteb: `mteb.evaluate(llvconv.mteb.Encoder("model.llv"), tasks)`.

`meta(path)` is a ModelMeta whose loader opens the model, for lists of models and result folders.
"""
from __future__ import annotations

import os
from typing import Any, Optional

import numpy as np
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder

from .model import Model


def meta(path: str | os.PathLike[str], model: Optional[Model] = None) -> ModelMeta:
    """What mteb wants to know of a model: its name is `llvconv/NAME-OF-FILE`, its revision the checksum of its content.
    """
    model = model or Model(path)
    name = os.path.basename(os.path.normpath(os.fspath(path))).removesuffix(".llv")
    return ModelMeta(
        loader=Encoder, loader_kwargs={"path": os.fspath(path)}, name=f"llvconv/{name}", revision=model.checksum,
        release_date=None, languages=None, n_parameters=None,
        memory_usage_mb=os.path.getsize(path) / 2**20 if os.path.isfile(path) else None, max_tokens=model.max_tokens,
        embed_dim=model.dimensions, license=None, open_weights=True, public_training_code=None,
        public_training_data=None, framework=[], similarity_fn_name="cosine", use_instructions=bool(model.prompts),
        training_datasets=None, modalities=["text"] * model.takes_text + ["image"] * model.takes_pictures)


class Encoder(AbsEncoder):
    """A model as mteb's EncoderProtocol has it: texts, pictures, and both in one."""

    def __init__(self, model_name: str | os.PathLike[str] = "", revision: Optional[str] = None, *,
                 path: str | os.PathLike[str] | None = None, device: Optional[str] = None, **options: Any):
        """`path` is the model's file; without it `model_name` is."""
        file = path if path is not None else model_name
        # mteb names devices as torch does.
        own = {"device": "gpu"} if device and device.startswith("cuda") else {}
        self.model = Model(file, **own, **options)
        self.mteb_model_meta = meta(file, self.model)
        self.model_prompts = self.model.prompts

    def encode(self, inputs: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, prompt_type: Any = None,
               **options: Any) -> np.ndarray:
        prompt_name = self.get_prompt_name(task_metadata, prompt_type) if self.model_prompts else None
        parts = []
        for batch in inputs:
            columns = {name: batch[name] for name in ("text", "image") if name in batch}
            items = [dict(zip(columns, values)) for values in zip(*columns.values())]
            parts.append(self.model.encode([item["text"] if set(item) == {"text"} else marked(item) for item in items],
                                           prompt_name=prompt_name))
        return np.concatenate(parts)


def marked(item: dict[str, Any]) -> dict[str, Any]:
    """An item whose text says where its picture stands: before it."""
    if item.get("text") is not None and item.get("image") is not None and "<image>" not in item["text"]:
        return {**item, "text": "<image>\n" + item["text"]}
    return item
