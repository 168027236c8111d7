"""A model that turns texts, pictures and videos into vectors."""
from __future__ import annotations

import ctypes
import io
import json
import os
import threading
from typing import Any, Iterable, Literal, Mapping, Optional, Sequence, Union

import numpy as np

from . import _library
from .errors import BadItems, Error, UsageError

Precision = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
#: A text; a picture of PIL's; or a dict with `text`, `images` (or `image`), `video`, `instruction`. An image is a path,
#: a picture of PIL's, an array `[height, width, 3]` of bytes, or the bytes of a picture file.
Item = Union[str, Mapping[str, Any], Any]


class Model:
    """A model that is open.

    Its weights stay in their file and are shared by all processes that have it open. It may be used by several threads
    at once; the GIL is released while it computes. A vector depends on its item alone: not on the batch or the threads.

    Args:
        path: an `.llv` container, or what `import_` takes, which is then imported in memory.
        threads: how many threads to use; all processors when not given. No result depends on it.
        device: "cpu", "gpu" or "gpu:N".
        memory: MiB of weights kept in memory at most; larger models run layer by layer.
        max_tokens: where items are cut, in the place of the model's own limit.
        mmproj: the GGUF file with the vision tower that goes with a GGUF text model.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: Optional[int] = None, device: Optional[str] = None,
                 memory: Optional[int] = None, max_tokens: Optional[int] = None,
                 mmproj: str | os.PathLike[str] | None = None, spelling: Optional[str] = None,
                 profile: Optional[str] = None):
        self._arguments = dict(threads=threads, device=device, memory=memory, max_tokens=max_tokens, mmproj=mmproj,
                               spelling=spelling, profile=profile)
        self._path = os.fspath(path)
        self._lock = threading.Lock()
        self._open()

    def _open(self) -> None:
        model, error = ctypes.c_void_p(), ctypes.c_void_p()
        hear = _library.listener()
        code = _library.open_(_library.path(self._path), _library.options(self._arguments), hear, None,
                              ctypes.byref(model), ctypes.byref(error))
        _library.check(code, error)
        self._model, self._process = model, os.getpid()
        facts = json.loads(_library.text(_library.describe(model)))
        #: Numbers in a vector.
        self.dimensions: int = facts["dimensions"]
        #: By the name its family uses, as "bert".
        self.architecture: str = facts["architecture"]
        #: Tokens of an item at most; longer ones are cut.
        self.max_tokens: int = facts["max_tokens"]
        #: Texts put before an item, by name.
        self.prompts: dict[str, str] = facts["prompts"]
        #: Name of the prompt that is used when none is asked for.
        self.default_prompt_name: Optional[str] = facts["default_prompt"]
        #: Of the content: equal for equal weights, settings and tokenizers in files of one kind.
        self.checksum: str = facts["checksum"]
        self.takes_text: bool = facts["text"]
        self.takes_pictures: bool = facts["pictures"]

    def close(self) -> None:
        """Gives the model's memory back; no thread may be using it."""
        with self._lock:
            model, self._model = self._model, None
        # A child of `fork` has its parent's numbers, and not its threads.
        if model and self._process == os.getpid():
            _library.close(model)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        # At the end of Python modules are gone already, and so will the memory be.
        if getattr(self, "_model", None) and _library is not None and _library.close is not None:
            self.close()

    def __repr__(self) -> str:
        return f"llvconv.Model({self._path!r}: {self.architecture}, {self.dimensions} dimensions)"

    # A model that goes to another process is opened there: the weights are the same pages of memory.
    def __getstate__(self) -> dict[str, Any]:
        return {"_path": os.path.abspath(self._path), "_arguments": self._arguments}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())
        self._open()

    def _handle(self) -> Any:
        if self._model is None:
            raise UsageError("the model is closed")
        if self._process != os.getpid():
            # Threads that computed do not come along into a child of `fork`.
            with self._lock:
                if self._process != os.getpid():
                    self._open()
        return self._model

    # ---- Embedding ----

    def encode(self, sentences: Item | Sequence[Item], *, prompt_name: Optional[str] = None,
               prompt: Optional[str] = None, batch_size: int = 1024, show_progress_bar: bool = False,
               precision: Precision = "float32", normalize_embeddings: bool = False,
               truncate_dim: Optional[int] = None, on_error: Literal["raise", "nan"] = "raise") -> np.ndarray:
        """The vectors of items, `[items, dimensions]`; of a single item, one vector.

        Args:
            sentences: an item or several: texts, dicts, pictures.
            prompt_name: which of the model's prompts is put before the text of items without an instruction.
            prompt: such a text itself.
            batch_size: items that are handed over at a time, between which the bar moves and Ctrl-C is heard. No result
                depends on it.
            precision: "float32"; "float16"; "int8", each vector so that its largest number is 127; "uint8", the same
                plus 128; "binary" and "ubinary", a bit for each number's sign, packed as sentence-transformers packs them.
            normalize_embeddings: whether vectors are made as long as one; most models' are already.
            truncate_dim: how many of the first numbers to keep.
            on_error: "raise" a `BadItems` for items that have no vector, or leave rows of "nan" (of zeros where the
                precision has no NaN).
        """
        if isinstance(sentences, str) or not isinstance(sentences, (Sequence, np.ndarray)):
            items, single = [sentences], True
        else:
            items, single = sentences, False
        vectors, errors = self.encode_rows(items, prompt_name=prompt_name, prompt=prompt, batch_size=batch_size,
                                           show_progress_bar=show_progress_bar)
        if errors and on_error == "raise":
            raise BadItems(errors, len(items))
        vectors = finished(vectors, precision, normalize_embeddings, truncate_dim)
        return vectors[0] if single else vectors

    def encode_rows(self, items: Sequence[Item], *, prompt_name: Optional[str] = None, prompt: Optional[str] = None,
                    batch_size: int = 1024, show_progress_bar: bool = False, folder: Optional[str] = None
                    ) -> tuple[np.ndarray, dict[int, Error]]:
        """Vectors of all items as Float32, and for those that are bad, whose rows are NaN, what is wrong with them."""
        if prompt is not None:
            items = [with_instruction(item, prompt) for item in items]
        vectors = np.empty((len(items), self.dimensions), np.float32)
        errors: dict[int, Error] = {}
        starts = range(0, len(items), max(1, batch_size))
        for start in (bar(starts) if show_progress_bar else starts):
            part = items[start:start + batch_size] if len(starts) > 1 else items
            for row, error in self._embed(part, vectors[start:start + len(part)], prompt_name, folder).items():
                errors[start + row] = error
        return vectors, errors

    def encode_counted(self, items: Sequence[Item], *, prompt_name: Optional[str] = None
                       ) -> tuple[np.ndarray, dict[int, Error], np.ndarray]:
        """The same as `encode_rows`, and how many tokens each item came to."""
        vectors = np.empty((len(items), self.dimensions), np.float32)
        tokens = np.zeros(len(items), np.int64)
        return vectors, self._embed(items, vectors, prompt_name, None, tokens), tokens

    def _embed(self, items: Sequence[Item], vectors: np.ndarray, prompt_name: Optional[str], folder: Optional[str],
               tokens: Optional[np.ndarray] = None) -> dict[int, Error]:
        model = self._handle()
        pictures: list[list[Any]] = []
        kind = _library.TEXTS
        try:
            # `surrogatepass`: what is no text is the library's to refuse, item by item.
            parts = [item.encode("utf-8", "surrogatepass") for item in items]
        except AttributeError:
            kind = _library.JSON
            parts = [as_json(item, pictures) for item in items]
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        batch = _library.Items(count=len(parts), bytes=b"".join(parts), offsets=offsets.ctypes.data, kind=kind)
        if prompt_name is not None:
            batch.prompt = prompt_name.encode()
        if folder is not None:
            batch.folder = os.fsencode(os.path.join(folder, ""))
        kept = attach(batch, pictures)
        errors = self._call(model, batch, vectors, tokens)
        del kept
        return errors

    def _call(self, model: Any, batch: _library.Items, vectors: np.ndarray, tokens: Optional[np.ndarray]
              ) -> dict[int, Error]:
        error = ctypes.c_void_p()
        code = _library.embed(model, ctypes.byref(batch), vectors.ctypes.data,
                              None if tokens is None else tokens.ctypes.data, None, _library.no_listener, None,
                              ctypes.byref(error))
        _library.check(code, error)
        return _library.bad_rows(error) if error else {}

    def embed_utf8(self, data: Any, offsets: np.ndarray, *, prompt_name: Optional[str] = None
                   ) -> tuple[np.ndarray, dict[int, Error]]:
        """The same as `encode_rows` for texts that lie one after the other in memory, as Arrow has them: text `i` is
        `data[offsets[i]:offsets[i + 1]]`. Nothing is copied."""
        offsets = np.ascontiguousarray(offsets, np.int64)
        buffer = np.frombuffer(data, np.uint8)
        if len(offsets) == 0 or offsets[0] < 0 or offsets[-1] > len(buffer):
            raise UsageError("offsets outside of the data")
        vectors = np.empty((len(offsets) - 1, self.dimensions), np.float32)
        batch = _library.Items(count=len(offsets) - 1, offsets=offsets.ctypes.data, kind=_library.TEXTS)
        batch.bytes = ctypes.cast(buffer.ctypes.data, ctypes.c_char_p)
        if prompt_name is not None:
            batch.prompt = prompt_name.encode()
        return vectors, self._call(self._handle(), batch, vectors, None)

    def encode_query(self, sentences: Item | Sequence[Item], *, prompt_name: Optional[str] = None,
                     **options: Any) -> np.ndarray:
        """`encode` with the model's prompt for queries, where it has one."""
        return self.encode(sentences, prompt_name=prompt_name or self._prompt("query"), **options)

    def encode_document(self, sentences: Item | Sequence[Item], *, prompt_name: Optional[str] = None,
                        **options: Any) -> np.ndarray:
        """`encode` with the model's prompt for documents, where it has one."""
        prompt_name = prompt_name or self._prompt("document", "passage", "corpus")
        return self.encode(sentences, prompt_name=prompt_name, **options)

    def _prompt(self, *names: str) -> Optional[str]:
        return next((name for name in names if name in self.prompts), None)

    def similarity(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The cosine of each vector of `a` with each of `b`, `[rows of a, rows of b]`."""
        a, b = np.atleast_2d(np.asarray(a, np.float32)), np.atleast_2d(np.asarray(b, np.float32))
        return unit(a) @ unit(b).T


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length one; those of length zero as they are."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=vectors.copy(), where=length > 0)


def finished(vectors: np.ndarray, precision: str = "float32", normalize: bool = False,
             dimensions: Optional[int] = None) -> np.ndarray:
    """Vectors cut, made as long as one, and rounded."""
    if dimensions is not None:
        if not 0 < dimensions <= vectors.shape[1]:
            raise UsageError(f"truncate_dim must be from 1 to {vectors.shape[1]}; found {dimensions}")
        vectors = np.ascontiguousarray(vectors[:, :dimensions])
    if normalize:
        vectors = unit(vectors)
    if precision == "float32":
        return vectors
    if precision == "float16":
        return vectors.astype(np.float16)
    vectors = np.nan_to_num(vectors)
    if precision in ("int8", "uint8"):
        most = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
        scaled = np.divide(vectors * np.float32(127), most, out=np.zeros_like(vectors), where=most > 0)
        codes = np.rint(scaled).astype(np.int8)
        return codes if precision == "int8" else (codes.astype(np.int16) + 128).astype(np.uint8)
    if precision in ("binary", "ubinary"):
        bits = np.packbits(vectors > 0, axis=1)
        return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    raise UsageError(f"precision must be float32, float16, int8, uint8, binary or ubinary; found {precision!r}")


def bar(steps: range) -> Iterable[int]:
    """The steps with a bar of tqdm, where it is installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return steps
    return tqdm(steps, desc="Batches")


# ---- Items ----

def with_instruction(item: Item, text: str) -> dict[str, Any]:
    fields = fields_of(item)
    fields.setdefault("instruction", text)
    return fields


def fields_of(item: Item) -> dict[str, Any]:
    """An item as a dict with `images` in a list."""
    if isinstance(item, str):
        return {"text": item}
    if not isinstance(item, Mapping):
        return {"images": [item]}
    fields = {name: value for name, value in item.items() if value is not None}
    if "image" in fields:
        fields["images"] = [fields.pop("image"), *as_list(fields.get("images", []))]
    elif "images" in fields:
        fields["images"] = as_list(fields["images"])
    return fields


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def as_json(item: Item, pictures: list[list[Any]]) -> bytes:
    """The item as a line for the library; its pictures in memory are added to `pictures`."""
    fields = fields_of(item)
    images = fields.get("images", [])
    if all(isinstance(image, (str, os.PathLike)) for image in images):
        own = []
        if images:
            fields["images"] = [os.fspath(image) for image in images]
    else:
        # In memory all of them, so that they keep their order.
        fields.pop("images", None)
        own = [pixels(image) for image in images]
    pictures.append(own)
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")


def pixels(image: Any) -> tuple[Any, int, int]:
    """Memory, width and height of a picture; no width for a file's bytes."""
    if isinstance(image, (str, os.PathLike)):
        with open(image, "rb") as file:
            return np.frombuffer(file.read(), np.uint8), 0, 0
    if isinstance(image, (bytes, bytearray, memoryview)):
        return np.frombuffer(image, np.uint8), 0, 0
    if isinstance(image, io.IOBase):
        return np.frombuffer(image.read(), np.uint8), 0, 0
    if hasattr(image, "convert"):
        image = np.asarray(image.convert("RGB"))
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError("an image must be a path, a picture of PIL's, bytes of a file, or an array [height, width, 3] "
                         f"of uint8; found {type(image).__name__}")
    return np.ascontiguousarray(image).reshape(-1), image.shape[1], image.shape[0]


def attach(batch: _library.Items, pictures: list[list[Any]]) -> Any:
    """Points `batch` to pictures; what is returned keeps them alive."""
    flat = [picture for own in pictures for picture in own]
    if not flat:
        return None
    table = (_library.Picture * len(flat))(
        *[_library.Picture(memory.ctypes.data, memory.size, width, height) for memory, width, height in flat])
    offsets = np.zeros(len(pictures) + 1, np.int64)
    np.cumsum([len(own) for own in pictures], out=offsets[1:])
    batch.pictures, batch.picture_offsets = ctypes.addressof(table), offsets.ctypes.data
    return flat, table, offsets
