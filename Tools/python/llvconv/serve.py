"""A server that speaks OpenAI's embeddings: python -m llvconv.serve MODEL.llv

    curl localhost:8000/v1/embeddings -d '{"input": ["a fox"], "model": "minilm"}' -H 'Content-Type: application/json'

Needs `pip install llvconv[serve]`. Requests of all clients are embedded together; each client's items take their turn,
so that a large request does not hold up small ones. A client that goes away takes its items with it.
"""
from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import collections
import concurrent.futures
import contextlib
import json
import os
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import ClientDisconnect

from .errors import Error, LimitError, UsageError
from .model import Model, finished


@dataclass(frozen=True)
class Limits:
    """What a request may ask for."""
    #: Items in a request.
    items: int = 2048
    #: Bytes of its body.
    body: int = 32 << 20
    #: Bytes of one picture's file.
    picture: int = 16 << 20
    #: Items that wait, of all requests.
    waiting: int = 16384
    #: Seconds until it is given up.
    seconds: float = 60
    #: Items that are embedded together.
    batch: int = 64


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", code: Optional[str] = None):
        super().__init__(message)
        self.status, self.message, self.kind, self.code = status, message, kind, code

    def response(self) -> JSONResponse:
        headers = {"Retry-After": "1"} if self.status == 503 else {}
        body = {"message": self.message, "type": self.kind, "param": None, "code": self.code}
        return JSONResponse({"error": body}, self.status, headers)


@dataclass(eq=False)
class Job:
    """The items of one request, some of which may be embedded already. Two are never equal, whatever they hold."""
    items: list[Any]
    vectors: np.ndarray
    done: asyncio.Future[None]
    tokens: int = 0
    taken: int = 0
    open: int = field(init=False)

    def __post_init__(self) -> None:
        self.open = len(self.items)


class Batcher:
    """Makes batches of what waits while the model works on one."""

    def __init__(self, model: Model, limits: Limits, metrics: Metrics):
        self.model, self.limits, self.metrics = model, limits, metrics
        self.jobs: collections.deque[Job] = collections.deque()
        self.waiting = 0
        self.woken = asyncio.Event()
        # The model has threads of its own.
        self.thread = concurrent.futures.ThreadPoolExecutor(1, "llvconv")

    async def embed(self, items: list[Any]) -> tuple[np.ndarray, int]:
        """Vectors and number of tokens. Cancelled, what still waits is left out."""
        if self.waiting + len(items) > self.limits.waiting:
            raise Refusal(503, f"{self.waiting} items wait already; try again", "server_error", "overloaded")
        job = Job(items, np.empty((len(items), self.model.dimensions), np.float32),
                  asyncio.get_running_loop().create_future())
        self.jobs.append(job)
        self._count(len(items))
        self.woken.set()
        try:
            await job.done
        finally:
            if job in self.jobs:
                self.jobs.remove(job)
                self._count(job.taken - len(items))
        return job.vectors, job.tokens

    def _count(self, change: int) -> None:
        self.waiting += change
        self.metrics.waiting.set(self.waiting)

    def _take(self) -> list[tuple[Job, int, int]]:
        """Some items of each job in turn."""
        parts, room = [], self.limits.batch
        while self.jobs and room:
            job = self.jobs.popleft()
            count = min(len(job.items) - job.taken, room)
            parts.append((job, job.taken, count))
            job.taken += count
            room -= count
            self._count(-count)
            if job.taken < len(job.items):
                self.jobs.append(job)
        return parts

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            parts = self._take()
            if not parts:
                self.woken.clear()
                await self.woken.wait()
                continue
            items = [item for job, start, count in parts for item in job.items[start:start + count]]
            self.metrics.batches.observe(len(items))
            try:
                vectors, errors, tokens = await loop.run_in_executor(self.thread, self.model.encode_counted, items)
            except Exception as error:  # noqa: BLE001, of this batch alone
                for job, _, _ in parts:
                    self._fail(job, error)
                continue
            row = 0
            for job, start, count in parts:
                bad = next((errors[row + i] for i in range(count) if row + i in errors), None)
                job.vectors[start:start + count] = vectors[row:row + count]
                job.tokens += int(tokens[row:row + count].sum())
                job.open -= count
                row += count
                if bad:
                    self._fail(job, bad)
                elif not job.open and not job.done.done():
                    job.done.set_result(None)

    def _fail(self, job: Job, error: Exception) -> None:
        if not job.done.done():
            job.done.set_exception(error)


