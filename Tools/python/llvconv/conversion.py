"""Models made, made smaller, and held to what they were made from."""
from __future__ import annotations

import ctypes
import json
import os
from dataclasses import dataclass
from typing import Any, Callable, Optional, Sequence

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
    if isinstance(candidates, (str, os.PathLike)):
        candidates = [candidates]
    paths = (ctypes.c_char_p * max(1, len(candidates)))(*[_library.path(path) for path in candidates])
    found = _call(_library.verify, [paths, len(candidates), _library.path(reference), _library.path(data)], options,
                  progress)
    return Verification(found["verdict"], found["report"], found["page"])


def _call(function: Any, arguments: list[Any], options: dict[str, Any], progress: Optional[Progress]) -> dict[str, Any]:
    result, error = ctypes.c_void_p(), ctypes.c_void_p()
    hear = _library.listener(progress)
    code = function(*arguments, _library.options(options), hear, None, ctypes.byref(result), ctypes.byref(error))
    _library.check(code, error)
    return json.loads(_library.text(result.value))
