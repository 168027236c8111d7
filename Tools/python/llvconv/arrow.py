"""Embedding of Arrow and Parquet: id and vector of each row, and what is wrong with those that have none.

    python -m llvconv.arrow MODEL.llv < items.arrow > vectors.arrow      Arrow IPC streams, pipes included
    python -m llvconv.arrow MODEL.llv items.parquet -o vectors.parquet   files

Batches go through one after the other, so that memory is bounded and a slow reader slows the whole pipe.
Needs `pip install llvconv[arrow]`.
"""
from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import Any, Iterable, Iterator, Optional

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .errors import Error, UsageError
from .model import Model, finished

#: What vectors are kept as, and Arrow's type of one number.
TYPES = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8(), "uint8": pa.uint8(),
         "ubinary": pa.uint8(), "binary": pa.int8()}
#: Columns that make an item; those that are there are read.
COLUMNS = ("text", "images", "image", "video", "instruction")


def schema(dimensions: int, id_type: pa.DataType = pa.string(), precision: str = "float32") -> pa.Schema:
    """Columns of what is written: id, embedding, error. A row has an embedding or an error."""
    if precision not in TYPES:
        raise UsageError(f"precision must be one of {', '.join(TYPES)}; found {precision!r}")
    width = -(-dimensions // 8) if precision in ("binary", "ubinary") else dimensions
    return pa.schema([("id", id_type), ("embedding", pa.list_(TYPES[precision], width)), ("error", pa.string())])


class Embedder:
    """Turns batches of items into batches of vectors, one row for one row.

    Args:
        model: a model, or the path of one.
        text: name of the column of texts; images, image, video and instruction have their own names.
        id: name of the column that is carried along.
    """

    def __init__(self, model: Model | str | os.PathLike[str], *, text: str = "text", id: str = "id",
                 precision: str = "float32", normalize: bool = False, dimensions: Optional[int] = None,
                 prompt_name: Optional[str] = None, folder: Optional[str] = None, **options: Any):
        self.model = model if isinstance(model, Model) else Model(model, **options)
        self.text, self.id, self.precision, self.normalize = text, id, precision, normalize
        self.dimensions, self.prompt_name, self.folder = dimensions, prompt_name, folder

    def schema(self, of: pa.Schema) -> pa.Schema:
        """What a batch of this schema becomes."""
        if self.id not in of.names:
            raise UsageError(f"no column {self.id!r} of ids; there are {', '.join(of.names)}")
        return schema(self.dimensions or self.model.dimensions, of.field(self.id).type, self.precision)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        names, schema = batch.schema.names, self.schema(batch.schema)
        found = [name for name in COLUMNS if (self.text if name == "text" else name) in names]
        if not found:
            raise UsageError(f"no column {self.text!r}, images or video; there are {', '.join(names)}")
        if found == ["text"]:
            vectors, errors = self._texts(batch.column(self.text))
        else:
            columns = {name: batch.column(self.text if name == "text" else name).to_pylist() for name in found}
            items = [dict(zip(columns, row)) for row in zip(*columns.values())]
            vectors, errors = self.model.encode_rows(items, prompt_name=self.prompt_name, folder=self.folder)
        return self._written(batch.column(self.id), vectors, errors, schema)

    def _texts(self, column: Any) -> tuple[np.ndarray, dict[int, Error]]:
        """Texts as they lie in Arrow's memory; a null is a bad row."""
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            column = column.cast(pa.large_string())
        nulls = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)) if column.null_count else []
        _, offsets, data = column.buffers()
        kind = np.int64 if pa.types.is_large_string(column.type) else np.int32
        places = np.frombuffer(offsets, kind)[column.offset:column.offset + len(column) + 1] if offsets else np.zeros(1)
        vectors, errors = self.model.embed_utf8(data if data is not None else b"", places, prompt_name=self.prompt_name)
        for row in nulls:
            errors[int(row)] = UsageError("the text is null")
        return vectors, errors

    def _written(self, ids: Any, vectors: np.ndarray, errors: dict[int, Error], schema: pa.Schema) -> pa.RecordBatch:
        vectors = finished(vectors, self.precision, self.normalize, self.dimensions)
        type_ = schema.field("embedding").type
        bad = np.zeros(len(vectors), bool)
        bad[list(errors)] = True
        values = pa.array(np.ascontiguousarray(vectors).reshape(-1), type_.value_type)
        mask = pa.array(bad) if errors else None
        embeddings = pa.FixedSizeListArray.from_arrays(values, type=type_, mask=mask)
        messages = pa.array([str(errors[row]) if row in errors else None for row in range(len(vectors))], pa.string())
        return pa.record_batch([ids, embeddings, messages], schema=schema)


