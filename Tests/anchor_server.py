"""A server of embeddings for tests: it has the vectors of an anchors file by heart. anchor_server.py FILE.anchors MODE

Prints its port. MODE is how it answers, and what is wrong with it.
"""
import base64
import json
import random
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

data = open(sys.argv[1], "rb").read()
mode = sys.argv[2]
length = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8 : 8 + length])


def tensor(name):
    start, end = header[name]["data_offsets"]
    return data[8 + length + start : 8 + length + end]


items = [json.loads(line) for line in tensor("items").decode().splitlines()]
width = header["vectors"]["shape"][1]
values = tensor("vectors")
known = {
    item.get("sent", item.get("text")): list(struct.unpack(f"<{width}f", values[4 * width * i : 4 * width * (i + 1)]))
    for i, item in enumerate(items)
}
requests = 0


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        global requests
        requests += 1
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if mode == "busy" and requests == 1:
            return self.answer(503, "loading")
        if mode == "error":
            return self.answer(400, "no such model")
        if mode == "garbage":
            return self.answer(200, "<html>")
        if mode == "token" and self.headers["Authorization"] != 'Bearer s3cret"\\':
            return self.answer(401, "who are you?")
        texts = body.get("input", body.get("inputs", body.get("content")))
        rows = [known[text] for text in texts]
        if mode == "nan":
            rows = [[float("nan")] * width if i == 0 else row for i, row in enumerate(rows)]
        if mode == "columns":
            rows = [row[: width * 2 // 3] for row in rows]
        if mode == "widths":
            rows = [row[: width - i % 2] for i, row in enumerate(rows)]
        if mode == "batch" and len(rows) > 1:
            rows = [[a + 0.3 * b for a, b in zip(row, rows[i - 1])] for i, row in enumerate(rows)]
            rows = [[a / sum(b * b for b in row) ** 0.5 for a in row] for row in rows]
        if mode == "count":
            rows = rows[1:] + rows[1:]
        if mode == "tei":
            return self.answer(200, json.dumps(rows))
        if mode == "ollama":
            return self.answer(200, json.dumps({"model": body["model"], "embeddings": rows}))
        if mode == "llama":
            return self.answer(200, json.dumps([{"index": i, "embedding": [row]} for i, row in enumerate(rows)]))
        if body["encoding_format"] == "base64":
            rows = [base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode() for row in rows]
        answers = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
        if mode == "shuffled":
            random.shuffle(answers)
        self.answer(200, json.dumps({"object": "list", "data": answers, "model": body["model"]}))


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
