"""The Python package and the C library below it, against the program. Run by Tools/test, which builds both."""
import concurrent.futures
import ctypes
import io
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from PIL import Image

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.environ.get("LLVCONV", ROOT + "/.build/release/llvconv")
os.environ.setdefault("LLVCONV_LIBRARY", os.path.join(os.path.dirname(PROGRAM), "libllvconv-c.so"))
sys.path.insert(0, ROOT + "/Tools/python")
import llvconv
from llvconv import arrow, shards
from llvconv.sentence_transformer import SentenceTransformer

LLAVE = ROOT + "/Tests/Goldens/llave/"
# A tiny checkpoint: what is tested does not depend on the weights.
MODEL, TOKENIZER = ROOT + "/Tests/Goldens/families/bert", ROOT + "/Tests/Goldens/families/tokenizer.json"
WORDS = "a red fox jumps over the lazy dog while seven whales sing in an old harbour of stone".split()


def texts(count):
    return [" ".join(WORDS[(i * 7 + k * k) % len(WORDS)] for k in range(1 + i % 11)) for i in range(count)]


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = cls.temporary.name + "/"
        cls.path = cls.folder + "m.llv"
        llvconv.import_(MODEL, cls.path, tokenizer=TOKENIZER)
        cls.model = llvconv.Model(cls.path)

    @classmethod
    def tearDownClass(cls):
        cls.model.close()
        cls.temporary.cleanup()

    def program(self, items, *options, model=None):
        """The program's vectors of items."""
        with open(self.folder + "x.jsonl", "w") as file:
            file.writelines(json.dumps(item) + "\n" for item in items)
        subprocess.run([PROGRAM, "embed", model or self.path, "--input", self.folder + "x.jsonl", "--output",
                        self.folder + "x.npy", "--force", "--quiet", *options], check=True)
        return np.load(self.folder + "x.npy")

    def read(self, path):
        with open(path, "rb") as file:
            return file.read()

    def same(self, a, b):
        self.assertEqual(a.shape, b.shape)
        self.assertEqual(a.tobytes(), b.tobytes())


