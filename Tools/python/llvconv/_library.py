"""libllvconv.so as ctypes has it: llvconv.h says what each function does. ctypes gives up the GIL while one runs."""
from __future__ import annotations

import ctypes
import json
import logging
import os
from ctypes import POINTER, Structure, c_char_p, c_double, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from typing import Any, Callable, Optional

from . import errors

logger = logging.getLogger("llvconv")
ABI = 1
TEXTS, JSON = 0, 1

# The wheel's own; another for who works on it.
library = ctypes.CDLL(os.environ.get("LLVCONV_LIBRARY") or os.path.join(os.path.dirname(__file__), "libllvconv.so"))

Listener = ctypes.CFUNCTYPE(None, c_void_p, c_int32, c_char_p, c_double)
no_listener = ctypes.cast(None, Listener)


class Picture(Structure):
    _fields_ = [("bytes", c_void_p), ("count", c_size_t), ("width", c_uint32), ("height", c_uint32)]


class Items(Structure):
    _fields_ = [("count", c_int64), ("bytes", c_char_p), ("offsets", c_void_p), ("kind", c_int32),
                ("pictures", c_void_p), ("picture_offsets", c_void_p), ("prompt", c_char_p), ("folder", c_char_p)]


def _function(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, "llvconv_" + name)
    function.restype, function.argtypes = result, arguments
    return function


_error = POINTER(c_void_p)
_abi = _function("abi", c_int32)
_version = _function("version", c_void_p)
error_code = _function("error_code", c_int32, c_void_p)
error_message = _function("error_message", c_char_p, c_void_p)
error_row = _function("error_row", c_int64, c_void_p)
error_next = _function("error_next", c_void_p, c_void_p)
error_free = _function("error_free", None, c_void_p)
text_free = _function("text_free", None, c_void_p)
open_ = _function("open", c_int32, c_char_p, c_char_p, Listener, c_void_p, POINTER(c_void_p), _error)
close = _function("close", None, c_void_p)
dimensions = _function("dimensions", c_int64, c_void_p)
describe = _function("describe", c_void_p, c_void_p)
embed = _function("embed", c_int32, c_void_p, POINTER(Items), c_void_p, c_void_p, c_void_p, Listener, c_void_p, _error)
import_ = _function("import", c_int32, c_char_p, c_char_p, c_char_p, Listener, c_void_p, POINTER(c_void_p), _error)
quantize = _function("quantize", c_int32, c_char_p, c_char_p, c_char_p, Listener, c_void_p, POINTER(c_void_p), _error)
verify = _function("verify", c_int32, POINTER(c_char_p), c_int64, c_char_p, c_char_p, c_char_p, Listener, c_void_p,
                   POINTER(c_void_p), _error)
anchors = _function("anchors", c_int32, c_char_p, c_char_p, c_char_p, c_char_p, Listener, c_void_p, POINTER(c_void_p),
                    _error)
anchor_items = _function("anchor_items", c_int32, c_char_p, c_char_p, c_char_p, _error)
verify_anchors = _function("verify_anchors", c_int32, POINTER(c_char_p), c_int64, c_char_p, c_char_p, Listener, c_void_p,
                           POINTER(c_void_p), _error)

if _abi() != ABI:
    raise ImportError(f"libllvconv.so has ABI {_abi()}, this package wants {ABI}")


def _failure(error: int) -> errors.Error:
    code = error_code(error)
    return errors.BY_CODE.get(code, errors.InternalError)(error_message(error).decode())


def check(code: int, error: c_void_p) -> None:
    """Raises what a call failed with."""
    if code:
        try:
            raise _failure(error.value)
        finally:
            error_free(error)


def bad_rows(error: c_void_p) -> dict[int, errors.Error]:
    """What is wrong with single items, by row; empties the list."""
    rows, at = {}, error.value
    while at:
        rows[error_row(at)] = _failure(at)
        at = error_next(at)
    error_free(error)
    return rows


def text(pointer: int) -> str:
    """A text that the library made, which it takes back."""
    try:
        return ctypes.string_at(pointer).decode()
    finally:
        text_free(pointer)


def options(values: dict[str, Any]) -> bytes:
    """Options as JSON: what is None is not given, and paths are texts."""
    def plain(value: Any) -> Any:
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, (list, tuple)):
            return [str(part) for part in value]
        return value
    return json.dumps({name: plain(value) for name, value in values.items() if value is not None}).encode()


def path(value: str | os.PathLike[str]) -> bytes:
    return os.fsencode(value)


def listener(progress: Optional[Callable[[str, float], None]] = None) -> Any:
    """Who is told while a call runs; notes and warnings go to the logger `llvconv`."""
    def hear(context: Any, what: int, message: bytes, share: float) -> None:
        if what == 2 and progress:
            progress(message.decode(), share)
        elif what < 2:
            logger.log(logging.WARNING if what else logging.INFO, message.decode().removeprefix("note: "))
    return Listener(hear)


version = text(_version())
