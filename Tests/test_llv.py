"""Tools/llv.py, the NumPy reader, against containers that llvconv wrote. Run by Tools/test."""
import glob
import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT + "/Tools")
import llv
import xxhash

PROGRAM = os.environ.get("LLVCONV", ROOT + "/.build/release/llvconv")
MODEL = os.environ.get("LLVCONV_MODEL")


class Golden(unittest.TestCase):
    def test_every_golden_container_reads(self):
        paths = glob.glob(ROOT + "/Formats/llv/golden/*.llv")
        self.assertTrue(paths)
        for path in paths:
            model = llv.open(path)
            expected = json.load(open(path + ".json"))["tensors"]
            self.assertEqual(set(expected), set(model))
            for name, checksum in expected.items():
                self.assertEqual(f"{xxhash.xxh64(model.bytes(name).tobytes()).intdigest():016x}", checksum)
                self.assertEqual(list(model[name].shape), model.entry(name)["shape"])

    def test_damage_is_found(self):
        data = bytearray(open(sorted(glob.glob(ROOT + "/Formats/llv/golden/*.llv"))[0], "rb").read())
        with tempfile.NamedTemporaryFile(suffix=".llv") as out:
            for at, cut in ((3, None), (20, None), (len(data) - 2, None), (0, -1)):
                changed = bytearray(data[:cut])
                changed[at] ^= 1 if cut is None else 0
                out.seek(0)
                out.truncate()
                out.write(changed)
                out.flush()
                self.assertRaises(llv.DamagedFile, llv.open, out.name)


@unittest.skipUnless(MODEL, "LLVCONV_MODEL is not set")
class RealModel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.base = cls.folder.name + "/m.llv"
        subprocess.run([PROGRAM, "import", MODEL, "-o", cls.base], check=True, capture_output=True)
        raw = open(MODEL + "/model.safetensors", "rb").read()
        count = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8:8 + count])
        header.pop("__metadata__", None)
        cls.source = {
            name: np.frombuffer(raw, llv.PLAIN[e["dtype"]], int(np.prod(e["shape"], dtype=np.int64)), 8 + count + e["data_offsets"][0]).reshape(e["shape"])
            for name, e in header.items()
        }

    def test_import_is_lossless(self):
        model = llv.open(self.base)
        self.assertEqual(set(model), set(self.source))
        for name, value in self.source.items():
            self.assertTrue(np.array_equal(model[name], value), name)
        for name in ("tokenizer.json", "config.json", "1_Pooling/config.json"):
            with open(f"{MODEL}/{name}", "rb") as file:
                self.assertEqual(model.file(name), file.read())

    def test_quantized_tensors_are_close(self):
        for words, most in (("--bits 8", 0.008), ("--bits 4", 0.09), ("--bits 4 --symmetric --group 128", 0.14), ("--bits 8 --group channel", 0.03),
                            ("--bits 3", 0.22), ("--bits 2", 0.45), ("--bits 3 --affine", 0.2), ("--bits 2 --symmetric", 0.6)):
            path = self.folder.name + "/q.llv"
            subprocess.run([PROGRAM, "quantize", self.base, *words.split(), "--no-fuse", "--force", "-o", path], check=True, capture_output=True)
            model = llv.open(path)
            for name in model:
                value = self.source[name]
                if not value.any():
                    self.assertFalse(model[name].any(), name)
                    continue
                error = np.linalg.norm(model[name] - value) / np.linalg.norm(value)
                self.assertLessEqual(error, most, f"{words} {name}")
                recorded = model.history[-1]["losses"].get(name)
                if recorded:
                    self.assertAlmostEqual(recorded["relative_error"], error, delta=1e-5 + error * 1e-3)


if __name__ == "__main__":
    unittest.main()
