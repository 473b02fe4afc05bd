#!/usr/bin/env python3
"""Makes the tiny checkpoints under tests/data/checkpoints/ (needs torch and safetensors).

Every floating-point tensor holds first, first + 1, first + 2, ... in row-major order, so that a test can tell
from its values whether an offset is right. All values are exact in bfloat16.

Usage: python tests/data/make_checkpoints.py
"""

import io
import json
import pathlib
import pickle
import shutil
import zipfile

import torch
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).parent / "checkpoints"


def counting(first, shape, dtype):
    count = torch.Size(shape).numel()
    return (first + torch.arange(count, dtype=torch.float32)).reshape(shape).to(dtype)


def folder(name):
    path = ROOT / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def mixed_tensors():
    return {
        "decoder.weight": counting(1, (3, 5), torch.float32),
        "decoder.half": counting(20, (2, 2, 3), torch.float16),
        "decoder.brain": counting(40, (7,), torch.bfloat16),
        "decoder.scalar": counting(60, (), torch.float32),
        "decoder.empty": counting(0, (0, 4), torch.float16),
        "decoder.positions": torch.arange(6, dtype=torch.int64),
        "decoder.flag": torch.tensor([True, False]),
    }


def halves():
    return [
        {"a.weight": counting(1, (4, 3), torch.float16), "a.bias": counting(30, (3,), torch.float16)},
        {"b.weight": counting(50, (2, 6), torch.float16)},
    ]


def write_index(path, names, shards):
    weight_map = {key: name for name, shard in zip(names, shards) for key in shard}
    index = {"metadata": {"total_size": 54, "nested": {"list": [1, {"two": None}]}}, "weight_map": weight_map}
    path.write_text(json.dumps(index, indent=2) + "\n")


def write_safetensors():
    save_file(mixed_tensors(), folder("safetensors_single") / "model.safetensors", metadata={"format": "pt"})
    path = folder("safetensors_sharded")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name, shard in zip(names, halves()):
        save_file(shard, path / name)
    write_index(path / "model.safetensors.index.json", names, halves())


class TinyModel(torch.nn.Module):
    """Parameters, a buffer of integers, a tied weight, and the _metadata of a state_dict()."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(6, 4)
        self.norm = torch.nn.LayerNorm(4)
        self.head = torch.nn.Linear(4, 6, bias=False)
        self.register_buffer("steps", torch.arange(3))
        with torch.no_grad():
            self.embed.weight.copy_(counting(1, (6, 4), torch.float32))
            self.norm.weight.copy_(counting(40, (4,), torch.float32))
            self.norm.bias.copy_(counting(50, (4,), torch.float32))
        self.head.weight = self.embed.weight


def save_bin(name, value, file="pytorch_model.bin", **options):
    torch.save(value, folder(name) / file, **options)


def write_torch():
    save_bin("bin_mixed", mixed_tensors())
    model = TinyModel()
    save_bin("bin_state_dict", model.state_dict())
    save_bin("bin_parameters", dict(model.named_parameters()))
    save_bin("bin_protocol4", model.state_dict(), pickle_protocol=4)
    save_bin("bin_nested", {"epoch": 3, "lr": 0.5, "names": ["x", None], "model": halves()[0], "big": 1 << 80})

    base = counting(0, (5, 4), torch.float16)
    views = {"whole": base, "rows": base[2:4], "row": base[3], "column_of_one": base[4:5, 1:3]}
    save_bin("bin_views", views)
    save_bin("bin_transposed", {"fine": counting(1, (3,), torch.float32), "turned": base.t()})
    save_bin("bin_unsigned", {"weight": counting(3, (4,), torch.float16), "ids": torch.arange(4).to(torch.uint16)})
    save_bin("bin_legacy", halves()[0], _use_new_zipfile_serialization=False)

    path = folder("bin_sharded")
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    for name, shard in zip(names, halves()):
        torch.save(shard, path / name)
    write_index(path / "pytorch_model.bin.index.json", names, halves())


class Hostile:
    """What an attacker would put into a pickle; only ever written, never loaded."""

    def __reduce__(self):
        import os

        return os.system, ("true",)


def rewrite(source, target, replace=None, compression=zipfile.ZIP_STORED):
    """Copies a zip archive with some records replaced, as torch itself never writes it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            record = old.read(name)
            kind = name.split("/", 1)[1]
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            new.writestr(info, (replace or {}).get(kind, record))


def write_refused():
    source = ROOT / "bin_nested" / "pytorch_model.bin"
    stream = io.BytesIO()
    pickle.dump({"weight": Hostile()}, stream, protocol=2)
    rewrite(source, folder("bin_hostile") / "pytorch_model.bin", {"data.pkl": stream.getvalue()})
    rewrite(source, folder("bin_compressed") / "pytorch_model.bin", compression=zipfile.ZIP_DEFLATED)
    rewrite(source, folder("bin_big_endian") / "pytorch_model.bin", {"byteorder": b"big"})


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    write_safetensors()
    write_torch()
    write_refused()
    for path in ROOT.rglob("*.safetensors"):
        path.chmod(0o644)


if __name__ == "__main__":
    main()
