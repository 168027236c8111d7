"""A large table embedded in parts that may die and be done again: on one machine, by a queue of jobs, on Ray or Spark.

    python -m llvconv.shards plan MODEL.llv items/*.parquet -o vectors/ --shards 64
    python -m llvconv.shards run vectors/ --shard 7            # one part, anywhere; done already is nothing to do
    python -m llvconv.shards check vectors/                    # what is missing, and whether every row is there once

`plan` writes `manifest.json`: which rows of which files each shard is, and what model embeds them. A shard is two
files, `vectors-00007-of-00064.parquet` (id, embedding) and, where rows are bad, `bad-00007-of-00064.parquet` (id, error).
Each appears whole or not at all, the bad rows first; so a shard whose vectors are there is done. Run twice at once, both
write the same.
"""
from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Any, Iterable, Iterator, Optional, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from . import _library
from .arrow import Embedder, whole, write_parquet
from .errors import CannotCreateError, Error, MalformedError, MissingError, UsageError
from .model import Model


@dataclass(frozen=True)
class Job:
    """What is embedded, how, and into how many parts."""
    model: str
    checksum: str
    files: list[str]
    #: Rows of each file.
    rows: list[int]
    shards: int
    id: str = "id"
    text: str = "text"
    precision: str = "float32"
    dimensions: Optional[int] = None
    normalize: bool = False
    prompt_name: Optional[str] = None
    version: str = _library.version

    def range(self, shard: int) -> tuple[int, int]:
        """The shard's rows, counted through all files."""
        if not 0 <= shard < self.shards:
            raise UsageError(f"shard {shard} is none of 0 to {self.shards - 1}")
        total = sum(self.rows)
        return shard * total // self.shards, (shard + 1) * total // self.shards

    def embedder(self, **options: Any) -> Embedder:
        """The worker. `options` are the machine's own, as `threads`."""
        model = Model(self.model, **options)
        if model.checksum != self.checksum:
            raise MalformedError(f"{self.model} is another model than the job was planned with: its checksum is "
                                 f"{model.checksum}, not {self.checksum}")
        return Embedder(model, text=self.text, id=self.id, precision=self.precision, normalize=self.normalize,
                        dimensions=self.dimensions, prompt_name=self.prompt_name)


def plan(model: str | os.PathLike[str], files: Sequence[str], output: str | os.PathLike[str], shards: int,
         **settings: Any) -> Job:
    """Writes the manifest of a job; of one that is there already, checks that it is the same."""
    if shards < 1 or not files:
        raise UsageError("a job needs files and at least one shard")
    paths = [os.path.abspath(file) for file in files]
    rows = []
    for path in paths:
        try:
            rows.append(pq.read_metadata(path).num_rows)
        except FileNotFoundError as error:
            raise MissingError(str(error)) from None
        except pa.ArrowInvalid as error:
            raise MalformedError(f"{path}: {error}") from None
    job = Job(os.path.abspath(model), Model(model, threads=1).checksum, paths, rows, shards, **settings)
    os.makedirs(output, exist_ok=True)
    manifest = os.path.join(output, "manifest.json")
    if os.path.exists(manifest):
        if load(output) != job:
            raise CannotCreateError(f"{manifest} is of another job; write to another folder")
        return job
    with whole(manifest) as temporary, open(temporary, "w") as file:
        json.dump(asdict(job), file, indent=1)
    return job


def load(output: str | os.PathLike[str]) -> Job:
    """The job whose manifest lies in a folder."""
    path = os.path.join(output, "manifest.json")
    try:
        with open(path) as file:
            return Job(**json.load(file))
    except FileNotFoundError:
        raise MissingError(f"{path}: there is no job; plan one first") from None
    except (ValueError, TypeError) as error:
        raise MalformedError(f"{path}: {error}") from None


def paths(output: str | os.PathLike[str], job: Job, shard: int) -> tuple[str, str]:
    name = f"{shard:05}-of-{job.shards:05}.parquet"
    return os.path.join(output, "vectors-" + name), os.path.join(output, "bad-" + name)


def missing(output: str | os.PathLike[str], job: Optional[Job] = None) -> list[int]:
    """Shards that are still to be done."""
    job = job or load(output)
    return [shard for shard in range(job.shards) if not os.path.exists(paths(output, job, shard)[0])]


