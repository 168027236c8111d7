"""What llvconv writes, read by the formats' own Python libraries, and what those write, read by llvconv. Run by Tools/test."""
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import load_file, save_file

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT + "/Tools")
import llv

PROGRAM = os.environ.get("LLVCONV", ROOT + "/.build/release/llvconv")
LLAVE = ROOT + "/Tests/Goldens/llave/model"
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
         "IQ4_NL"]


def run(*words, code=0):
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == code, f"{words}: {done.returncode} {done.stderr}"
    return done.stderr


def bits(array):
    return np.ascontiguousarray(array, np.float32).view(np.uint32)


def contents(arrays):
    """Shapes and bits of tensors whatever they are called."""
    return sorted((a.shape, bits(a).tobytes()) for a in arrays)


def gguf_arrays(path):
    return [dequantize(t.data, t.tensor_type).reshape([int(d) for d in reversed(t.shape)]) for t in GGUFReader(path).tensors]


def llv_arrays(path):
    model = llv.open(path)
    return [np.asarray(model[name], np.float32) for name in model]


def qwen2(folder, seed, hidden=256, wide=512, layers=2, vocabulary=400, spoil=False):
    """A random Qwen2 checkpoint with the small byte-level tokenizer."""
    r = np.random.default_rng(seed)
    os.makedirs(folder)
    heads, kv = hidden // 32, hidden // 64
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    for n in range(layers):
        p = f"model.layers.{n}."
        shapes.update({p + "input_layernorm.weight": (hidden,), p + "post_attention_layernorm.weight": (hidden,),
                       p + "self_attn.q_proj.weight": (hidden, hidden), p + "self_attn.q_proj.bias": (hidden,),
                       p + "self_attn.k_proj.weight": (kv * 32, hidden), p + "self_attn.k_proj.bias": (kv * 32,),
                       p + "self_attn.v_proj.weight": (kv * 32, hidden), p + "self_attn.v_proj.bias": (kv * 32,),
                       p + "self_attn.o_proj.weight": (hidden, hidden), p + "mlp.gate_proj.weight": (wide, hidden),
                       p + "mlp.up_proj.weight": (wide, hidden), p + "mlp.down_proj.weight": (hidden, wide)})
    tensors = {k: (r.standard_normal(s) * s[-1] ** -.5).astype(np.float32) for k, s in shapes.items()}
    if spoil:
        w = tensors["model.layers.0.mlp.up_proj.weight"]
        w[0] = 0
        w[1] = -0.0
        w[2, 7] = 3e4
        w[3] = 1e-40
        w[4] = np.float32(2 ** -24) * r.integers(-3, 4, hidden)
        w[5] = 5
        w[6] = -5
        w[7, :32] = 1e-30
        w[8] = np.abs(w[8])
        w[9] = -np.abs(w[9])
        w[10, ::2] = 0
    config = {"model_type": "qwen2", "hidden_size": hidden, "intermediate_size": wide, "num_hidden_layers": layers, "num_attention_heads": heads,
              "num_key_value_heads": kv, "vocab_size": vocabulary, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 512}
    write(folder, tensors, config)
    return tensors, config


def write(folder, tensors, config):
    os.makedirs(folder, exist_ok=True)
    save_file(tensors, folder + "/model.safetensors")
    json.dump(config, open(folder + "/config.json", "w"))
    open(folder + "/tokenizer.json", "w").write(open(LLAVE + "/tokenizer.json").read())