class Metrics:
    """What Prometheus is told at /metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("llvconv_requests", "Requests by status", ["status"], registry=self.registry)
        self.items = Counter("llvconv_items", "Items embedded", registry=self.registry)
        self.tokens = Counter("llvconv_tokens", "Tokens embedded", registry=self.registry)
        self.waiting = Gauge("llvconv_waiting_items", "Items that wait", registry=self.registry)
        self.seconds = Histogram("llvconv_request_seconds", "Time to answer", registry=self.registry,
                                 buckets=[.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60])
        self.batches = Histogram("llvconv_batch_items", "Items embedded together", registry=self.registry,
                                 buckets=[1, 2, 4, 8, 16, 32, 64, 128, 256])


def application(model: Model, name: str, limits: Limits = Limits(), key: Optional[str] = None) -> FastAPI:
    """The server as an ASGI application.

    Args:
        name: what clients call the model; other names are refused.
        key: what clients must send as their API key.
    """
    metrics = Metrics()

    async def started(app: FastAPI) -> Any:
        batcher = app.state.batcher = Batcher(model, limits, metrics)
        worker = asyncio.create_task(batcher.run())
        yield
        worker.cancel()
        batcher.thread.shutdown(wait=True)

    app = FastAPI(title="llvconv", docs_url=None, redoc_url=None, openapi_url=None,
                  lifespan=contextlib.asynccontextmanager(started))

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        begun = time.monotonic()
        try:
            response = await asyncio.wait_for(answer(request), limits.seconds)
        except Refusal as refusal:
            response = refusal.response()
        except asyncio.TimeoutError:
            response = Refusal(504, f"not done after {limits.seconds:g} seconds", "server_error", "timeout").response()
        except LimitError as error:
            response = Refusal(413, str(error), code=error.kind).response()
        except Error as error:
            status = 500 if error.kind in ("internal", "io") else 400
            response = Refusal(status, str(error), code=error.kind).response()
        metrics.requests.labels(response.status_code).inc()
        metrics.seconds.observe(time.monotonic() - begun)
        return response

    async def answer(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode()
        if key and not secrets.compare_digest(given, f"Bearer {key}".encode()):
            raise Refusal(401, "the API key is wrong", "authentication_error", "invalid_api_key")
        asked = Asked(await body(request, limits.body), name, model, limits)
        work = asyncio.ensure_future(app.state.batcher.embed(asked.items))
        left = asyncio.ensure_future(disconnected(request))
        try:
            await asyncio.wait([work, left], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise gone()
            vectors, tokens = work.result()
        finally:
            for task in (work, left):
                task.cancel()
            await asyncio.gather(work, left, return_exceptions=True)
        metrics.items.inc(len(asked.items))
        metrics.tokens.inc(tokens)
        return Response(asked.written(vectors, tokens), media_type="application/json")

    @app.get("/v1/models")
    async def models() -> Any:
        return {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "llvconv"}]}

    @app.get("/health")
    async def health() -> Any:
        return {"status": "ok", "model": name, "dimensions": model.dimensions, "checksum": model.checksum}

    @app.get("/metrics")
    async def measured() -> Response:
        return PlainTextResponse(generate_latest(metrics.registry))

    return app


async def body(request: Request, limit: int) -> bytes:
    """The request's body; no more of it is held than may be."""
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise Refusal(413, f"a body of more than {limit} bytes", code="limit")
            parts.append(part)
    except ClientDisconnect:
        raise gone() from None
    return b"".join(parts)


def gone() -> Refusal:
    """An answer that nobody reads, counted under nginx's number for it."""
    return Refusal(499, "the client went away", code="disconnected")