def run_shard(output: str | os.PathLike[str], shard: int, embedder: Optional[Embedder] = None, *, rows: int = 4096,
              job: Optional[Job] = None, **options: Any) -> bool:
    """Does one shard, where it is not done yet; whether there was something to do.

    Args:
        embedder: the worker, where it is kept from shard to shard; else one is made with `options`, as `threads=2`.
    """
    job = job or load(output)
    vectors, bad = paths(output, job, shard)
    if os.path.exists(vectors):
        return False
    write_parquet(embedder or job.embedder(**options), read(job, *job.range(shard)), pq.read_schema(job.files[0]),
                  vectors, bad, rows)
    return True


def read(job: Job, start: int, end: int) -> Iterator[pa.RecordBatch]:
    """Some rows, counted through all files; of the files no more row groups than they are in."""
    first = 0
    for path, count in zip(job.files, job.rows):
        low, high = max(start - first, 0), min(end - first, count)
        if low < high:
            with pq.ParquetFile(path) as file:
                at = 0
                for group in range(file.num_row_groups):
                    size = file.metadata.row_group(group).num_rows
                    if at < high and at + size > low:
                        for batch in file.iter_batches(row_groups=[group]):
                            from_, to = max(low - at, 0), min(high - at, batch.num_rows)
                            if from_ < to:
                                yield batch.slice(from_, to - from_)
                            at += batch.num_rows
                    else:
                        at += size
        first += count


@dataclass(frozen=True)
class Checked:
    """What a finished or unfinished job holds."""
    missing: list[int]
    vectors: int
    bad: int
    #: Ids that stand more than once, some of them.
    repeated: list[Any]
    rows: int

    @property
    def is_complete(self) -> bool:
        return not self.missing and self.vectors + self.bad == self.rows and not self.repeated


def check(output: str | os.PathLike[str]) -> Checked:
    """Counts what is there, and looks for ids that stand more than once."""
    job = load(output)
    left = missing(output, job)
    good, bad = [], []
    for shard in range(job.shards):
        if shard not in left:
            path, other = paths(output, job, shard)
            good.append(pq.read_table(path, columns=["id"]))
            if os.path.exists(other):
                bad.append(pq.read_table(other, columns=["id"]))
    vectors, refused = sum(table.num_rows for table in good), sum(table.num_rows for table in bad)
    repeated: list[Any] = []
    if good or bad:
        counts = pa.concat_tables(good + bad).group_by("id").aggregate([("id", "count")])
        repeated = counts.filter(pc.greater(counts["id_count"], 1))["id"].slice(0, 10).to_pylist()
    return Checked(left, vectors, refused, repeated, sum(job.rows))


def run(output: str | os.PathLike[str], shards: Iterable[int], **options: Any) -> int:
    """Does several shards with one worker; how many there were to do."""
    job = load(output)
    worker, done = None, 0
    for shard in shards:
        if os.path.exists(paths(output, job, shard)[0]):
            continue
        worker = worker or job.embedder(**options)
        done += run_shard(output, shard, worker, job=job)
    return done


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m llvconv.shards", description=__doc__.split("\n")[0])
    commands = options.add_subparsers(dest="command", required=True)
    plan_ = commands.add_parser("plan", help="writes the manifest")
    plan_.add_argument("model")
    plan_.add_argument("files", nargs="+", help=".parquet files, of one schema")
    plan_.add_argument("-o", "--output", required=True, help="the folder of the job")
    plan_.add_argument("--shards", type=int, required=True)
    plan_.add_argument("--id", default="id")
    plan_.add_argument("--text", default="text")
    plan_.add_argument("--precision", default="float32")
    plan_.add_argument("--dimensions", type=int)
    plan_.add_argument("--normalize", action="store_true")
    plan_.add_argument("--prompt", dest="prompt_name")
    run_ = commands.add_parser("run", help="does one shard, or all that are missing")
    run_.add_argument("output")
    run_.add_argument("--shard", type=int)
    run_.add_argument("--threads", type=int)
    check_ = commands.add_parser("check", help="counts what is there")
    check_.add_argument("output")
    given = vars(options.parse_args())
    command = given.pop("command")
    try:
        if command == "plan":
            files = sorted(path for pattern in given.pop("files") for path in glob.glob(pattern) or [pattern])
            job = plan(given.pop("model"), files, given.pop("output"), given.pop("shards"), **given)
            print(f"{sum(job.rows)} rows in {job.shards} shards")
        elif command == "run":
            shard = given["shard"]
            shards = missing(given["output"]) if shard is None else [shard]
            print(f"{run(given['output'], shards, threads=given['threads'])} shards done")
        else:
            found = check(given["output"])
            print(json.dumps(asdict(found)))
            raise SystemExit(0 if found.is_complete else 1)
    except Error as error:
        print(f"llvconv: {error}", file=sys.stderr)
        raise SystemExit(error.code) from None


if __name__ == "__main__":
    main()