def bounded(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at most `rows`."""
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def embed_stream(embedder: Embedder, source: Any, sink: Any, rows: int = 4096) -> int:
    """Reads an Arrow IPC stream, writes another, batch by batch; the number of bad rows."""
    bad = 0
    with pa.ipc.open_stream(source) as reader:
        with pa.ipc.new_stream(sink, embedder.schema(reader.schema)) as writer:
            for batch in bounded(reader, rows):
                result = embedder(batch)
                bad += result.num_rows - result.column("error").null_count
                writer.write_batch(result)
    return bad


def embed_parquet(embedder: Embedder, source: str | os.PathLike[str], output: str | os.PathLike[str],
                  rows: int = 4096) -> int:
    """Reads a Parquet file and writes another of id and embedding; the number of bad rows.

    Bad rows go to `OUTPUT.bad`, a Parquet file of id and error: a list of fixed length that is null is what readers of
    Parquet stumble over. Each file appears whole or not at all, the bad rows first."""
    with pq.ParquetFile(source) as file:
        return write_parquet(embedder, file.iter_batches(batch_size=rows), file.schema_arrow, os.fspath(output),
                             os.fspath(output) + ".bad", rows)


def write_parquet(embedder: Embedder, batches: Iterable[pa.RecordBatch], of: pa.Schema, good: str, bad: str,
                  rows: int) -> int:
    """Embeds batches of a schema into two files, of vectors and of bad rows; the number of those."""
    schema = embedder.schema(of)
    refused: list[pa.RecordBatch] = []
    with whole(good) as temporary:
        with pq.ParquetWriter(temporary, schema.remove(2)) as writer:
            for batch in bounded(batches, rows):
                result = embedder(batch)
                is_bad = pc.is_valid(result.column("error"))
                refused.append(result.filter(is_bad).select(["id", "error"]))
                writer.write_batch(result.filter(pc.invert(is_bad)).select(["id", "embedding"]))
        table = pa.Table.from_batches(refused, schema.remove(1))
        if table.num_rows:
            with whole(bad) as other:
                pq.write_table(table, other)
    return table.num_rows


class whole:  # noqa: N801, used like a function
    """A path to write to that becomes `path` when the block ends well: on the disk, and in one step.

    What a writer of the same path left that was killed goes with it; one that is still at work finds that it came second.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = os.fspath(path)
        self.folder, name = os.path.split(self.path)
        self.head = f".{name}."
        self.temporary = os.path.join(self.folder, f"{self.head}{os.getpid()}.{os.urandom(4).hex()}.tmp")

    def __enter__(self) -> str:
        return self.temporary

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:
            self.remove(self.temporary)
            return
        try:
            sync(self.temporary)
            os.replace(self.temporary, self.path)
        except FileNotFoundError:
            if not os.path.exists(self.path):
                raise
        sync(self.folder or ".")
        for name in os.listdir(self.folder or "."):
            if name.startswith(self.head) and name.endswith(".tmp"):
                self.remove(os.path.join(self.folder, name))

    @staticmethod
    def remove(path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m llvconv.arrow", description=__doc__.split("\n")[0])
    options.add_argument("model")
    options.add_argument("input", nargs="?", help="a .parquet file (default: an Arrow IPC stream on standard input)")
    options.add_argument("-o", "--output", help="a .parquet file (default: an Arrow IPC stream on standard output)")
    options.add_argument("--text", default="text", help="the column of texts")
    options.add_argument("--id", default="id", help="the column that is carried along")
    options.add_argument("--precision", default="float32", choices=sorted(TYPES))
    options.add_argument("--dimensions", type=int, help="keep the first of them")
    options.add_argument("--normalize", action="store_true")
    options.add_argument("--prompt", help="one of the model's prompts")
    options.add_argument("--rows", type=int, default=4096, help="of a batch, at most")
    options.add_argument("--threads", type=int)
    options = options.parse_args()
    if (options.input is None) != (options.output is None):
        raise SystemExit("llvconv: a file in wants a file out (-o); without both, streams are read and written")
    try:
        embedder = Embedder(options.model, text=options.text, id=options.id, precision=options.precision,
                            normalize=options.normalize, dimensions=options.dimensions, prompt_name=options.prompt,
                            threads=options.threads)
        if options.input:
            bad = embed_parquet(embedder, options.input, options.output, options.rows)
        else:
            bad = embed_stream(embedder, sys.stdin.buffer, sys.stdout.buffer, options.rows)
    except Error as error:
        print(f"llvconv: {error}", file=sys.stderr)
        raise SystemExit(error.code) from None
    except pa.ArrowInvalid as error:
        print(f"llvconv: {error}", file=sys.stderr)
        raise SystemExit(65) from None
    if bad:
        where = f"{options.output}.bad" if options.output else "their column error"
        print(f"note: {bad} rows are bad; {where} says why", file=sys.stderr)


if __name__ == "__main__":
    main()