class Encoding(Case):
    def test_vectors_are_the_programs_bit_for_bit(self):
        items = texts(700) + [{"text": "with an id"}, {"text": "x", "instruction": "query: "}, "é 中 😀 \0 \n", ""]
        found = self.model.encode(items)
        self.same(found, self.program(items))
        self.same(self.model.encode(items[:700], batch_size=33), found[:700])
        self.same(self.model.encode(items[5]), found[5])
        self.same(self.model.encode(["x"], prompt="query: "), found[701:702])
        self.assertEqual(self.model.encode([]).shape, (0, self.model.dimensions))

    def test_pictures_from_everywhere_are_the_files(self):
        model = llvconv.Model(LLAVE + "model")
        path = LLAVE + "square.png"
        data = self.read(path)
        picture = Image.open(path)
        forms = [path, data, picture, np.asarray(picture.convert("RGB")), io.BytesIO(data)]
        found = model.encode([{"images": [form]} for form in forms] + [picture])
        for row in found:
            self.same(row, found[0])
        text = "<image> beside <image>"
        self.same(model.encode([{"text": text, "images": [path, picture]}, {"text": text, "images": [path, path]}])[0],
                  model.encode({"text": text, "images": [path, path]}))
        self.same(found[:1], self.program([{"images": [path]}], model=LLAVE + "model"))

    def test_what_is_bad_has_its_kind(self):
        for error, call in [
            (llvconv.MissingError, lambda: llvconv.Model(self.folder + "none.llv")),
            (llvconv.UsageError, lambda: self.model.encode(["a"], prompt_name="none")),
            (llvconv.UsageError, lambda: llvconv.quantize(self.path, self.folder + "q.llv", bit=4)),
            (llvconv.CannotCreateError, lambda: llvconv.import_(MODEL, self.path)),
            (llvconv.MalformedError, lambda: llvconv.Model(ROOT + "/Formats/llv/spec.md")),
            (llvconv.UsageError, lambda: self.model.encode(["a"], truncate_dim=0)),
            (llvconv.UsageError, lambda: self.model.encode(["a"], precision="int4")),
        ]:
            with self.assertRaises(error) as caught:
                call()
            self.assertIsInstance(caught.exception, llvconv.Error)
        with self.assertRaises(llvconv.UsageError) as caught:
            llvconv.quantize(self.path, self.folder + "q.llv", bit=4)
        self.assertIn("did you mean bits?", str(caught.exception))

    def test_a_bad_item_is_one_row(self):
        items = ["good", {"txt": "misspelt"}, {"text": "fox", "images": ["none.png"]}, "\ud800", "fine"]
        with self.assertRaises(llvconv.BadItems) as caught:
            self.model.encode(items)
        self.assertEqual(sorted(caught.exception.errors), [1, 2, 3])
        self.assertIsInstance(caught.exception.errors[1], llvconv.MalformedError)
        found = self.model.encode(items, on_error="nan")
        self.assertTrue(np.isnan(found[1:4]).all())
        self.same(found[[0, 4]], self.model.encode(["good", "fine"]))
        # A long list of bad items is as good as a short one.
        _, errors = self.model.encode_rows([{"text": 1}] * 200_000, batch_size=200_000)
        self.assertEqual(len(errors), 200_000)

    def test_precisions_keep_what_they_say(self):
        full = self.model.encode(texts(50))
        half = self.model.encode(texts(50), precision="float16")
        self.same(half, full.astype(np.float16))
        eight = self.model.encode(texts(50), precision="int8").astype(np.float32)
        self.assertTrue((np.abs(eight).max(axis=1) == 127).all())
        self.assertGreater((llvconv.model.unit(eight) * llvconv.model.unit(full)).sum(axis=1).min(), 0.999)
        self.same(self.model.encode(texts(50), precision="uint8").astype(np.float32) - 128, eight)
        self.same(self.model.encode(texts(50), precision="ubinary"), np.packbits(full > 0, axis=1))
        cut = self.model.encode(texts(50), truncate_dim=8, normalize_embeddings=True)
        np.testing.assert_allclose(np.linalg.norm(cut, axis=1), 1, rtol=1e-6)
        self.assertAlmostEqual(float(self.model.similarity(full[0], full[0])[0, 0]), 1, places=5)

    def test_a_sentence_transformer(self):
        model = SentenceTransformer(self.path, prompts={"query": "query: ", "document": "passage: "}, device="cpu")
        self.same(model.encode_query("fox"), self.model.encode("fox", prompt="query: "))
        self.same(model.encode_document(["fox"]), self.model.encode(["fox"], prompt="passage: "))
        self.same(model.encode(["fox", "dog"]), self.model.encode(["fox", "dog"]))
        self.assertEqual(tuple(model.similarity(model.encode(["a", "b"]), model.encode(["a", "b", "c"])).shape), (2, 3))
        self.assertEqual(model.get_embedding_dimension(), self.model.dimensions)
        with self.assertRaises(llvconv.UnsupportedError):
            model.encode("a", output_value="token_embeddings")


