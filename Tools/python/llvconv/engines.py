"""Ray, Spark and Daft over one worker, `llvconv.arrow.Embedder`.

`ray_dataset`, `spark_frame` and `daft_frame` add vectors to what an engine holds, with the engine's own promises about
what dies. `ray_job` and `spark_job` do a job of `llvconv.shards` on a cluster: every row once whatever dies, and what is
done stays done. Files and model lie where every machine sees them under the same path.
"""
from __future__ import annotations

import os
from typing import Any, Iterator, Optional

import pyarrow as pa

from . import shards
from .arrow import Embedder, bounded
from .model import Model

#: Of this process: the worker of each way to embed. An engine's process serves many tasks.
_workers: dict[Any, Embedder] = {}


def worker(model: str, options: dict[str, Any]) -> Embedder:
    """The process's own worker for this model and these options."""
    key = (model, repr(sorted(options.items())))
    if key not in _workers:
        _workers[key] = Embedder(model, **options)
    return _workers[key]


class RayWorker:
    """For `map_batches`: one in each actor."""

    def __init__(self, model: str, options: dict[str, Any]):
        self.embedder = Embedder(model, **options)

    def __call__(self, table: pa.Table) -> pa.Table:
        batches = [self.embedder(batch) for batch in bounded(table.to_batches(), 4096)]
        return pa.Table.from_batches(batches, self.embedder.schema(table.schema))


def ray_dataset(dataset: Any, model: str | os.PathLike[str], *, actors: int = 1, cpus: int = 1, batch_size: int = 4096,
                **options: Any) -> Any:
    """A Ray dataset of id, embedding, error: an actor of so many processors for each part of the cluster."""
    return dataset.map_batches(
        RayWorker, fn_constructor_args=(os.fspath(model), {"threads": cpus, **options}), batch_format="pyarrow",
        batch_size=batch_size, concurrency=actors, num_cpus=cpus)


def spark_frame(frame: Any, model: str | os.PathLike[str], *, threads: int = 1, precision: str = "float32",
                **options: Any) -> Any:
    """A Spark data frame of id, embedding, error, by `mapInArrow`. `threads` are those of one task."""
    path = os.fspath(model)
    settings = {"threads": threads, "precision": precision, **options}
    id_ = options.get("id", "id")

    def embed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Spark's types have no lists of fixed length.
        target = None
        for batch in bounded(batches, 4096):
            result = worker(path, settings)(batch)
            target = target or pa.list_(result.schema.field("embedding").type.value_type)
            vectors = result.column("embedding").cast(target)
            yield pa.record_batch([result.column("id"), vectors, result.column("error")],
                                  names=["id", "embedding", "error"])

    number = {"float32": "float", "int8": "tinyint", "binary": "tinyint"}.get(precision)
    if number is None:
        raise ValueError(f"Spark has no numbers of {precision}: float32, int8 or binary")
    kind = frame.schema[id_].dataType.simpleString()
    return frame.mapInArrow(embed, f"id {kind}, embedding array<{number}>, error string")


def daft_frame(frame: Any, model: str | os.PathLike[str], *, text: str = "text", threads: Optional[int] = None,
               concurrency: int = 1, batch_size: int = 4096, **options: Any) -> Any:
    """A Daft data frame with a column `embedding` more: null where the text is bad."""
    import daft

    path, settings = os.fspath(model), {"threads": threads, "text": "text", **options}
    with Model(path, threads=1) as opened:
        dimensions = options.get("dimensions") or opened.dimensions

    @daft.udf(return_dtype=daft.DataType.fixed_size_list(daft.DataType.float32(), dimensions), batch_size=batch_size,
              concurrency=concurrency)
    class Embed:
        def __init__(self) -> None:
            self.embedder = Embedder(path, **settings)

        def __call__(self, texts: Any) -> Any:
            column = texts.to_arrow()
            column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
            # Rows keep their order, and need no ids.
            ids = pa.nulls(len(column))
            return self.embedder(pa.record_batch([ids, column], names=["id", "text"])).column("embedding")

    return frame.with_column("embedding", Embed(frame[text]))


# ---- Jobs of shards ----

def ray_job(output: str | os.PathLike[str], *, cpus: int = 1) -> None:
    """Does what is missing of a job, a Ray task for each shard. A task whose machine dies is started again."""
    import ray

    path, job = os.fspath(output), shards.load(output)

    @ray.remote(num_cpus=cpus, max_retries=-1)
    def task(shard: int) -> bool:
        return _run(path, shard, cpus)

    ray.get([task.remote(shard) for shard in shards.missing(path, job)])


def spark_job(context: Any, output: str | os.PathLike[str], *, threads: int = 1) -> None:
    """Does what is missing of a job, a Spark task for each shard. A task whose executor dies is started again."""
    path = os.fspath(output)
    left = shards.missing(path)
    if left:
        context.parallelize(left, len(left)).foreach(lambda shard: _run(path, shard, threads))


def _run(path: str, shard: int, threads: int) -> bool:
    job = shards.load(path)
    key = (path, job.checksum, threads)
    if key not in _workers:
        _workers[key] = job.embedder(threads=threads)
    return shards.run_shard(path, shard, _workers[key], job=job)
