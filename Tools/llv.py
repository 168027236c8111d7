#!/usr/bin/env python3
"""Reads .llv containers into NumPy. Formats/llv/spec.md is the contract; this file follows it and nothing else.

    import llv
    model = llv.open("model.llv")
    model["encoder.layer.0.output.dense.weight"]   # numpy array; grouped integers come as float32
    model.configuration, model.history, model.file("tokenizer.json")

As a program it lists what a container holds: python3 Tools/llv.py model.llv
Needs numpy; lz4 for compressed sections; xxhash to check checksums (left out without it).
"""
import json
import struct
import sys

import numpy as np

try:
    import xxhash
except ImportError:
    xxhash = None

MAGIC = b"\x89LLV\r\n\x1a\n"
PLAIN = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8", "I64": "<i8",
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8",
}


class DamagedFile(ValueError):
    """The bytes break the format."""


def _check(holds, problem):
    if not holds:
        raise DamagedFile(problem)


def _hash(data):
    return xxhash.xxh64(data).intdigest() if xxhash else None


class open:  # noqa: A001  (the module's one verb)
    def __init__(self, path):
        self._data = np.memmap(path, dtype=np.uint8, mode="r")
        header = self._data[:64].tobytes()
        _check(len(header) == 64 and header[:8] == MAGIC, f"{path}: not an .llv container")
        version, flags, at, count, checksum, total, reserved, own = struct.unpack("<IIQQQQQQ", header[8:])
        _check(version == 1, f"{path}: version {version}; this reader knows 1")
        _check(flags == 0 and reserved == 0, f"{path}: reserved bytes are not zero")
        _check(_hash(header[:56]) in (None, own), f"{path}: header checksum does not match")
        _check(total == len(self._data) and at + count == total, f"{path}: unfinished or cut")
        manifest = self._data[at:].tobytes()
        _check(_hash(manifest) in (None, checksum), f"{path}: manifest checksum does not match")
        self.manifest = json.loads(manifest)
        self.configuration = self.manifest["configuration"]
        self.history = self.manifest["history"]
        self.graphs = {g["name"]: g["graph"] for g in self.manifest["graphs"]}
        self._tensors = {t["name"]: t for t in self.manifest["tensors"]}
        self._files = {f["name"]: f for f in self.manifest["files"]}

    def __iter__(self):
        return iter(self._tensors)

    def __len__(self):
        return len(self._tensors)

    def __contains__(self, name):
        return name in self._tensors

    def keys(self):
        return self._tensors.keys()

    def file_names(self):
        return list(self._files)

    def file(self, name):
        """The bytes of a tokenizer or configuration file that came with the model."""
        return self._section(self._files[name]).tobytes()

    def entry(self, name):
        """The manifest's entry of a tensor: shape, encoding, place."""
        return self._tensors[name]

    def bytes(self, name):
        """A tensor's bytes in its encoding, decompressed, rows one after the other."""
        entry = self._tensors[name]
        raw = self._section(entry)
        return _rows(raw, entry["shape"], entry["encoding"]) if entry.get("order") == "panels" else raw

    def __getitem__(self, name):
        entry = self._tensors[name]
        raw, shape, encoding = self.bytes(name), entry["shape"], entry["encoding"]
        if encoding["type"] == "grouped":
            return _grouped(raw, shape, encoding)
        if encoding["type"] == "BF16":
            return (raw.view("<u2").astype("<u4") << 16).view("<f4").reshape(shape)
        if encoding["type"] not in PLAIN:
            raise NotImplementedError(f"{name}: NumPy has no type for {encoding['type']}; see bytes()")
        return raw.view(PLAIN[encoding["type"]]).reshape(shape)

    def _section(self, entry):
        stored = self._data[entry["at"]:entry["at"] + entry["stored"]]
        if entry["codec"] == "raw":
            raw = np.array(stored)
        else:
            import lz4.frame

            raw = np.frombuffer(lz4.frame.decompress(stored.tobytes()), dtype=np.uint8)
            if entry["codec"].startswith("lz4-planes-"):
                width = int(entry["codec"].rsplit("-", 1)[1])
                raw = np.ascontiguousarray(raw.reshape(width, -1).T).reshape(-1)
        _check(len(raw) == entry["count"], f"{entry['name']}: {len(raw)} bytes, {entry['count']} expected")
        found = _hash(raw.tobytes())
        _check(found is None or f"{found:016x}" == entry["checksum"], f"{entry['name']}: checksum does not match")
        return raw


