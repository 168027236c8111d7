"""Writes the first inputs for fuzzing into a folder: the cases of Formats, the goldens, and a small model."""
import glob
import json
import os
import shutil
import struct
import sys

folder = sys.argv[1]
shutil.rmtree(folder, ignore_errors=True)


def put(target, name, data):
    os.makedirs(f"{folder}/{target}", exist_ok=True)
    with open(f"{folder}/{target}/{name.replace('/', '-')}", "wb") as out:
        out.write(data)


def build(parts):
    data = b""
    for part in parts:
        for key, value in part.items():
            if key == "text":
                data += value.encode()
            elif key == "hex":
                data += bytes.fromhex(value)
            elif key == "zeros":
                data += bytes(min(value, 4096))
            elif key in ("le64", "be64"):
                data += struct.pack("<Q" if key == "le64" else ">Q", int(value))
            elif key == "repeat":
                data += value[0].encode() * min(value[1], 100)
            elif key == "repeat-hex":
                data += bytes.fromhex(value[0]) * min(value[1], 70)
            elif key == "counted":
                data += value[2].join(value[0].replace("#", str(i)) for i in range(min(value[1], 20))).encode()
            elif key == "header":
                text = value.encode() if isinstance(value, str) else build(value)
                data += struct.pack("<Q", len(text)) + text
    return data


for target in ("json", "safetensors"):
    for case in json.load(open(f"Formats/{target}/cases.json"))["cases"]:
        put(target, case["id"], build(case["bytes"]))
for case in json.load(open("Formats/shard-index/cases.json"))["cases"]:
    index = case["files"].get("model.safetensors.index.json")
    if index:
        put("shard-index", case["id"], build(index).replace(b"model-00001-of-00002", b"a").replace(b"model-00002-of-00002", b"b"))
frame = bytes.fromhex(
    "04224d187c404000000000000000fe1b000000ff01000102030405060708090a0b0c0d0e0f100018500b0c0d0e0f7c8b225b000000003f4154f6")
put("lz4", "frame", b"\x40\x00" + frame)
for path in glob.glob("Formats/llv/golden/*.llv"):
    put("llv", os.path.basename(path), open(path, "rb").read())
for target in ("png", "jpeg", "webp", "avif", "gif", "bmp", "tiff"):
    for case in json.load(open(f"Formats/{target}/cases.json"))["cases"]:
        data = build(case["bytes"])
        if len(data) < 65536:
            put("picture", f"{target}-{case['id']}", data)
put("llave-config", "tiny", open("Tests/Goldens/llave/model/config.json", "rb").read())
put("tokenizer", "bytepair", open("Tests/Goldens/llave/model/tokenizer.json", "rb").read())


def gguf(keys):
    text = lambda b: struct.pack("<Q", len(b)) + b
    out = b""
    for key, value in keys:
        out += text(key)
        if isinstance(value, bytes):
            out += struct.pack("<I", 8) + text(value)
        elif isinstance(value[0], bytes):
            out += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        else:
            out += struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + out


pieces = [b"a", b"b", b"ab", b"<|endoftext|>"]
put("gguf", "small", gguf([(b"tokenizer.ggml.model", b"gpt2"), (b"tokenizer.ggml.pre", b"qwen2"), (b"tokenizer.ggml.tokens", pieces),
                           (b"tokenizer.ggml.token_type", [1, 1, 1, 3]), (b"tokenizer.ggml.merges", [b"a b"])]))
def gguf_file(name):
    return open("Tests/Goldens/gguf/" + name, "rb").read()


for name in ("blocks.gguf", "blocks-big.gguf"):
    put("gguf", name, gguf_file(name))
for case in json.load(open("Formats/gguf/cases.json"))["cases"]:
    data = build(case["bytes"])
    if len(data) < 4096:
        put("gguf", "case-" + case["id"], data)


def tensors(*entries):
    header, data = {}, b""
    for name, dtype, shape, size in entries:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += bytes(i * 37 % 251 for i in range(size))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