class Folder(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.root = self.temporary.name

    def path(self, name):
        return f"{self.root}/{name}"


class GGUF(Folder):
    def test_gguf_py_reads_every_type_and_decodes_it_as_we_do(self):
        qwen2(self.path("m"), 1, spoil=True)
        run("import", self.path("m"), "-o", self.path("m.llv"))
        for kind in TYPES:
            with self.subTest(kind):
                run("export", self.path("m.llv"), "--to", "gguf", "--type", kind, "--table", kind, "-o", self.path(kind + ".gguf"))
                reader = GGUFReader(self.path(kind + ".gguf"))
                self.assertTrue(any(t.tensor_type.name == kind for t in reader.tensors))
                run("import", self.path(kind + ".gguf"), "-o", self.path(kind + ".llv"))
                self.assertEqual(contents(gguf_arrays(self.path(kind + ".gguf"))), contents(llv_arrays(self.path(kind + ".llv"))))

    def test_types_that_hold_it_give_it_back(self):
        """llv to GGUF to llv, quantized on the way in or not."""
        qwen2(self.path("m"), 2)
        run("import", self.path("m"), "-o", self.path("m.llv"))
        for name, words in {"plain": None, "Q8_0": ["--bits", "8"], "Q4_0": ["--bits", "4", "--symmetric"], "Q4_1": ["--bits", "4", "--affine"]}.items():
            with self.subTest(name):
                source = self.path("m.llv")
                if words:
                    source = self.path(name + "-q.llv")
                    run("quantize", self.path("m.llv"), "--no-fuse", "--table", "keep", *words, "-o", source)
                run("export", source, "--to", "gguf", "-o", self.path(name + ".gguf"))
                run("import", self.path(name + ".gguf"), "-o", self.path(name + ".llv"))
                kinds = {t.tensor_type.name for t in GGUFReader(self.path(name + ".gguf")).tensors}
                self.assertEqual(kinds, {"F32", name} if words else {"F32"})
                before, after = llv.open(source), llv.open(self.path(name + ".llv"))
                self.assertEqual(set(before), set(after))
                for tensor in before:
                    self.assertEqual(bits(before[tensor]).tobytes(), bits(after[tensor]).tobytes(), tensor)

    def test_a_llave_pair_comes_back(self):
        run("import", LLAVE, "-o", self.path("m.llv"))
        run("export", self.path("m.llv"), "--to", "gguf", "-o", self.path("m.gguf"))
        run("import", self.path("m.gguf"), "--mmproj", self.path("m-mmproj.gguf"), "-o", self.path("again.llv"))
        before, after = llv.open(self.path("m.llv")), llv.open(self.path("again.llv"))
        self.assertEqual(set(before), set(after))
        for tensor in before:
            self.assertEqual(bits(before[tensor]).tobytes(), bits(after[tensor]).tobytes(), tensor)
        keys = GGUFReader(self.path("m-mmproj.gguf")).fields
        self.assertEqual(keys["clip.projector_type"].contents(), "mlp")
        self.assertNotIn("v.post_ln.weight", [t.name for t in GGUFReader(self.path("m-mmproj.gguf")).tensors])

    def test_parts(self):
        qwen2(self.path("m"), 3)
        run("import", self.path("m"), "-o", self.path("m.llv"))
        run("export", self.path("m.llv"), "--to", "gguf", "--split", "1", "-o", self.path("m.gguf"))
        parts = sorted(n for n in os.listdir(self.root) if n.startswith("m-0"))
        self.assertGreater(len(parts), 2)
        run("import", self.path(parts[1]), "-o", self.path("again.llv"))
        self.assertEqual(contents(llv_arrays(self.path("m.llv"))), contents(llv_arrays(self.path("again.llv"))))
        kept = open(self.path(parts[1]), "rb").read()
        open(self.path(parts[1]), "wb").write(open(self.path(parts[2]), "rb").read())
        self.assertIn("split.no", run("import", self.path(parts[0]), "-o", self.path("x.llv"), code=65))
        open(self.path(parts[1]), "wb").write(kept.replace(b"split.tensors.count\x05\0\0\0", b"split.tensors.count\x04\0\0\0"))
        os.rename(self.path(parts[1]), self.path("elsewhere"))
        self.assertIn(parts[1], run("import", self.path(parts[0]), "-o", self.path("x.llv"), code=66))


class GGUFMeaning(Folder):
    """Keys that say something else than the tensors or each other (cases G86 to G98)."""

    # A token for each byte, as GPT-2 spells bytes: printable ones as they are, others from U+0100 on.
    PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    BYTES = [chr(b) for b in PRINTABLE] + [chr(0x100 + n) for n in range(256 - len(PRINTABLE))]
    TOKENS = BYTES + ["ab", "<|endoftext|>"]
    KEYS = {"qwen2.context_length": 64, "qwen2.embedding_length": 32, "qwen2.block_count": 1, "qwen2.feed_forward_length": 64, "qwen2.attention.head_count": 4,
            "qwen2.attention.head_count_kv": 2, "qwen2.attention.layer_norm_rms_epsilon": 1e-6, "qwen2.rope.freq_base": 1e6, "qwen2.pooling_type": 3,
            "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.tokens": TOKENS,
            "tokenizer.ggml.token_type": [1] * 257 + [3], "tokenizer.ggml.merges": ["a b"],
            "tokenizer.ggml.eos_token_id": 257}

    def write(self, path, keys):
        from gguf import GGUFWriter, GGUFValueType
        writer = GGUFWriter(path, "qwen2")
        for key, value in keys.items():
            if isinstance(value, tuple):
                writer.add_key_value(key, value[0], *value[1:])
            elif isinstance(value, (list, bytes)):
                writer.add_array(key, value)
            elif isinstance(value, str):
                writer.add_string(key, value)
            elif isinstance(value, bool):
                writer.add_bool(key, value)
            elif isinstance(value, float):
                writer.add_float32(key, value)
            elif value is not None:
                writer.add_uint32(key, value)
        r = np.random.default_rng(1)
        shapes = {"token_embd.weight": (258, 32), "output_norm.weight": (32,), "blk.0.attn_norm.weight": (32,), "blk.0.ffn_norm.weight": (32,), "blk.0.attn_q.weight": (32, 32),
                  "blk.0.attn_q.bias": (32,), "blk.0.attn_k.weight": (16, 32), "blk.0.attn_k.bias": (16,), "blk.0.attn_v.weight": (16, 32), "blk.0.attn_v.bias": (16,),
                  "blk.0.attn_output.weight": (32, 32), "blk.0.ffn_gate.weight": (64, 32), "blk.0.ffn_up.weight": (64, 32), "blk.0.ffn_down.weight": (32, 64)}
        for name, shape in shapes.items():
            writer.add_tensor(name, r.standard_normal(shape).astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def test_what_keys_mean(self):
        from gguf import GGUFValueType
        scores = lambda n, kind: ([0] * n, GGUFValueType.ARRAY, kind)
        rows = [
            ("valid", {}, 0, ""),
            ("G86", {"tokenizer.ggml.scores": scores(3, GGUFValueType.FLOAT32)}, 65, "must have equal length"),
            ("G86 types", {"tokenizer.ggml.token_type": [1, 1, 1]}, 65, "must have equal length"),
            ("G87", {"tokenizer.ggml.scores": scores(258, GGUFValueType.INT8)}, 65, "float32"),
            ("G88", {"tokenizer.ggml.eos_token_id": 2 ** 32 - 1, "tokenizer.ggml.add_eos_token": True}, 65, "token id"),
            ("G90", {"tokenizer.ggml.tokens": [*self.BYTES, "a", "<|endoftext|>"]}, 65, "the same token twice"),
            ("G91 none", {"qwen2.block_count": 0}, 65, "block_count"),
            ("G91 more", {"qwen2.block_count": 513}, 65, "513 layers"),
            ("G91 absurd", {"qwen2.block_count": 2 ** 32 - 1}, 65, "block_count"),
            ("G92 none", {"qwen2.attention.head_count": 0}, 65, "head_count"),
            ("G92 seven", {"qwen2.attention.head_count": 7}, 65, "must divide"),
            ("G92 keys", {"qwen2.attention.head_count_kv": 0}, 65, "head_count_kv"),
            ("G93", {"qwen2.attention.head_count": ([4], GGUFValueType.ARRAY, GGUFValueType.INT32)}, 65, "whole number"),
            ("G94", {"tokenizer.chat_template": "{{ ''.__class__.__mro__ }}"}, 0, ""),
            ("G98", {"qwen2.embedding_length": 48}, 65, "hidden_size"),
            ("other model", {"tokenizer.ggml.model": "rwkv"}, 69, "rwkv"),
            ("SentencePiece without scores", {"tokenizer.ggml.model": "llama"}, 65, "tokenizer.ggml.scores"),
            ("other cutter", {"tokenizer.ggml.pre": "gpt-4o"}, 69, "gpt-4o"),
            ("scaled rope", {"qwen2.rope.scaling.type": "yarn"}, 69, "yarn"),
            ("pooling", {"qwen2.pooling_type": 4}, 69, "pooling_type"),
            ("missing", {"qwen2.attention.layer_norm_rms_epsilon": None}, 65, "is missing"),
            ("text for a number", {"qwen2.block_count": "1"}, 65, "whole number"),
        ]
        for name, keys, code, word in rows:
            with self.subTest(name):
                self.write(self.path("m.gguf"), {**self.KEYS, **keys})
                told = run("import", self.path("m.gguf"), "-o", self.path("m.llv"), "--force", code=code)
                self.assertIn(word, told)
                if code:
                    self.assertIn("m.gguf", told)
                    self.assertEqual(told.count("\n"), 1)


class Safetensors(Folder):
    def test_an_untouched_model_comes_back_bit_for_bit(self):
        for seed, dtype in ((1, np.float32), (2, np.float16)):
            tensors, config = qwen2(self.path(f"m{seed}"), seed, hidden=64 * seed, layers=seed)
            write(self.path(f"m{seed}"), {k: v.astype(dtype) for k, v in tensors.items()}, config)
            run("import", self.path(f"m{seed}"), "-o", self.path("m.llv"), "--force")
            for name, words in (("own", ["--to", "safetensors"]), ("hf", ["--to", "hf"])):
                run("export", self.path("m.llv"), *words, "-o", self.path(f"{name}{seed}"))
                before, after = load_file(self.path(f"m{seed}/model.safetensors")), load_file(self.path(f"{name}{seed}/model.safetensors"))
                self.assertEqual(set(before), set(after))
                for k in before:
                    self.assertEqual((before[k].dtype, before[k].tobytes()), (after[k].dtype, after[k].tobytes()), k)

    def test_shards(self):
        tensors, _ = qwen2(self.path("m"), 4)
        run("import", self.path("m"), "-o", self.path("m.llv"))
        run("export", self.path("m.llv"), "--to", "hf", "--split", "1", "-o", self.path("hf"))
        index = json.load(open(self.path("hf/model.safetensors.index.json")))
        self.assertEqual(set(index["weight_map"]), set(tensors))
        self.assertEqual(index["metadata"]["total_size"], sum(t.nbytes for t in tensors.values()))
        shards = sorted(set(index["weight_map"].values()))
        self.assertGreater(len(shards), 2)
        for shard in shards:
            for name, value in load_file(self.path("hf/" + shard)).items():
                self.assertEqual(index["weight_map"][name], shard)
                self.assertEqual(value.tobytes(), tensors[name].tobytes())
        run("import", self.path("hf"), "-o", self.path("again.llv"))
        self.assertEqual(contents(llv_arrays(self.path("m.llv"))), contents(llv_arrays(self.path("again.llv"))))

    def test_layers_that_import_leaves_out_are_no_longer_declared(self):
        run("import", LLAVE, "-o", self.path("m.llv"))
        run("export", self.path("m.llv"), "--to", "hf", "--type", "F32", "-o", self.path("hf"))
        tensors, config = load_file(self.path("hf/model.safetensors")), json.load(open(self.path("hf/config.json")))
        layers = config["vision_config"]["num_hidden_layers"]
        # One layer more, whose state is not used, as transformers' conversions of so400m have it.
        for name in list(tensors):
            if f"encoder.layers.{layers - 1}." in name:
                tensors[name.replace(f"layers.{layers - 1}.", f"layers.{layers}.")] = tensors[name]
        config["vision_config"]["num_hidden_layers"], config["vision_feature_layer"] = layers + 1, -2
        write(self.path("more"), tensors, config)
        run("import", self.path("more"), "-o", self.path("more.llv"))
        run("export", self.path("more.llv"), "--to", "hf", "-o", self.path("again"))
        run("import", self.path("again"), "-o", self.path("again.llv"))
        self.assertEqual(contents(llv_arrays(self.path("again.llv"))), contents(llv_arrays(self.path("m.llv"))))
        run("export", self.path("more.llv"), "--to", "gguf", "-o", self.path("more.gguf"))
        run("import", self.path("more.gguf"), "--mmproj", self.path("more-mmproj.gguf"), "-o", self.path("gguf.llv"))
        self.assertEqual(contents(llv_arrays(self.path("gguf.llv"))), contents(llv_arrays(self.path("m.llv"))))

    def test_a_directory_is_never_replaced(self):
        run("import", LLAVE, "-o", self.path("m.llv"))
        os.mkdir(self.path("there"))
        run("export", self.path("m.llv"), "--to", "hf", "-o", self.path("there"), code=73)
        for words in (["hf", "--force"], ["mlx", "--type", "F16"], ["gguf", "--weights", "W4A16"], ["safetensors", "--names", "memory"]):
            self.assertIn("means nothing", run("export", self.path("m.llv"), "-o", self.path("new"), "--to", *words, code=64))
        self.assertEqual(os.listdir(self.path("there")), [])
        self.assertEqual(sorted(os.listdir(self.root)), ["m.llv", "there"])


def pack(codes, bits_, axis):
    """Codes to 32-bit words, earlier ones in lower bits."""
    codes = np.moveaxis(codes.astype(np.uint32), axis, -1)
    each = 32 // bits_
    codes = codes.reshape(*codes.shape[:-1], -1, each)
    words = np.bitwise_or.reduce(codes << (np.arange(each, dtype=np.uint32) * bits_), axis=-1)
    return np.ascontiguousarray(np.moveaxis(words, -1, axis))


class OthersQuantized(Folder):
    """Checkpoints packed here as the formats' documents say, held to `(code - zero) * scale` in NumPy."""

    def setUp(self):
        super().setUp()
        self.tensors, self.config = qwen2(self.path("plain"), 5)
        self.linear = [k for k in self.tensors if k.endswith("proj.weight")]
        self.r = np.random.default_rng(6)

    def check(self, packed, config, expected):
        tensors = {k: v for k, v in self.tensors.items() if k not in self.linear}
        for name in self.linear:
            tensors.update({name[: -len("weight")] + part: value for part, value in packed[name].items()})
        write(self.path("q"), tensors, {**self.config, **config})
        run("import", self.path("q"), "-o", self.path("q.llv"))
        run("export", self.path("q.llv"), "--to", "safetensors", "-o", self.path("out"))
        after = load_file(self.path("out/model.safetensors"))
        self.assertEqual(set(after), set(self.tensors))
        for name in self.linear:
            self.assertEqual(bits(expected[name]).tobytes(), bits(after[name]).tobytes(), name)
        self.assertNotIn("quantization_config", json.load(open(self.path("out/config.json"))))

    def draw(self, name, bits_, group):
        rows, columns = self.tensors[name].shape
        codes = self.r.integers(0, 1 << bits_, (rows, columns))
        scales = (self.r.random((rows, columns // group)) * .02 + .001).astype(np.float16)
        zeros = self.r.integers(1, 1 << bits_, scales.shape)
        wide = lambda a: np.repeat(a, group, 1)
        return codes, scales, zeros, wide

    def compressed(self, bits_, is_affine):
        packed, expected = {}, {}
        for name in self.linear:
            codes, scales, zeros, wide = self.draw(name, bits_, 64)
            packed[name] = {"weight_packed": pack(codes, bits_, 1).view(np.int32), "weight_scale": scales,
                            "weight_shape": np.array(codes.shape, np.int64)}
            offset = np.full(scales.shape, 1 << (bits_ - 1))
            if is_affine:
                packed[name]["weight_zero_point"], offset = pack(zeros, bits_, 0).view(np.int32), zeros
            expected[name] = (codes - wide(offset)).astype(np.float32) * wide(scales).astype(np.float32)
            # Zero has no sign where the value is a sum.
            if is_affine:
                expected[name] += 0.0
        self.check(packed, {"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized"}}, expected)

    def test_compressed_tensors_four_bits(self):
        self.compressed(4, False)

    def test_compressed_tensors_eight_bits(self):
        self.compressed(8, False)

    def test_compressed_tensors_with_zero_points(self):
        self.compressed(4, True)

    def test_compressed_tensors_integers(self):
        packed, expected = {}, {}
        for name in self.linear:
            rows, columns = self.tensors[name].shape
            codes, scales = self.r.integers(-127, 128, (rows, columns)).astype(np.int8), (self.r.random((rows, 1)) + .01).astype(np.float32)
            packed[name] = {"weight": codes, "weight_scale": scales}
            expected[name] = codes.astype(np.float32) * scales
        self.check(packed, {"quantization_config": {"quant_method": "compressed-tensors", "format": "int-quantized"}}, expected)

    def gptq(self, version, offset):
        packed, expected = {}, {}
        for name in self.linear:
            codes, scales, zeros, wide = self.draw(name, 4, 32)
            packed[name] = {"qweight": pack(codes.T, 4, 0).view(np.int32), "qzeros": pack((zeros - offset).T, 4, 1).view(np.int32),
                            "scales": np.ascontiguousarray(scales.T), "g_idx": (np.arange(codes.shape[1]) // 32).astype(np.int32)}
            expected[name] = (codes - wide(zeros)).astype(np.float32) * wide(scales).astype(np.float32) + 0.0
        self.check(packed, {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False,
                                                    "checkpoint_format": version}}, expected)

    def test_gptq(self):
        self.gptq("gptq", 1)

    def test_gptq_second_version(self):
        self.gptq("gptq_v2", 0)

    def test_awq(self):
        packed, expected = {}, {}
        order = [0, 2, 4, 6, 1, 3, 5, 7]
        shuffle = lambda a: a.reshape(a.shape[0], -1, 8)[:, :, order].reshape(a.shape)
        for name in self.linear:
            codes, scales, zeros, wide = self.draw(name, 4, 64)
            packed[name] = {"qweight": pack(shuffle(codes.T), 4, 1).view(np.int32), "qzeros": pack(shuffle(zeros.T), 4, 1).view(np.int32),
                            "scales": np.ascontiguousarray(scales.T)}
            expected[name] = (codes - wide(zeros)).astype(np.float32) * wide(scales).astype(np.float32) + 0.0
        self.check(packed, {"quantization_config": {"quant_method": "awq", "bits": 4, "version": "gemm"}}, expected)

    def test_mlx(self):
        packed, expected = {}, {}
        for n, name in enumerate(self.linear):
            bits_ = 8 if n == 1 else 4
            codes, scales, _, wide = self.draw(name, bits_, 64)
            biases = (self.r.standard_normal(scales.shape) * .1).astype(np.float16)
            packed[name] = {"weight": pack(codes, bits_, 1), "scales": scales, "biases": biases}
            expected[name] = codes.astype(np.float32) * wide(scales).astype(np.float32) + wide(biases).astype(np.float32)
        self.check(packed, {"quantization": {"group_size": 64, "bits": 4, self.linear[1][:-7]: {"group_size": 64, "bits": 8}}}, expected)

    def test_what_is_not_read_is_named(self):
        for config, word in (({"quant_method": "bitsandbytes"}, "bitsandbytes"), ({"quant_method": "gptq", "bits": 3}, "3 bits"),
                             ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "float-quantized")):
            tensors = {**self.tensors, self.linear[0][:-6] + "qweight": np.zeros((4, 4), np.int32)}
            write(self.path("bad"), tensors, {**self.config, "quantization_config": config})
            self.assertIn(word, run("import", self.path("bad"), "-o", self.path("bad.llv"), code=69))


class HostileQuantized(Folder):
    def test_sides_that_overflow_are_refused(self):
        """A side beside an empty one may be any number."""
        for method in ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, {"quantization_config": {"quant_method": "awq", "bits": 4}},
                       {"quantization": {"bits": 4}}, {"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized"}}):
            for shape in ([2 ** 60, 0], [0, 2 ** 60]):
                os.makedirs(self.path("q"), exist_ok=True)
                entry = lambda dtype: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]}
                header = json.dumps({"a.qweight": entry("I32"), "a.weight": entry("U32"), "a.weight_packed": entry("I32"), "a.qzeros": entry("I32"), "a.scales": entry("F16"),
                                     "a.biases": entry("F16"), "a.weight_scale": entry("F16"), "a.weight_shape": entry("I64")}).encode()
                open(self.path("q/model.safetensors"), "wb").write(len(header).to_bytes(8, "little") + header)
                json.dump({"model_type": "qwen2", **method}, open(self.path("q/config.json"), "w"))
                told = run("import", self.path("q"), "-o", self.path("q.llv"), code=65)
                self.assertEqual(told.count("\n"), 1, told)
                self.assertFalse(os.path.exists(self.path("q.llv")))