def _up(n, step):
    return -(-n // step) * step


def _rows(raw, shape, encoding):
    """The bytes of a matrix row by row, from panels of sixteen rows."""
    (rows, columns), kind = shape, encoding["type"]
    panels = -(-rows // 16)
    if kind != "grouped":
        size = {"F32": 4, "F16": 2, "BF16": 2}[kind]
        if kind != "BF16":
            cells = raw.reshape(panels, columns, 16, size).transpose(0, 2, 1, 3)
        else:
            cells = raw.reshape(panels, -(-columns // 2), 16, 2, size).transpose(0, 2, 1, 3, 4).reshape(panels, 16, -1, size)
        return np.ascontiguousarray(cells.reshape(panels * 16, -1, size)[:rows, :columns]).reshape(-1)
    bits, group, levels = encoding["bits"], encoding["group"], encoding.get("levels", 1)
    groups = -(-columns // group)
    # Groups are filled up to fours; blocks hold four codes of each row. Blocks of fewer than eight bits share their bytes.
    places = np.concatenate([np.arange(first, min(first + group, columns)) - first + place for first, place in (
        (g * group, g * _up(min(group, columns), 4)) for g in range(groups))])
    blocks = sum(_up(min(group, columns - g * group), 4) for g in range(groups)) // 4
    stored = {8: blocks, 4: -(-blocks // 2), 3: -(-blocks // 8) * 3, 2: -(-blocks // 4)}[bits]
    codes = raw[: panels * stored * 64].reshape(panels, stored, 16, 4)
    if bits == 3:
        # Two lots of the lower two bits, then the third bits.
        codes = codes.reshape(panels, -1, 3, 16, 4)
        low = np.stack([codes[:, :, half] >> shift & 3 for half in (0, 1) for shift in (0, 2, 4, 6)], axis=2)
        codes = (low | np.stack([codes[:, :, 2] >> bit & 1 for bit in range(8)], axis=2) << 2).reshape(panels, -1, 16, 4)
    elif bits < 8:
        codes = np.stack([codes >> shift & (1 << bits) - 1 for shift in range(0, 8, bits)], axis=2).reshape(panels, -1, 16, 4)
    codes = codes.transpose(0, 2, 1, 3).reshape(panels * 16, -1)[:rows, places]
    if not encoding["affine"]:
        codes = codes ^ (1 << bits - 1)
    codes = np.packbits(np.unpackbits(codes.astype(np.uint8)[:, :, None], axis=2, bitorder="little", count=bits).reshape(rows, -1), axis=1, bitorder="little")
    parts, at = [codes.reshape(-1)], panels * stored * 64
    width = {"F16": 2, "BF16": 2, "F32": 4}[encoding["scale"]]
    for count, size in [(1 if levels == 2 else groups, width)] + ([(groups, 1 if levels == 2 else width)] if encoding["affine"] else []):
        at = _up(at, 64)
        part = raw[at:at + panels * count * 16 * size].reshape(panels, count, 16, size)
        at += part.size
        parts.append(np.zeros(-sum(map(len, parts)) % 64, np.uint8))
        parts.append(np.ascontiguousarray(part.transpose(0, 2, 1, 3).reshape(panels * 16, count, size)[:rows]).reshape(-1))
    return np.concatenate(parts)


def _grouped(raw, shape, encoding):
    """Value of code q: q * scale, or q * scale + zero; in two levels scale * (step * (q * unit - zero)) with a scale a row. Groups run
    along the last dimension."""
    columns, rows = shape[-1], int(np.prod(shape[:-1], dtype=np.int64))
    bits, size, affine, levels = encoding["bits"], encoding["group"], encoding["affine"], encoding.get("levels", 1)
    row_bytes, groups = -(-columns * bits // 8), -(-columns // size)
    codes = raw[: rows * row_bytes].reshape(rows, row_bytes)
    if bits < 8:
        # One after the other, earlier ones in lower bits.
        codes = np.unpackbits(codes, axis=1, bitorder="little")[:, : columns * bits].reshape(rows, columns, bits)
        codes = np.packbits(codes, axis=2, bitorder="little")[:, :, 0]
        if not affine:
            codes = (codes ^ 1 << bits - 1).astype(np.int16) - (1 << bits - 1)
    elif not affine:
        codes = codes.view(np.int8)
    at = -(-rows * row_bytes // 64) * 64
    kind = encoding["scale"]
    width = {"F16": 2, "BF16": 2, "F32": 4}[kind]

    def numbers(at, groups=groups):
        part = np.ascontiguousarray(raw[at:at + rows * groups * width])
        if kind == "BF16":
            return (part.view("<u2").astype("<u4") << 16).view("<f4").reshape(rows, groups)
        return part.view("<f2" if kind == "F16" else "<f4").astype(np.float32).reshape(rows, groups)

    spread = lambda values: np.repeat(values, size, axis=1)[:, :columns]
    if levels == 2:
        steps_at = -(-(at + rows * width) // 64) * 64
        steps = raw[steps_at:steps_at + rows * groups].reshape(rows, groups).astype(np.int16)
        whole = (spread(steps & 15) + 1) * (codes.astype(np.int16) * (16 >> bits) - spread(steps >> 4))
        return (whole.astype(np.float32) * numbers(at, 1)).reshape(shape)
    result = codes.astype(np.float32) * spread(numbers(at))
    if affine:
        result += spread(numbers(-(-(at + rows * groups * width) // 64) * 64))
    return result.reshape(shape)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: llv.py MODEL.llv")
    model = open(sys.argv[1])
    print(json.dumps(model.configuration))
    for name in model:
        entry = model.entry(name)
        print(name, entry["shape"], json.dumps(entry["encoding"]), entry["codec"], entry["stored"])
