"""llvconv: embedding models in few bits, run, quantized and verified.

    import llvconv

    model = llvconv.Model("minilm-8bit.llv")
    vectors = model.encode(["a red fox", "a blue whale"])
    model.similarity(vectors, vectors)
"""
from ._library import version as __version__
from .conversion import Anchors, Verification, import_, quantize, verify
from .errors import (BadItems, CannotCreateError, Error, InternalError, IOFailure, LimitError, MalformedError,
                     MissingError, UnsupportedError, UsageError)
from .model import Model

__all__ = ["Anchors", "BadItems", "CannotCreateError", "Error", "IOFailure", "InternalError", "LimitError", "MalformedError",
           "MissingError", "Model", "UnsupportedError", "UsageError", "Verification", "__version__", "import_",
           "quantize", "verify"]
