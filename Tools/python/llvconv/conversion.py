"""Models made, made smaller, and held to what they were made from."""
from __future__ import annotations

import ctypes
import json
import os
import pathlib
import tempfile
from dataclasses import dataclass
from typing import Any, Callable, Optional, Sequence

import numpy as np

from . import _library

#: Is told what is being done, and which share of it is.
Progress = Callable[[str, float], None]


def import_(source: str | os.PathLike[str], output: str | os.PathLike[str], *, progress: Optional[Progress] = None,
            force: bool = False, **options: Any) -> dict[str, Any]:
    """Turns a checkpoint into an `.llv` container, losslessly; the file appears whole or not at all.

    Args:
        source: a model folder as hubs lay it out, a `.safetensors` or a GGUF file.
        output: where to write.
        progress: called with what is being done and the share of it that is done.
        force: whether an output that exists is replaced.
        options: tokenizer, mmproj, adapter, config, drop_unused, threads, as `llvconv import --help` explains them.

    Returns:
        file, file_bytes, architecture, tensors, unused.
    """
    return _call(_library.import_, [_library.path(source), _library.path(output)], dict(options, force=force), progress)


def quantize(model: str | os.PathLike[str], output: str | os.PathLike[str], *, progress: Optional[Progress] = None,
             force: bool = False, **options: Any) -> dict[str, Any]:
    """Makes a container's weights smaller; the file appears whole or not at all.

    Args:
        model: an `.llv` container.
        output: where to write.
        options: one of bits, size, weights, plan; and calibration, group, activations, tensor=[...], ..., as
            `llvconv quantize --help` explains them: `quantize("m.llv", "m4.llv", bits=4)`.

    Returns:
        file, file_bytes, bytes_before, bytes_after, bits_per_weight, largest_relative_error, clamped, vanished_groups,
        seconds.
    """
    return _call(_library.quantize, [_library.path(model), _library.path(output)], dict(options, force=force), progress)


@dataclass(frozen=True)
class Verification:
    """Whether candidates still retrieve what their reference retrieves."""

    #: "pass", "fail" or "inconclusive": the worst of all candidates'.
    verdict: str
    #: All numbers, as `llvconv verify --json` prints them; a list where there are several candidates.
    report: Any
    #: A page with plots, in HTML.
    page: str

    @property
    def passes(self) -> bool:
        return self.verdict == "pass"


def verify(candidates: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *,
           reference: str | os.PathLike[str], data: str | os.PathLike[str], progress: Optional[Progress] = None,
           **options: Any) -> Verification:
    """Embeds a file of labelled pairs with candidates and reference, and compares vectors, rankings, and new queries
    against old documents.

    Args:
        options: min_cosine, min_overlap, max_recall_drop, allow, no_layers, no_cache, ..., as `llvconv verify --help`
            explains them.
    """
    found = _call(_library.verify, [*_paths(candidates), _library.path(reference), _library.path(data)], options, progress)
    return Verification(**found)


class Anchors:
    """What lies beside an index: some of its items, the vectors that its encoder gave them, and what they find in it.
    With them any encoder is held to the index in seconds, without the one that made it and without its documents.

        anchors = llvconv.Anchors.make("encoder.llv", "index.anchors", data="pairs.jsonl")
        anchors.verify("encoder-4bit.llv").verdict
        anchors.verify(np.stack([other_encoder(item) for item in anchors.items()])).verdict
        anchors.verify(endpoint="http://localhost:8080/v1/embeddings", endpoint_model="encoder").verdict
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = os.fspath(path)

    @classmethod
    def make(cls, model: str | os.PathLike[str] | None, output: str | os.PathLike[str], *, data: str | os.PathLike[str],
             progress: Optional[Progress] = None, force: bool = False, **options: Any) -> Anchors:
        """Chooses items of the data, embeds them, and writes them with what they find; the file appears whole or not at
        all.

        Args:
            model: what the index was made with; None with `vectors="q.npy,d.npy"`, vectors that it made.
            data: pairs or items of the kind that the index serves, in JSON lines.
            options: index, count, seed, neighbours, metric, min_cosine, ..., as `llvconv anchors --help` explains them.
        """
        _call(_library.anchors, [None if model is None else _library.path(model), _library.path(data),
                                 _library.path(output)], dict(options, force=force), progress)
        return cls(output)

    def items(self) -> list[dict[str, Any]]:
        """What is to be embedded, in order: dicts with `id` and with `text`, `instruction`, `images` (the bytes of
        files) where an item has them, as `Model.encode` takes them."""
        with tempfile.TemporaryDirectory() as folder:
            path, error = os.path.join(folder, "items.jsonl"), ctypes.c_void_p()
            _library.check(_library.anchor_items(_library.path(self.path), _library.path(path), None, ctypes.byref(error)),
                           error)
            with open(path, encoding="utf-8") as lines:
                items = [json.loads(line) for line in lines]
            for item in items:
                if "images" in item:
                    item["images"] = [pathlib.Path(folder, name).read_bytes() for name in item["images"]]
        return items

    def verify(self, candidates: Any = (), *, progress: Optional[Progress] = None, **options: Any) -> Verification:
        """Whether candidates still work with the index.

        Args:
            candidates: a path of a model or of vectors (.npy), several, or an array with a row for each of `items()`.
            options: endpoint, endpoint_model, api, ..., for a server; min_cosine, min_overlap, max_recall_drop,
                outputs, ...: as `llvconv verify --help` explains them.
        """
        with tempfile.TemporaryDirectory() as folder:
            if isinstance(candidates, np.ndarray):
                path = os.path.join(folder, "vectors.npy")
                np.save(path, np.ascontiguousarray(candidates, np.float32))
                candidates = path
            found = _call(_library.verify_anchors, [*_paths(candidates), _library.path(self.path)], options, progress)
        return Verification(**found)


def _paths(candidates: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> tuple[Any, int]:
    if isinstance(candidates, (str, os.PathLike)):
        candidates = [candidates]
    return (ctypes.c_char_p * max(1, len(candidates)))(*map(_library.path, candidates)), len(candidates)


def _call(function: Any, arguments: list[Any], options: dict[str, Any], progress: Optional[Progress]) -> dict[str, Any]:
    result, error = ctypes.c_void_p(), ctypes.c_void_p()
    hear = _library.listener(progress)
    code = function(*arguments, _library.options(options), hear, None, ctypes.byref(result), ctypes.byref(error))
    _library.check(code, error)
    return json.loads(_library.text(result.value))