class Processes(Case):
    def test_threads_share_a_model(self):
        expected = self.model.encode(texts(300))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for found in pool.map(lambda _: self.model.encode(texts(300)), range(16)):
                self.same(found, expected)

    def test_python_runs_on_while_a_model_computes(self):
        counts, stop = [0], threading.Event()

        def count():
            while not stop.is_set():
                counts[0] += 1
                time.sleep(.001)

        thread = threading.Thread(target=count)
        thread.start()
        before = counts[0]
        begun = time.monotonic()
        self.model.encode(texts(3000), batch_size=3000)
        seconds, ticks = time.monotonic() - begun, counts[0] - before
        stop.set()
        thread.join()
        # Held, the lock would leave none; a busy machine leaves few.
        self.assertGreater(ticks, seconds * 1000 / 50)

    def test_other_processes_have_a_model_that_was_opened_before(self):
        expected = self.model.encode(texts(200))
        inherited[:] = [self.model]
        for method in ("fork", "spawn"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with multiprocessing.get_context(method).Pool(2) as pool:
                    for found in pool.map(encode, [(self.model if method == "spawn" else None, texts(200))] * 4):
                        self.same(found, expected)
        self.same(pickle.loads(pickle.dumps(self.model)).encode(["a"]), self.model.encode(["a"]))

    def test_a_closed_model_says_so(self):
        with llvconv.Model(self.path) as model:
            model.encode("a")
        with self.assertRaises(llvconv.UsageError):
            model.encode("a")


#: What a child of fork finds in its parent's memory.
inherited = []


def encode(given):
    model, items = given
    return (model or inherited[0]).encode(items)


class Conversions(Case):
    def test_import_quantize_and_verify(self):
        shares = []
        small = llvconv.quantize(self.path, self.folder + "q.llv", bits=8, progress=lambda what, share: shares.append(share))
        self.assertLess(small["file_bytes"], os.path.getsize(self.path))
        self.assertTrue(shares)
        program = self.folder + "p.llv"
        subprocess.run([PROGRAM, "quantize", self.path, "--bits", "8", "-o", program, "--quiet"], check=True)
        self.assertEqual(self.read(self.folder + "q.llv"), self.read(program))
        with open(self.folder + "pairs.jsonl", "w") as file:
            for text in sorted(set(texts(60))):
                file.write(json.dumps({"query": text, "positive": text + " now", "negatives": ["a stone"]}) + "\n")
        found = llvconv.verify(self.folder + "q.llv", reference=self.path, data=self.folder + "pairs.jsonl", no_cache=True)
        self.assertIn(found.verdict, ("pass", "inconclusive"))
        self.assertIn("<html", found.page)
        run = subprocess.run([PROGRAM, "verify", self.folder + "q.llv", "--reference", self.path, "--data",
                              self.folder + "pairs.jsonl", "--json", "--no-cache"], capture_output=True, text=True)
        self.assertEqual(json.loads(run.stdout)["checks"], found.report["checks"])

    def test_anchors(self):
        with open(self.folder + "a.jsonl", "w") as file:
            for place, text in enumerate(sorted(set(texts(80)))):
                file.write(json.dumps({"query": text, "positive": f"{text} now {place}"}) + "\n")
        anchors = llvconv.Anchors.make(self.path, self.folder + "i.anchors", data=self.folder + "a.jsonl", count=60, seed=3)
        program = self.folder + "p.anchors"
        subprocess.run([PROGRAM, "anchors", self.path, "--data", self.folder + "a.jsonl", "--count", "60", "--seed", "3",
                        "-o", program, "--quiet"], check=True)
        self.assertEqual(self.read(anchors.path), self.read(program))
        items = anchors.items()
        self.assertEqual(len(items), 60)
        vectors = self.model.encode(items)
        for candidate in (self.path, [self.path], vectors):
            self.assertEqual(anchors.verify(candidate, max_recall_drop=.2).verdict, "pass")
        with self.assertRaises(llvconv.MalformedError):
            anchors.verify(vectors[:9])
        # Columns in another order, and the order named.
        found = anchors.verify(vectors[:, ::-1])
        self.assertEqual(found.verdict, "fail")
        self.assertIn("columns", json.dumps(found.report["causes"]))
        with self.assertRaises(llvconv.UsageError):
            anchors.verify()
        with self.assertRaises(llvconv.CannotCreateError):
            llvconv.Anchors.make(self.path, anchors.path, data=self.folder + "a.jsonl")
        with self.assertRaises(llvconv.MissingError):
            llvconv.Anchors(self.folder + "none.anchors").items()


class Tables(Case):
    def batch(self, count, start=0):
        values = texts(count)
        values[3:4] = [None]
        return pa.record_batch([pa.array([f"id{start + i}" for i in range(count)]), pa.array(values)], names=["id", "text"])

    def test_batches_are_the_models_rows(self):
        embedder = arrow.Embedder(self.model)
        batch = self.batch(100)
        for part in (batch, batch.slice(10, 50), pa.record_batch([batch.column(0), batch.column(1).cast(pa.large_string())],
                                                                 names=["id", "text"])):
            found = embedder(part)
            good = [text for text in part.column(1).to_pylist() if text is not None]
            self.same(np.array([row for row in found.column("embedding").to_pylist() if row], np.float32),
                      self.model.encode(good))
            self.assertEqual(found.column("id"), part.column(0))
            self.assertEqual(found.column("error").null_count, len(good))
        for precision, kind in (("float16", pa.float16()), ("int8", pa.int8())):
            found = arrow.Embedder(self.model, precision=precision)(batch)
            self.assertEqual(found.schema.field("embedding").type, pa.list_(kind, self.model.dimensions))
        with self.assertRaises(llvconv.UsageError):
            arrow.Embedder(self.model, text="body")(batch)

    def test_streams_and_files_go_through(self):
        source = self.folder + "x.parquet"
        pq.write_table(pa.Table.from_batches([self.batch(1000)]), source, row_group_size=300)
        bad = arrow.embed_parquet(arrow.Embedder(self.model), source, self.folder + "y.parquet", rows=128)
        table = pq.read_table(self.folder + "y.parquet")
        self.assertEqual((bad, table.num_rows), (1, 999))
        self.assertEqual(pq.read_table(self.folder + "y.parquet.bad").to_pylist(), [{"id": "id3", "error": "the text is null"}])
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, self.batch(4).schema) as writer:
            writer.write_batch(self.batch(700))
            writer.write_batch(self.batch(300, 700))
        run = subprocess.run([sys.executable, "-m", "llvconv.arrow", self.path], input=sink.getvalue(), capture_output=True,
                             env=dict(os.environ, PYTHONPATH=ROOT + "/Tools/python"))
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn(b"2 rows are bad", run.stderr)
        found = pa.ipc.open_stream(run.stdout).read_all()
        good = found.filter(pa.compute.is_null(found["error"])).slice(0, 699)
        self.assertEqual(good.select(["id", "embedding"]).combine_chunks(), table.slice(0, 699).combine_chunks())
        self.assertEqual((found.num_rows, found["embedding"].null_count), (1000, 2))

    def test_shards_are_done_once_whatever_dies(self):
        files = []
        for part in range(3):
            files.append(f"{self.folder}in{part}.parquet")
            pq.write_table(pa.Table.from_batches([self.batch(1500, part * 1500)]), files[-1], row_group_size=400)
        whole, killed = self.folder + "whole", self.folder + "killed"
        job = shards.plan(self.path, files, whole, 7)
        shards.run(whole, range(7))
        self.assertTrue(shards.check(whole).is_complete)
        self.assertEqual((shards.check(whole).vectors, shards.check(whole).bad), (4497, 3))
        shards.plan(self.path, files, killed, 7)
        random = np.random.default_rng(1)
        for _ in range(12):
            process = subprocess.Popen([sys.executable, "-m", "llvconv.shards", "run", killed], stdout=subprocess.DEVNULL,
                                       env=dict(os.environ, PYTHONPATH=ROOT + "/Tools/python"))
            time.sleep(random.uniform(.3, 1.2))
            process.send_signal(signal.SIGKILL)
            process.wait()
        shards.run(killed, shards.missing(killed))
        self.assertTrue(shards.check(killed).is_complete)
        self.assertFalse([name for name in os.listdir(killed) if name.endswith(".tmp")])
        for shard in range(7):
            for a, b in zip(shards.paths(whole, job, shard), shards.paths(killed, job, shard)):
                self.assertEqual(os.path.exists(a), os.path.exists(b))
                if os.path.exists(a):
                    self.assertEqual(self.read(a), self.read(b))
        with self.assertRaises(llvconv.CannotCreateError):
            shards.plan(self.path, files, killed, 8)
        llvconv.quantize(self.path, self.folder + "other.llv", bits=8, force=True)
        changed = dict(json.loads(self.read(killed + "/manifest.json")), model=self.folder + "other.llv")
        with open(killed + "/manifest.json", "w") as file:
            json.dump(changed, file)
        os.unlink(shards.paths(killed, job, 0)[0])
        with self.assertRaises(llvconv.MalformedError):
            shards.run(killed, [0])