def unpack(words, bits_):
    return ((words[..., None] >> (np.arange(32 // bits_, dtype=np.uint32) * bits_)) & ((1 << bits_) - 1)).reshape(words.shape[0], -1)


class QuantizedExports(Folder):
    def setUp(self):
        super().setUp()
        qwen2(self.path("m"), 8)
        run("import", self.path("m"), "-o", self.path("m.llv"))

    def reference(self, *words):
        run("quantize", self.path("m.llv"), "--no-fuse", "--table", "keep", *words, "-o", self.path("q.llv"))
        return llv.open(self.path("q.llv"))

    def test_compressed_tensors(self):
        for name, bits_, words in (("W4A16", 4, ["--bits", "4", "--symmetric", "--group", "128"]), ("W8A16", 8, ["--bits", "8", "--group", "channel"]),
                                   ("W8A8", 8, ["--bits", "8", "--group", "channel", "--activations", "8"])):
            with self.subTest(name):
                reference = self.reference(*words, *([] if name == "W4A16" else ["--force"]))
                run("export", self.path("m.llv"), "--to", "compressed-tensors", "--weights", name, "-o", self.path(name))
                out, config = load_file(self.path(name + "/model.safetensors")), json.load(open(self.path(name + "/config.json")))
                settings = config["quantization_config"]
                self.assertEqual(settings["format"], "int-quantized" if name == "W8A8" else "pack-quantized")
                group = settings["config_groups"]["group_0"]
                self.assertEqual(group["weights"]["num_bits"], bits_)
                self.assertEqual(group["input_activations"] is None, name != "W8A8")
                for stem in (k[: -len("_scale")] for k in out if k.endswith("weight_scale")):
                    scale = out[stem + "_scale"].astype(np.float32)
                    codes = out[stem].astype(np.float32) if name == "W8A8" else unpack(out[stem + "_packed"].view(np.uint32), bits_).astype(np.float32) - (1 << (bits_ - 1))
                    value = codes * np.repeat(scale, codes.shape[1] // scale.shape[1], 1)
                    self.assertEqual(bits(value + 0.0).tobytes(), bits(np.asarray(reference[stem]) + 0.0).tobytes(), stem)

    def test_compressed_tensors_in_the_names_of_all_versions_of_transformers(self):
        run("import", ROOT + "/Tools/demo-model/model", "-o", self.path("llave.llv"))
        words = ("--to", "compressed-tensors", "--weights", "W8A16")
        run("export", self.path("llave.llv"), *words, "-o", self.path("llave"))
        settings = json.load(open(self.path("llave/config.json")))["quantization_config"]
        # Newer versions undo the codes when they load.
        self.assertIs(settings["dequantize"], True)
        ignored = [i[len("re:"):] for i in settings["ignore"] if i.startswith("re:")]
        for stem in ("model.vision_tower.", "model.vision_tower.vision_model.", "vision_tower."):
            name = f"{stem}encoder.layers.0.mlp.fc1"
            self.assertEqual(sum(re.match(i, name) is not None for i in ignored), 1, name)
        self.assertFalse(any(re.match(i, "model.language_model.layers.0.mlp.up_proj") for i in ignored))

    def test_mlx(self):
        reference = self.reference("--bits", "4", "--group", "64", "--affine")
        run("export", self.path("m.llv"), "--to", "mlx", "-o", self.path("mlx"))
        out, config = load_file(self.path("mlx/model.safetensors")), json.load(open(self.path("mlx/config.json")))
        self.assertEqual({k: config["quantization"][k] for k in ("group_size", "bits", "mode")}, {"group_size": 64, "bits": 4, "mode": "affine"})
        self.assertIs(config["quantization"]["model.embed_tokens"], False)
        for stem in (k[: -len("scales")] for k in out if k.endswith(".scales")):
            wide = lambda a: np.repeat(a.astype(np.float32), 64, 1)
            value = unpack(out[stem + "weight"], 4).astype(np.float32) * wide(out[stem + "scales"]) + wide(out[stem + "biases"])
            self.assertEqual(bits(value).tobytes(), bits(reference[stem + "weight"]).tobytes(), stem)

    def test_mixed_schemes_are_groups_of_their_own(self):
        run("quantize", self.path("m.llv"), "--no-fuse", "--bits", "4", "--symmetric", "--table", "keep", "--tensor", "*down_proj.weight=8:g32",
            "-o", self.path("mixed.llv"))
        run("export", self.path("mixed.llv"), "--to", "compressed-tensors", "-o", self.path("mixed"))
        settings = json.load(open(self.path("mixed/config.json")))["quantization_config"]
        # transformers 5 would take the first group for all.
        self.assertNotIn("dequantize", settings)
        groups = settings["config_groups"]
        wide = next(g["targets"] for g in groups.values() if g["weights"]["num_bits"] == 8)
        for name in ("model.layers.1.mlp.down_proj", "layers.1.mlp.down_proj"):
            self.assertEqual(sum(re.match(t[len("re:"):], name) is not None for t in wide), 1, name)
        self.assertEqual(sorted((g["weights"]["num_bits"], len(g["targets"])) for g in groups.values()), [(4, 12), (8, 2)])
        run("import", self.path("mixed"), "-o", self.path("again.llv"))
        self.assertEqual(contents(llv_arrays(self.path("mixed.llv"))), contents(llv_arrays(self.path("again.llv"))))


class HashAndDiff(Folder):
    def hash(self, *words):
        return subprocess.run([PROGRAM, "hash", *map(str, words)], capture_output=True, text=True, check=True).stdout.splitlines()

    def diff(self, *words, code):
        done = subprocess.run([PROGRAM, "diff", *map(str, words), "--json"], capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stderr)
        return json.loads(done.stdout)

    def test_a_hash_does_not_depend_on_the_format(self):
        tensors, _ = qwen2(self.path("m"), 11)
        run("import", self.path("m"), "-o", self.path("m.llv"))
        run("export", self.path("m.llv"), "--to", "gguf", "-o", self.path("m.gguf"))
        run("export", self.path("m.llv"), "--to", "hf", "-o", self.path("hf"))
        hashes = [self.hash(self.path(n)) for n in ("m", "m.llv", "m.gguf", "hf")]
        self.assertTrue(all(h == hashes[0] for h in hashes))
        # What the manual says a hash is.
        import hashlib
        name = "model.layers.1.mlp.up_proj.weight"
        expected = hashlib.sha256(b"512x256\n" + tensors[name].tobytes()).hexdigest()
        self.assertIn(f"{expected}  {name}", hashes[0])
        self.assertEqual(hashes[0][-1], hashlib.sha256("".join(line + "\n" for line in hashes[0][:-1]).encode()).hexdigest() + "  model")
        tensors[name][0, 0] += 1
        write(self.path("other"), tensors, json.load(open(self.path("m/config.json"))))
        self.assertNotEqual(self.hash(self.path("other"))[-1], hashes[0][-1])

    def test_differences_are_found_and_measured(self):
        tensors, config = qwen2(self.path("a"), 12)
        name = "model.layers.0.mlp.gate_proj.weight"
        before = tensors[name].astype(np.float64)
        tensors[name] = tensors[name] * np.float32(1.5)
        tensors[name][3, 4] += 7
        after = tensors[name].astype(np.float64)
        write(self.path("b"), tensors, config)
        run("import", self.path("b"), "-o", self.path("b.llv"))
        found = self.diff(self.path("a"), self.path("b.llv"), code=1)
        worst = found["tensors"][0]
        self.assertEqual(worst["name"], name)
        self.assertFalse(any(not t["difference"]["identical"] for t in found["tensors"][1:]))
        d = worst["difference"]
        self.assertAlmostEqual(d["relative_error"], np.linalg.norm(after - before) / np.linalg.norm(before), places=6)
        self.assertAlmostEqual(d["cosine"], (before * after).sum() / np.linalg.norm(before) / np.linalg.norm(after), places=9)
        self.assertAlmostEqual(d["largest_error"], np.abs(after - before).max(), places=5)
        self.diff(self.path("a"), self.path("b"), "--tolerance", d["relative_error"] * 1.001, code=0)
        self.diff(self.path("a"), self.path("b"), "--tolerance", d["relative_error"] * 0.999, code=1)
        self.diff(self.path("a"), self.path("a"), code=0)
        del tensors["model.norm.weight"]
        tensors["model.other.weight"] = np.zeros((2, 3), np.float32)
        save_file(tensors, self.path("c.safetensors"))
        found = self.diff(self.path("b/model.safetensors"), self.path("c.safetensors"), code=1)
        self.assertEqual((found["only_a"], found["only_b"]), (["model.norm.weight"], ["model.other.weight"]))
        tensors["model.norm.weight"] = np.zeros(255, np.float32)
        save_file(tensors, self.path("c.safetensors"))
        self.assertEqual(self.diff(self.path("b/model.safetensors"), self.path("c.safetensors"), code=1)["shape"],
                         [{"name": "model.norm.weight", "a": [256], "b": [255]}])


if __name__ == "__main__":
    unittest.main()