shape = struct.pack("<qq", 4, 16)
packed = tensors(("a.weight_packed", "I32", [4, 2], 32), ("a.weight_scale", "F16", [4, 2], 16), ("a.weight_shape", "I64", [2], 16))
put("quantized", "compressed", b"\0" + packed[:-16] + shape)
put("quantized", "integers", b"\0" + tensors(("a.weight", "I8", [4, 16], 64), ("a.weight_scale", "F32", [4, 1], 16)))
for method, bits in ((1, 4), (2, 8)):
    put("quantized", f"gptq{bits}", bytes([method]) + tensors(("a.qweight", "I32", [16 * bits // 32, 8], 64 * bits), ("a.qzeros", "I32", [2, bits // 4], 2 * bits),
                                                              ("a.scales", "F16", [2, 8], 32)))
put("quantized", "awq", b"\3" + tensors(("a.qweight", "I32", [16, 1], 64), ("a.qzeros", "I32", [2, 1], 8), ("a.scales", "F16", [2, 8], 32)))
put("quantized", "mlx", b"\4" + tensors(("a.weight", "U32", [4, 2], 32), ("a.scales", "BF16", [4, 2], 16), ("a.biases", "BF16", [4, 2], 16)))
put("tokenizer", "small", open("Tests/Goldens/tokenizer.json", "rb").read())
item = b'{"id":"a","query":{"text":"b","instruction":"c"},"positive":{"images":["x"],"video":"v"},"negatives":[{"text":""}]}'
put("item", "pair", item)
put("item", "strings", b'"a"\n{"id":1,"candidate":"b"}\n{"query":"c","candidates":["1","1"],"title":"d"}')
put("table", "quotes", b'\xef\xbb\xbfquery,positive\r\n"a ""b""\nc",d\r\n')
put("table", "tabs", b'\tquery\tpositive\n1\ta\t"b"\n')

# A small BERT, for config.json.
names = {"embeddings.word_embeddings.weight": [5, 8], "embeddings.position_embeddings.weight": [6, 8],
         "embeddings.token_type_embeddings.weight": [2, 8], "embeddings.LayerNorm.weight": [8], "embeddings.LayerNorm.bias": [8]}
prefix = "encoder.layer.0."
for part, out, width in (("attention.self.query", 8, 8), ("attention.self.key", 8, 8), ("attention.self.value", 8, 8),
                         ("attention.output.dense", 8, 8), ("intermediate.dense", 12, 8), ("output.dense", 8, 12)):
    names[prefix + part + ".weight"], names[prefix + part + ".bias"] = [out, width], [out]
for part in ("attention.output.LayerNorm", "output.LayerNorm"):
    names[prefix + part + ".weight"], names[prefix + part + ".bias"] = [8], [8]
header, at = {}, 0
for name, shape in names.items():
    size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
    at += size
text = json.dumps(header).encode()
put("model", "model.safetensors", struct.pack("<Q", len(text)) + text + bytes(at))
put("model", "vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
configuration = json.dumps({"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
                                  "intermediate_size": 12, "vocab_size": 5, "max_position_embeddings": 6}).encode()
put("config", "bert", configuration)
put("model", "config.json", configuration)

# Manifests, which targets make containers of: with and without panels, few bits, pictures.
for name in ("v1-few", "v1-panels", "v1-jina"):
    data = open(f"Formats/llv/golden/{name}.llv", "rb").read()
    at, count = struct.unpack_from("<QQ", data, 16)
    put("manifest", name, data[at:at + count])
section = {"at": 64, "stored": 0, "count": 0, "codec": "raw", "checksum": "0" * 16}
small = {"format": "llv", "program": "p", "configuration": {"architecture": "bert", "width": 8, "vocabulary": 5, "maximum_tokens": 6,
                                                             "prompts": [], "default_prompt": None},
         "graphs": [], "files": [], "tensors": [], "history": []}


def tensor(name, shape, encoding, **more):
    return {"name": name, "shape": shape, "encoding": encoding, **more, **section}


for bits in (2, 3, 4, 8):
    encoding = {"type": "grouped", "bits": bits, "group": 8, "affine": True, "scale": "F16"}
    entries = [tensor("a", [5, 24], encoding), tensor("b", [17, 20], {**encoding, "affine": False, "scale": "BF16"}, order="panels")]
    if bits <= 4:
        entries.append(tensor("c", [3, 16], {**encoding, "levels": 2}))
    put("manifest", f"bits-{bits}", json.dumps({**small, "tensors": entries}).encode())
moments = []
for name, shape in names.items():
    if name.startswith("encoder") and len(shape) == 2:
        columns = shape[1]
        moments += [tensor(name, [columns, columns], {"type": "F32"}), tensor(name + "+mean", [columns], {"type": "F32"}),
                    tensor(name + "+channels", [4, columns], {"type": "F32"})]
put("calibration", "bert", json.dumps({**small, "tensors": moments, "history": [{"step": "measure"}]}).encode())
weights = [{"name": name, "choice": choice} for name, choice in
           zip((name for name, shape in names.items() if len(shape) == 2), ("8", "16", "keep", "4:g8", "3:g8:two-level", "2:g16:affine", "F16"))]
put("plan", "bert", json.dumps({"format": "llvconv plan", "model": "0", "input": "int8", "notes": {}, "weights": weights}).encode())
put("plan", "gguf", json.dumps({"format": "llvconv plan", "model": "0", "input": "float", "for": "gguf", "views": 2, "pool_pictures": 1,
                                "notes": {}, "weights": [{"name": "w", "choice": "Q4_K", "float_input": True}]}).encode())
put("anchors", "small", json.dumps({
    "version": "1", "about": {"made_by": "p", "model": None, "data": "d", "queries": 2, "documents": 2, "metric": "cosine",
                              "labelled": True, "thresholds": {"min-cosine": 0.9}, "fault_rows": [0], "faults": [{"name": "n", "text": "t"}]},
    "items": [{"id": "1", "role": "sample", "text": "a", "positive": 0, "negatives": [1]},
              {"id": "2", "role": "document", "pictures": [0]}],
    "names": [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}],
    "tensors": {"vectors": {"dtype": "F32", "shape": [2, 4]}, "index": {"dtype": "F16", "shape": [2, 4]},
                "fault.0": {"dtype": "F32", "shape": [1, 4]}, "picture.0": {"dtype": "U8", "shape": [5]}}}).encode())
for place in range(24):
    put("grouped", str(place), bytes([place, 8 * (1 + place % 5), place // 4, place % 3, 17, 40 - place]) + bytes(range(1, 200)))