class Server(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        import uvicorn
        from llvconv import serve

        app = serve.application(cls.model, "tiny", serve.Limits(items=100, body=1 << 20, picture=1 << 16, batch=16), "secret")
        cls.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        cls.thread = threading.Thread(target=cls.server.run)
        cls.thread.start()
        while not cls.server.started:
            time.sleep(.01)
        cls.port = cls.server.servers[0].sockets[0].getsockname()[1]

    @classmethod
    def tearDownClass(cls):
        cls.server.should_exit = True
        cls.thread.join()
        super().tearDownClass()

    def ask(self, body, key="secret"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/embeddings", data,
                                         {"Authorization": f"Bearer {key}"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def test_answers_are_the_models(self):
        import base64

        items = texts(40)
        status, answer = self.ask({"model": "tiny", "input": items})
        self.assertEqual((status, answer["usage"]["total_tokens"] > 40), (200, True))
        self.same(np.array([row["embedding"] for row in answer["data"]], np.float32), self.model.encode(items))
        _, coded = self.ask({"model": "tiny", "input": items, "encoding_format": "base64"})
        rows = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in coded["data"]]
        self.same(np.stack(rows), self.model.encode(items))
        _, cut = self.ask({"model": "tiny", "input": items[0], "dimensions": 8})
        self.assertAlmostEqual(float(np.linalg.norm(cut["data"][0]["embedding"])), 1, places=5)
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            for index, (status, answer) in enumerate(pool.map(lambda i: self.ask({"input": items[i % 40]}), range(200))):
                self.assertEqual(status, 200)
                self.same(np.array(answer["data"][0]["embedding"], np.float32), self.model.encode(items[index % 40]))

    def test_what_is_bad_is_one_answer(self):
        for status, body in [
            (400, b"{"), (400, b"[1]"), (400, b"[" * 100_000), (400, {"input": []}), (400, {"input": [[1, 2]]}), (400, {"input": 7}),
            (404, {"input": "a", "model": "other"}), (400, {"input": "a", "dimensions": 0}), (400, {"input": "a", "dimensions": True}),
            (400, {"input": "a", "encoding_format": "hex"}), (413, {"input": ["a"] * 101}), (413, b" " * (2 << 20)),
            (400, {"input": {"text": "a", "video": "/etc/passwd"}}), (400, {"input": {"images": ["/etc/passwd"]}}),
            (400, {"input": {"images": ["data:image/png;base64,????"]}}), (400, {"input": {"text": 1}}),
            (413, {"input": {"images": ["data:image/png;base64," + "A" * 200_000]}}), (400, {"input": {}}),
            (400, {"input": {"text": "a", "images": ["data:image/png;base64,AAAA"]}}), (400, {"input": "\ud800"}),
        ]:
            found, answer = self.ask(body)
            self.assertEqual(found, status, str(body)[:80])
            self.assertTrue(answer["error"]["message"])
        self.assertEqual(self.ask({"input": "a"}, key="wrong")[0], 401)
        self.assertEqual(self.ask({"input": "a"})[0], 200)

    def test_clients_that_go_away_leave_nothing(self):
        import socket

        body = json.dumps({"input": texts(100)}).encode()
        head = (f"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\nContent-Length: {len(body)}"
                "\r\n\r\n").encode()
        # Others wait meanwhile, each of whom is answered.
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            others = [pool.submit(self.ask, {"input": texts(30)}) for _ in range(24)]
            for index in range(60):
                with socket.create_connection(("127.0.0.1", self.port)) as client:
                    client.sendall(head + (body if index % 2 else body[:50]))
            self.assertEqual({other.result()[0] for other in others}, {200})
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            metrics = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics").read().decode()
            if "llvconv_waiting_items 0.0" in metrics and 'status="499"' in metrics:
                break
            time.sleep(.05)
        self.assertIn("llvconv_waiting_items 0.0", metrics)
        self.assertIn('llvconv_requests_total{status="499"}', metrics)
        self.assertEqual(self.ask({"input": "a"})[0], 200)
        health = json.load(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health"))
        self.assertEqual(health["dimensions"], self.model.dimensions)


class Library(Case):
    def test_a_c_program(self):
        source = self.folder + "c.c"
        with open(source, "w") as file:
            file.write(r'''
#include <llvconv.h>
#include <stdio.h>
#include <stdlib.h>
int main(int count, char **words) {
  llvconv_model *model; llvconv_error *error;
  if (llvconv_open("none.llv", NULL, NULL, NULL, &model, &error) != LLVCONV_MISSING || model) return 1;
  if (llvconv_error_code(error) != 66 || llvconv_error_row(error) != -1 || !llvconv_error_message(error)[0]) return 2;
  llvconv_error_free(error);
  if (llvconv_open(words[1], "{\"thread\": 1}", NULL, NULL, &model, NULL) != LLVCONV_USAGE) return 3;
  if (llvconv_open(words[1], "{\"threads\": 1}", NULL, NULL, &model, &error)) return 4;
  int64_t width = llvconv_dimensions(model), offsets[] = {0, 5, 8, 8}, tokens[3], cut[3];
  llvconv_items items = {.count = 3, .bytes = "hellofox", .offsets = offsets};
  float *vectors = malloc(3 * width * sizeof(float));
  if (llvconv_embed(model, &items, vectors, tokens, cut, NULL, NULL, &error) || error) return 5;
  fwrite(vectors, sizeof(float), 3 * width, stdout);
  if (tokens[0] < 3 || cut[0]) return 6;
  items.kind = LLVCONV_JSON;
  if (llvconv_embed(model, &items, vectors, NULL, NULL, NULL, NULL, &error) || !error) return 7;
  int rows = 0;
  for (const llvconv_error *at = error; at; at = llvconv_error_next(at)) rows += llvconv_error_row(at) == rows;
  if (rows != 3 || vectors[0] == vectors[0]) return 8;
  llvconv_error_free(error);
  offsets[1] = 9;
  if (llvconv_embed(model, &items, vectors, NULL, NULL, NULL, NULL, NULL) != LLVCONV_USAGE) return 9;
  char *facts = llvconv_describe(model);
  if (!facts[0]) return 10;
  llvconv_text_free(facts);
  llvconv_close(model);
  return 0;
}
''')
        library = os.environ["LLVCONV_LIBRARY"]
        binary = self.folder + "c"
        subprocess.run(["cc", "-Wall", "-Werror", "-I", ROOT + "/Sources/CLLVConv/include", source, library, "-o", binary,
                        "-Wl,-rpath," + os.path.dirname(library)], check=True)
        run = subprocess.run([binary, self.path], capture_output=True)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.same(np.frombuffer(run.stdout, np.float32).reshape(3, -1), self.model.encode(["hello", "fox", ""]))

    def test_the_structs_are_the_headers(self):
        from llvconv import _library
        source = self.folder + "s.c"
        with open(source, "w") as file:
            file.write('#include <llvconv.h>\n#include <stdio.h>\nint main() { printf("%zu %zu %d", sizeof(llvconv_items), '
                       "sizeof(llvconv_picture), LLVCONV_ABI); }\n")
        subprocess.run(["cc", "-I", ROOT + "/Sources/CLLVConv/include", source, "-o", self.folder + "s"], check=True)
        sizes = subprocess.run([self.folder + "s"], capture_output=True, text=True).stdout
        self.assertEqual(sizes, f"{ctypes.sizeof(_library.Items)} {ctypes.sizeof(_library.Picture)} {_library.ABI}")


if __name__ == "__main__":
    unittest.main()