async def disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Asked:
    """What a request wants, checked."""

    def __init__(self, body: bytes, name: str, model: Model, limits: Limits):
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            raise Refusal(400, "the body is not JSON") from None
        if not isinstance(asked, dict):
            raise Refusal(400, "the body must be an object with input and model")
        self.name = name
        if asked.get("model", name) != name:
            found = str(asked["model"])[:80]
            raise Refusal(404, f"there is no model {found!r}; it is {name!r}", code="model_not_found")
        self.format = asked.get("encoding_format", "float")
        if self.format not in ("float", "base64"):
            raise Refusal(400, "encoding_format must be float or base64")
        self.dimensions = wanted = asked.get("dimensions")
        if wanted is not None and not (type(wanted) is int and 0 < wanted <= model.dimensions):
            raise Refusal(400, f"dimensions must be from 1 to {model.dimensions}")
        items = asked.get("input")
        items = [items] if isinstance(items, (str, dict)) else items
        if not isinstance(items, list) or not items:
            raise Refusal(400, "input must be a text, an item, or a list of them that is not empty")
        if len(items) > limits.items:
            raise Refusal(413, f"{len(items)} items; at most {limits.items} are taken", code="limit")
        self.items = [item if isinstance(item, str) else self.item(item, limits) for item in items]

    @staticmethod
    def item(item: Any, limits: Limits) -> dict[str, Any]:
        """{"text", "images": ["data:image/...;base64,..."], "instruction"}: no path and no address is opened."""
        if not isinstance(item, dict):
            raise Refusal(400, "an item must be a text or an object; token numbers are not taken")
        unknown = set(item) - {"text", "image", "images", "instruction"}
        if unknown:
            raise Refusal(400, f"an item has no {sorted(unknown)[0][:80]!r}")
        images = item.get("images", [item["image"]] if "image" in item else [])
        if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
            raise Refusal(400, "images must be a list of texts")
        decoded = []
        for image in images:
            head, comma, data = image.partition(",")
            if not (comma and head.startswith("data:image/") and head.endswith(";base64")):
                raise Refusal(400, "an image must be data:image/...;base64,...")
            if len(data) * 3 // 4 > limits.picture:
                raise Refusal(413, f"an image of more than {limits.picture} bytes", code="limit")
            try:
                decoded.append(base64.b64decode(data, validate=True))
            except binascii.Error:
                raise Refusal(400, "an image is not base64") from None
        result = {key: item[key] for key in ("text", "instruction") if item.get(key) is not None}
        if not all(isinstance(value, str) for value in result.values()):
            raise Refusal(400, "text and instruction must be texts")
        if decoded:
            result["images"] = decoded
        return result

    def written(self, vectors: np.ndarray, tokens: int) -> bytes:
        if self.dimensions is not None:
            vectors = finished(vectors, normalize=True, dimensions=self.dimensions)
        rows = ([base64.b64encode(row.tobytes()).decode() for row in vectors.astype("<f4", copy=False)]
                if self.format == "base64" else vectors.tolist())
        data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
        return json.dumps({"object": "list", "data": data, "model": self.name,
                           "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}).encode()


def main() -> None:
    import uvicorn

    options = argparse.ArgumentParser(prog="python -m llvconv.serve", description=__doc__.split("\n")[0])
    options.add_argument("model", help="an .llv container, or what llvconv import takes")
    options.add_argument("--name", help="what clients call the model (default: the file's name)")
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=8000)
    options.add_argument("--threads", type=int)
    options.add_argument("--device")
    options.add_argument("--api-key", default=os.environ.get("LLVCONV_API_KEY"), help="or LLVCONV_API_KEY")
    for name in Limits.__dataclass_fields__:
        kind = float if name == "seconds" else int
        options.add_argument(f"--max-{name}", type=kind, default=getattr(Limits, name))
    options = options.parse_args()
    limits = Limits(**{name: getattr(options, f"max_{name}") for name in Limits.__dataclass_fields__})
    name = options.name or os.path.basename(os.path.normpath(options.model)).removesuffix(".llv")
    try:
        model = Model(options.model, threads=options.threads, device=options.device)
    except Error as error:
        raise SystemExit(f"llvconv: {error}") from None
    app = application(model, name, limits, options.api_key)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
